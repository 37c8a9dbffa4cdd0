import fc from 'fast-check'
import t from 'tap'
import { API_KEYS } from '../../src/fleet/api-keys.js'
import { ASSIGNMENTS } from '../../src/fleet/assignments.js'
import { AMOUNTS } from '../../src/fleet/overrides.js'
import { SPLIT, shardOf, shardsOf } from '../../src/fleet/shards.js'

t.test('one shard is the map itself', async (t) => {
  t.same(shardsOf(ASSIGNMENTS, 1), [ASSIGNMENTS])
  t.equal(shardOf('alice', 1), 0)
})

t.test('each shard is a map of its own, in a slot of its own', async (t) => {
  const shards = shardsOf(ASSIGNMENTS, SPLIT)
  t.equal(shards[5]!.name, 'tier:{assignments:5}')
  t.equal(new Set(shards.map(({ name }) => name)).size, 64)
  t.equal(new Set(shards.map(({ channel }) => channel)).size, 1, 'they share a channel')
  t.not(shards[0]!.channel, ASSIGNMENTS.name, 'which an old gateway does not hear')
  t.equal(shardsOf(API_KEYS, SPLIT)[63]!.name, 'keys:{keys:63}')
  t.equal(shardsOf({ ...AMOUNTS, mostSplit: 500_000 }, SPLIT)[0]!.name, 'amounts:{amounts:0}')
})

t.test('every key is in one of the shards, always the same', async (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (key) => {
      const shard = shardOf(key, SPLIT)
      return shard >= 0 && shard < SPLIT && shard === shardOf(key, SPLIT)
    }),
  )
  // Part of the stored layout: another hash would not find what is stored.
  t.same(
    ['', 'a', 'alice', 'user-1000001', 'zoë'].map((key) => shardOf(key, SPLIT)),
    [25, 32, 5, 37, 10],
  )
})

t.test('ids that are counted up spread evenly', async (t) => {
  for (const name of [
    (i: number) => `user-${i}`,
    (i: number) => `${i}@example.com`,
    (i: number) => i.toString(16).padStart(16, '0'),
  ]) {
    const sizes = new Array<number>(SPLIT).fill(0)
    for (let i = 0; i < 64_000; i++) sizes[shardOf(name(i), SPLIT)]!++
    t.ok(Math.max(...sizes) < 1200, `the largest of ${name(7)} has ${Math.max(...sizes)}`)
    t.ok(Math.min(...sizes) > 800, `the smallest has ${Math.min(...sizes)}`)
  }
})

t.test('no shard is full before the map is', async (t) => {
  const { most, mapMost } = shardsOf({ ...AMOUNTS, mostSplit: 500_000 }, SPLIT)[0]!
  t.equal(mapMost, 500_000)
  t.ok(most > 500_000 / 64 && most < (500_000 / 64) * 1.1)
})
