import { setImmediate as nextTurn } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import { BANS, type Ban, type Bans, createBans } from '../../src/fleet/bans.js'
import { createHeld, createMemoryMap, type ReplicatedMap } from '../../src/fleet/replicated-map.js'
import { createRedisMap } from '../../src/fleet/replicated-map-redis.js'
import { connectStore } from '../../src/limiter/redis/connect.js'
import { readAddress } from '../../src/net/parse-cidr.js'
import { eventually } from '../support/eventually.js'
import { isInBlocks } from '../support/in-blocks.js'
import { startRedis } from '../support/redis/redis.js'

const words = new Uint32Array(4)
function banOf(bans: Bans, address: string): string | undefined {
  const family = readAddress(address, words)
  return family === 0 ? undefined : bans.match(family, words)?.block
}

const manual = (since: number, until?: number): Ban => ({
  source: 'manual',
  since,
  ...(until !== undefined && { until }),
})

t.test('an entry of the map is banned, until it ends or is lifted', async (t) => {
  let now = 1000
  const map = createMemoryMap(BANS, { now: () => now })
  t.teardown(() => map.close())
  await map.set('198.51.100.0/24', manual(1000))
  const bans = createBans({ map, now: () => now })
  t.teardown(() => bans.close())
  await map.set('203.0.113.7/32', manual(1000, 5000))
  await map.set('no address', manual(1000))
  t.equal(banOf(bans, '198.51.100.9'), '198.51.100.0/24')
  t.equal(banOf(bans, '203.0.113.7'), '203.0.113.7/32')
  t.equal(banOf(bans, '203.0.113.8'), undefined)
  t.same(bans.counts(), { manual: 2, auto: 0 })
  now = 5000
  t.equal(banOf(bans, '203.0.113.7'), undefined, 'to the millisecond')
  await map.set('198.51.100.0/24', undefined)
  t.equal(banOf(bans, '198.51.100.9'), undefined)
})

t.test('a local ban holds at once, is lifted for all, and ends by itself', async (t) => {
  let now = 1000
  const map = createMemoryMap(BANS, { now: () => now })
  const bans = createBans({ map, now: () => now })
  t.teardown(() => {
    bans.close()
    return map.close()
  })
  const auto = { source: 'auto', since: 1000, until: 5000 } as const
  bans.add('203.0.113.7/32', auto)
  bans.add('203.0.113.8/32', auto)
  t.equal(banOf(bans, '203.0.113.7'), '203.0.113.7/32')
  t.same(bans.counts(), { manual: 0, auto: 2 })
  await map.set('203.0.113.7/32', undefined)
  t.equal(banOf(bans, '203.0.113.7'), undefined)
  await map.set('203.0.113.8/32', auto)
  t.same(bans.counts(), { manual: 0, auto: 1 }, 'a shared ban is not counted twice')
  now = 5000
  t.equal(banOf(bans, '203.0.113.8'), undefined)
})

t.test(
  'a malformed ban in the store is ignored: every kept one can be shown, and ends in time',
  async (t) => {
    const good = { source: 'auto', since: 5, until: 8.64e15 }
    t.same(BANS.parse(JSON.stringify(good)), good)
    for (const text of ['', '{', 'null', '5', '[]', '{}', '{"source":"auto","since":1e999}']) {
      t.equal(BANS.parse(text), undefined, text)
    }
    for (const wrong of [
      { since: 9e15 },
      { since: -1 },
      { since: '5' },
      { until: 1e300 },
      { until: 9e15 },
      { until: 'soon' },
    ]) {
      t.equal(BANS.parse(JSON.stringify({ ...good, ...wrong })), undefined, JSON.stringify(wrong))
    }
  },
)

