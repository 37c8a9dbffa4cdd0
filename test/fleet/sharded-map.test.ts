import fc from 'fast-check'
import t, { type Test } from 'tap'
import { ASSIGNMENTS } from '../../src/fleet/assignments.js'
import { createLayoutFollower } from '../../src/fleet/layout.js'
import { createShardedMap } from '../../src/fleet/sharded-map.js'
import { shardOf, shardsOf } from '../../src/fleet/shards.js'
import type { Assignment } from '../../src/limiter/limiter.js'
import { connectStore } from '../../src/limiter/redis/connect.js'
import { createHeartbeat, HEARTBEAT_KEYS } from '../../src/limiter/redis/heartbeat.js'
import { eventually } from '../support/eventually.js'
import { startRedis } from '../support/redis/redis.js'

const quiet = { info() {}, warn() {} }
const redis = await startRedis(t)
const gold: Assignment = { tier: 'gold', until: undefined }

function open(t: Test, { subscribe = true } = {}) {
  const store = connectStore({ redis: redis.url }, quiet)
  const heartbeat = createHeartbeat(store)
  const layout = createLayoutFollower({ store, heartbeat })
  const map = createShardedMap(ASSIGNMENTS, { store, layout, heartbeat, log: quiet, subscribe })
  t.teardown(async () => {
    await map.close()
    layout.close()
    await heartbeat.close()
    store.disconnect()
  })
  return map
}

const user = (i: number) => `user-${i}`

t.beforeEach(async () => {
  await redis.client.flushdb()
  await redis.client.set(HEARTBEAT_KEYS.layout, '1 64')
})

t.test('values lie in the shard of their key, and every gateway has all of them', async (t) => {
  const [a, b, deaf] = [open(t), open(t), open(t, { subscribe: false })]
  await Promise.all([a.ready, b.ready, deaf.ready])
  await a.set('alice', gold)
  t.equal(await redis.client.hget(shardsOf(ASSIGNMENTS, 64)[shardOf('alice', 64)]!.name, 'alice'), 'gold')
  t.equal(await redis.client.exists(ASSIGNMENTS.name), 0)
  await b.setAll(Array.from({ length: 1000 }, (_, i) => [user(i), gold]))
  for (const map of [a, b, deaf]) {
    await eventually('all of them', () => map.entries().size === 1001)
    t.same(map.get('alice'), gold)
    t.same(map.find(user(999)), gold)
    t.equal(map.get('nobody'), undefined)
    t.same(new Set(map.entries().keys()).size, 1001)
    t.same([...map.entries().values()].length, 1001)
    t.same(new Map(map.entries()).get('alice'), gold)
  }
  t.equal(await b.setIf('absent', 'alice', gold), false)
  t.equal(await b.setIf('present', 'alice', undefined), true)
  t.equal(await b.read('alice'), undefined)
  await eventually('it is gone', () => deaf.get('alice') === undefined)
  t.match(a.history(), { what: 'tier assignments', held: 1000, forgottenAt: undefined, known: true })
  t.ok(a.confirmedAt() > Date.now() - 10_000)
})

t.test('a shard that cannot be read makes only its own records unconfirmed', async (t) => {
  const map = open(t)
  await map.ready
  const keyIn = (shard: number) =>
    Array.from({ length: 9999 }, (_, i) => user(i)).find((key) => shardOf(key, 64) === shard)!
  const broken = `${shardsOf(ASSIGNMENTS, 64)[7]!.name}:version`
  await redis.client.lpush(broken, 'x')
  await t.rejects(map.set(keyIn(7), gold))
  const since = Date.now() + 2000
  await eventually('the others are confirmed', () => map.confirmedAt(keyIn(8)) > since)
  t.ok(map.confirmedAt(keyIn(7)) < since)
  t.equal(map.confirmedAt(), map.confirmedAt(keyIn(7)))
})

t.test('nothing is left of the shards of another layout', async (t) => {
  const store = connectStore({ redis: redis.url }, quiet)
  const heartbeat = createHeartbeat(store)
  const layout = createLayoutFollower({ store, heartbeat })
  const channels = new Set<string>()
  const kinds = new Set<string>()
  const map = createShardedMap(ASSIGNMENTS, {
    ...{ store, layout, heartbeat, log: quiet },
    subscriber: {
      listen(channel) {
        channels.add(channel)
        return () => void channels.delete(channel)
      },
    },
    fleet: {
      ask: async () => ({ answers: [], silent: [], problem: undefined }),
      answer: (kind, handler) => void (handler === undefined ? kinds.delete(kind) : kinds.add(kind)),
    },
  })
  t.teardown(async () => {
    await map.close()
    layout.close()
    await heartbeat.close()
    store.disconnect()
  })
  await map.ready
  t.same([channels.size, kinds.size], [1, 64])
  const [before] = channels
  await redis.client.set(HEARTBEAT_KEYS.layout, '2 1')
  await eventually('the other layout', () => kinds.size === 1)
  t.same([channels.size, channels.has(before!)], [1, false])
})

t.test('listeners hear of each change', async (t) => {
  const [a, b] = [open(t), open(t)]
  await Promise.all([a.ready, b.ready])
  const heard: (string | undefined)[] = []
  b.onChange((key) => heard.push(key))
  await a.set('alice', gold)
  // A poll may read what a message has told already, and a full load may follow the first connection.
  await eventually('the change', () => heard.includes('alice'))
  await a.set('bob', gold)
  await eventually('the other one', () => heard.includes('bob'))
  t.same(new Set(heard.filter((key) => key !== undefined)), new Set(['alice', 'bob']))
})

t.test('any sequence of writes gives the values of a plain map', async (t) => {
  const map = open(t)
  await map.ready
  const model = new Map<string, Assignment>()
  const key = fc.integer({ min: 0, max: 20 }).map(user)
  const tier = fc.option(fc.constantFrom('gold', 'silver'), { nil: undefined })
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(key, tier), { maxLength: 20 }), async (writes) => {
      for (const [key, tier] of writes) {
        const value = tier === undefined ? undefined : { tier, until: undefined }
        await map.set(key, value)
        if (value === undefined) model.delete(key)
        else model.set(key, value)
      }
      t.same(new Map(map.entries()), model)
    }),
    { numRuns: 10 },
  )
})

t.test('what the store forgets stays in force until an operator decides', async (t) => {
  const [a, b] = [open(t), open(t)]
  await Promise.all([a.ready, b.ready])
  await a.setAll(Array.from({ length: 500 }, (_, i) => [user(i), gold]))
  await eventually('all of them', () => b.entries().size === 500)
  // From then on b knows that the store had them. A message alone proves nothing.
  await b.look()
  await redis.client.flushdb()
  await eventually('both notice', () => [a, b].every((map) => map.history().forgottenAt !== undefined))
  t.equal(b.entries().size, 500)
  await a.look()
  t.equal(await a.restore(), 500)
  await b.look()
  t.equal(b.history().forgottenAt, undefined)
  t.equal(b.entries().size, 500)
  await redis.client.flushdb()
  await eventually('both notice', () => [a, b].every((map) => map.history().forgottenAt !== undefined))
  await a.look()
  await a.accept()
  await b.look()
  t.equal(b.entries().size, 0)
})
