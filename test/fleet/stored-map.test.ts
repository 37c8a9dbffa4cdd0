import fc from 'fast-check'
import t from 'tap'
import { ASSIGNMENTS } from '../../src/fleet/assignments.js'
import { FrozenMap, MapRefusal } from '../../src/fleet/replicated-map.js'
import { createStoredMap, readChanges, readVersion, versionText } from '../../src/fleet/stored-map.js'
import { runRestore } from '../../src/limiter/redis/map-scripts.js'
import { startRedis } from '../support/redis/redis.js'

const redis = await startRedis(t)
const SMALL = { ...ASSIGNMENTS, most: 500 }
const stored = createStoredMap(redis.client, SMALL, () => false, Date.now)

async function putAll(...args: Parameters<typeof stored.put>) {
  const changes = []
  for await (const some of stored.put(...args)) changes.push(...some)
  return changes
}

const gold = (count: number) =>
  Array.from({ length: count }, (_, i) => [`user-${i}`, { tier: 'gold', until: undefined }] as const)

t.beforeEach(() => redis.client.flushdb())

t.test('many values are written in few calls, each change with its own number', async (t) => {
  const changes = await putAll('', gold(450))
  t.same(changes.at(0), [1, 'user-0', 'gold'])
  t.same(changes.at(-1), [450, 'user-449', 'gold'])
  t.same(await stored.version(), { number: 450, state: 'open' })
  t.equal((await stored.all()).size, 450)
  t.same(await stored.keysSince(448, false), ['user-448', 'user-449'])
})

t.test('a call that would exceed the maximum writes nothing', async (t) => {
  await putAll('', gold(450))
  await t.rejects(
    putAll(
      '',
      gold(600).filter((_, i) => i >= 440 && i < 560),
    ),
    new MapRefusal(
      'there are already 500 tier assignments, which is the most; remove some first, or split the store (tidegate store split), which then takes 200000000',
    ),
  )
  t.equal((await stored.all()).size, 450)
})

t.test('a frozen map takes no changes, nor does one whose values were moved', async (t) => {
  await putAll('', gold(3))
  for (const state of ['frozen', 'moved'] as const) {
    const before = versionText(await stored.version())
    t.equal(await runRestore(redis.client, SMALL.name, before, versionText({ number: 3, state }), []), true)
    t.same(await stored.version(), { number: 3, state })
    await t.rejects(putAll('', gold(1)), new FrozenMap(SMALL.what))
    await t.rejects(putAll('present', gold(1)), new FrozenMap(SMALL.what))
    // Scripts of older versions count with INCR before they write.
    await t.rejects(redis.client.incr(`${SMALL.name}:version`), /not an integer/)
  }
  t.equal((await stored.all()).size, 3)
})

t.test('a message about changes says what was changed', async (t) => {
  const text = fc.string()
  fc.assert(
    fc.property(fc.nat(), fc.array(fc.tuple(text, text), { minLength: 1 }), (number, changes) => {
      t.same(
        readChanges(JSON.stringify([number, ...changes.flat()])),
        changes.map(([key, value], i) => [number + i, key, value]),
      )
    }),
    { numRuns: 20 },
  )
  for (const other of [
    '',
    '1',
    '{}',
    '[]',
    '[1]',
    '[1,"a"]',
    '[1,"a",2]',
    '["1","a","b"]',
    '[1,"a","b","c"]',
  ])
    t.equal(readChanges(other), undefined, other)
})

t.test('a version is read as it was written', async (t) => {
  for (const state of ['open', 'frozen', 'moved'] as const)
    for (const number of [0, 1, 123_456_789_012])
      t.same(readVersion(versionText({ number, state })), { number, state })
  for (const other of [null, '', 'x', '1 x', '-1', '1.5', 'frozen'])
    t.same(readVersion(other), { number: 0, state: 'open' })
})
