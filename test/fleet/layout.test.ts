import fc from 'fast-check'
import t, { type Test } from 'tap'
import { createLayoutFollower, type Layout, layoutText, readLayout } from '../../src/fleet/layout.js'
import { connectStore } from '../../src/limiter/redis/connect.js'
import { createHeartbeat, HEARTBEAT_KEYS } from '../../src/limiter/redis/heartbeat.js'
import { runLayout } from '../../src/limiter/redis/map-scripts.js'
import { eventually } from '../support/eventually.js'
import { startRedis } from '../support/redis/redis.js'

const quiet = { info() {}, warn() {} }
const redis = await startRedis(t)
const LAYOUT = HEARTBEAT_KEYS.layout

function open(t: Test) {
  const store = connectStore({ redis: redis.url }, quiet)
  const heartbeat = createHeartbeat(store)
  const follower = createLayoutFollower({ store, heartbeat })
  const opened: number[] = []
  let answer = Promise.resolve()
  follower.follow(async (shards) => {
    opened.push(shards)
    await answer
  })
  t.teardown(async () => {
    follower.close()
    await heartbeat.close()
    store.disconnect()
  })
  return {
    follower,
    opened,
    /** Returns from how many shards it says that it reads. */
    shards: async () => (await heartbeat.members())[0]?.shards,
    wait(until: Promise<void>) {
      answer = until
    },
  }
}

t.beforeEach(() => redis.client.flushdb())

t.test('a layout is read as it was written', async (t) => {
  const shards = fc.constantFrom(1 as const, 64 as const)
  const layout = fc.record({ moves: fc.nat(1e9 - 1), shards, other: fc.option(shards, { nil: undefined }) })
  fc.assert(
    fc.property(layout, (one: Layout) => void t.same(readLayout(layoutText(one)), one)),
    { numRuns: 50 },
  )
  const first = { moves: 0, shards: 1, other: undefined }
  for (const other of [null, '', '64', '1 2', '1 64 3', '-1 64', 'x 64'])
    t.same(readLayout(other), first, String(other))
})

t.test('a layout that the store forgot while no gateway was there is found by what was moved', async (t) => {
  await redis.client.set('tier:{assignments}:version', '7 moved')
  const { follower, opened } = open(t)
  await eventually('it follows', () => opened.length > 0)
  t.same(opened, [64])
  t.equal(await follower.shards(), 64)
  t.equal(await redis.client.get(LAYOUT), '1 64 1')
})

t.test('a layout is written once', async (t) => {
  t.equal(await runLayout(redis.client, '1 1 64'), '1 1 64')
  t.equal(await runLayout(redis.client, '1 64'), '1 1 64', 'somebody was faster')
  t.equal(await runLayout(redis.client, '2 64 1'), '2 64 1')
  for (const junk of ['x', '9999999999 64', '7', '7 x', '99999999999999999999']) {
    await redis.client.set(LAYOUT, junk)
    t.equal(await runLayout(redis.client, '3 64'), '3 64', `instead of ${junk}`)
  }
})

t.test('a process follows the layout, and says from how many shards it reads', async (t) => {
  const { follower, opened, shards, wait } = open(t)
  t.equal(await follower.shards(), 1)
  await eventually('it says so', async () => (await shards()) === 1)
  let loaded = () => {}
  wait(
    new Promise((resolve) => {
      loaded = resolve
    }),
  )
  await redis.client.set(LAYOUT, '1 64 1')
  await eventually('it follows', () => opened.at(-1) === 64)
  t.equal(await shards(), 1, 'not before all is loaded')
  loaded()
  await eventually('it says so', async () => (await shards()) === 64)
  t.same(opened, [1, 64])
})

t.test('a layout that the store has forgotten stays in force, and is written back', async (t) => {
  await redis.client.set(LAYOUT, '3 64')
  const { follower, opened, shards } = open(t)
  await follower.shards()
  await eventually('it follows', async () => (await shards()) === 64)
  await redis.client.flushdb()
  await eventually('it is back', async () => (await redis.client.get(LAYOUT)) === '3 64')
  await redis.client.set(LAYOUT, '2 1')
  await eventually('an older one is replaced, too', async () => (await redis.client.get(LAYOUT)) === '3 64')
  t.same(opened, [64])
  await redis.client.set(LAYOUT, '4 1')
  await eventually('a newer one is followed', () => opened.at(-1) === 1)
})
