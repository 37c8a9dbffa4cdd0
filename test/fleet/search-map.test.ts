import t, { type Test } from 'tap'
import { ASSIGNMENTS } from '../../src/fleet/assignments.js'
import { createLayoutFollower } from '../../src/fleet/layout.js'
import { createLookUpLimits } from '../../src/fleet/look-ups.js'
import { createMemoryMap } from '../../src/fleet/replicated-map.js'
import { searchMap } from '../../src/fleet/search-map.js'
import { createShardedMap } from '../../src/fleet/sharded-map.js'
import { connectStore } from '../../src/limiter/redis/connect.js'
import { createHeartbeat, HEARTBEAT_KEYS } from '../../src/limiter/redis/heartbeat.js'
import { eventually } from '../support/eventually.js'
import { startRedis } from '../support/redis/redis.js'

const quiet = { info() {}, warn() {} }
const pro = { tier: 'pro', until: undefined }
const users = Array.from({ length: 3000 }, (_, i) => `user-${i}`)
const all = { fits: () => true, most: Number.POSITIVE_INFINITY, forMs: 60_000 }

/** Opens a map of which a process holds nothing. */
async function open(t: Test, layout: string) {
  const redis = await startRedis(t)
  await redis.client.set(HEARTBEAT_KEYS.layout, layout)
  const store = connectStore({ redis: redis.url }, quiet)
  const heartbeat = createHeartbeat(store)
  const follower = createLayoutFollower({ store, heartbeat })
  const recent = { limits: createLookUpLimits(), timeoutMs: 1000, most: -1, least: -1 }
  const map = createShardedMap(ASSIGNMENTS, { store, layout: follower, heartbeat, log: quiet, recent })
  t.teardown(async () => {
    await map.close()
    follower.close()
    await heartbeat.close()
    store.disconnect()
  })
  await map.ready
  await map.setAll(users.map((id) => [id, pro]))
  return { map, redis, store }
}

for (const layout of ['1 1', '1 64']) {
  t.test(`pages of a map in ${layout.slice(2)} shards have every value`, async (t) => {
    const { map, store } = await open(t, layout)
    await map.set('ended', { tier: 'free', until: Date.now() - 1 })
    t.equal(map.isWhole(), false)
    t.equal(map.entries().size, 0)
    for (const mayFit of [undefined, () => true]) {
      const found = new Set<string>()
      let calls = 0
      for (let next: string | undefined, begun = false; next !== undefined || !begun; begun = true, calls++) {
        // Another filter may go on where one has ended.
        const page = await searchMap(map, {
          ...all,
          cursor: next,
          forMs: 0,
          mayFit: calls === 3 ? undefined : mayFit,
        })
        for (const [id, value] of page.found) {
          t.same(value, pro)
          found.add(id)
        }
        next = page.next
      }
      t.same(found, new Set(users))
      t.ok(calls > 2, 'no call reads everything')
    }
    const some = await searchMap(map, { ...all, most: 10 })
    t.ok(some.found.length < users.length && some.next !== undefined)
    const one = { ...all, fits: (id: string) => id === 'user-7' }
    t.same((await searchMap(map, one)).found, [['user-7', pro]])
    t.same((await searchMap(map, { ...one, mayFit: () => false })).found, [])
    for (const cursor of ['', 'x', '2.1.0', '64.64.0', 'deadbeefdeadbeef', '64.0.-'])
      t.equal(
        (await searchMap(map, { ...all, cursor })).found.length,
        users.length,
        `${cursor} is of another map`,
      )
    store.disconnect()
    await t.rejects(searchMap(map, all))
  })
}

t.test('after a split the search begins anew', async (t) => {
  const { map, redis } = await open(t, '1 1')
  const { next } = await searchMap(map, { ...all, forMs: 0 })
  await redis.client.set(`${ASSIGNMENTS.name}:version`, '9999 moved')
  await t.rejects(searchMap(map, { ...all, cursor: next }), { message: /are in other shards now/ })
  await redis.client.set(HEARTBEAT_KEYS.layout, '2 64')
  await eventually('the shards', async () => {
    const page = await map.page().catch(() => undefined)
    return page?.next?.startsWith('64.') ?? false
  })
  await map.setAll(users.map((id) => [id, pro]))
  t.equal((await searchMap(map, { ...all, cursor: next })).found.length, users.length)
})

t.test('a key that the store tells twice is found once', async (t) => {
  const page = async (cursor?: string) => ({
    values: [['alice', cursor === undefined ? 1 : 2] as const],
    next: cursor === undefined ? 'more' : undefined,
  })
  t.same(await searchMap({ page }, all), { found: [['alice', 2]], next: undefined })
})

t.test('a map in memory is one page', async (t) => {
  const map = createMemoryMap(ASSIGNMENTS)
  await map.set('alice', pro)
  t.same(await searchMap(map, { ...all, forMs: 0 }), { found: [['alice', pro]], next: undefined })
})