t.test('a lookup finds what a list would find, after any changes', async () => {
  const key = fc
    .tuple(fc.nat(3), fc.nat(3), fc.constantFrom(8, 16, 24, 32))
    .map(([a, b, length]) => `10.${length >= 16 ? a : 0}.${length >= 24 ? b : 0}.0/${length}`)
  const change = fc.record({
    key,
    out: fc.boolean(),
    until: fc.option(fc.constantFrom(500, 1500), { nil: undefined }),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(change, { maxLength: 40 }), fc.nat(40), async (changes, late) => {
      const map = createMemoryMap(BANS, { now: () => 1000 })
      let bans: Bans | undefined
      for (const [i, { key, out, until }] of changes.entries()) {
        if (i === late) bans = createBans({ map, now: () => 1000 })
        await map.set(key, out ? undefined : manual(0, until))
      }
      bans ??= createBans({ map, now: () => 1000 })
      const keys = [...map.entries().keys()]
      const same = [0, 1, 2, 3].every((a) =>
        [0, 1, 2, 3].every((b) => {
          const address = `10.${a}.${b}.0`
          return (banOf(bans!, address) !== undefined) === isInBlocks(address, keys)
        }),
      )
      bans.close()
      await map.close()
      return same
    }),
    { numRuns: 200 },
  )
})

t.test('while a list is loaded the previous one holds, and changes meanwhile are included', async (t) => {
  const held = createHeld(BANS, () => 1000)
  held.put('198.51.100.0/24', manual(1))
  const bans = createBans({ map: held as unknown as ReplicatedMap<Ban>, now: () => 1000 })
  t.teardown(() => bans.close())
  const many = Array.from({ length: 20_000 }, (_, i) => `10.0.${i >> 8}.${i & 255}/32`)
  const list = () => new Map([...many, '198.51.100.0/24'].map((key) => [key, manual(1)]))
  held.replace(list())
  t.equal(banOf(bans, '198.51.100.9'), '198.51.100.0/24')
  t.equal(banOf(bans, '10.0.78.31'), undefined)
  held.replace(list())
  await nextTurn()
  held.put(many[0]!, undefined)
  held.put(many.at(-1)!, undefined)
  held.put('198.51.100.0/24', undefined)
  held.put('203.0.113.7/32', manual(1))
  bans.add('203.0.113.8/32', { source: 'auto', since: 1, until: 5000 })
  t.equal(banOf(bans, '203.0.113.7'), '203.0.113.7/32', 'a new one holds at once')
  await eventually('the list is loaded', () => banOf(bans, '10.0.0.1') !== undefined)
  t.equal(bans.size, 20_000)
  for (const address of ['198.51.100.9', '10.0.0.0', many.at(-1)!.split('/')[0]!]) {
    t.equal(banOf(bans, address), undefined, address)
  }
  for (const address of ['203.0.113.7', '203.0.113.8', '10.0.0.1']) {
    t.equal(banOf(bans, address), `${address}/32`)
  }
  t.same(bans.counts(), { manual: 19_999, auto: 1 })
})

t.test('100,000 bans of a store hold on another gateway, and so does a change of one', async (t) => {
  const redis = await startRedis(t)
  const quiet = { info() {}, warn() {} }
  const open = () => {
    const store = connectStore({ redis: redis.url }, quiet)
    const map = createRedisMap(BANS, { store, log: quiet })
    t.teardown(async () => {
      await map.close()
      store.disconnect()
    })
    return map
  }
  const text = BANS.write(manual(1000))
  const pairs: string[] = []
  for (let i = 0; i < 100_000; i++) pairs.push(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}/32`, text)
  for (let i = 0; i < pairs.length; i += 20_000)
    await redis.client.hset(BANS.name, ...pairs.slice(i, i + 20_000))
  await redis.client.set(`${BANS.name}:version`, 100_000)
  const [one, other] = [open(), open()]
  const bans = createBans({ map: other })
  t.teardown(() => bans.close())
  await Promise.all([one.ready, other.ready])
  await eventually('all are loaded', () => bans.size === 100_000)
  t.equal(banOf(bans, '10.1.134.159'), '10.1.134.159/32')
  await one.set('203.0.113.0/24', manual(Date.now()))
  await eventually('it is banned', () => banOf(bans, '203.0.113.7') === '203.0.113.0/24')
  await one.set('203.0.113.0/24', undefined)
  await eventually('it is lifted', () => banOf(bans, '203.0.113.7') === undefined)
})
