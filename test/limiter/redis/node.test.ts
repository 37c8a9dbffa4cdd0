import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { createShard, type Shard } from '../../../src/limiter/redis/node.js'
import { runTake } from '../../../src/limiter/redis/scripts.js'
import { eventually } from '../../support/eventually.js'
import { startProxy } from '../../support/http/proxy.js'
import { startRedis } from '../../support/redis/redis.js'
import { stall } from '../../support/stall.js'

/** Ms. Long, so that a busy machine is never taken for a slow store. */
const TIMEOUT = 400

/** A shard on a way to the server that can be made slow. */
async function open(t: Test, { timeoutMs = TIMEOUT, proxied = true } = {}) {
  const redis = await startRedis(t)
  const proxy = await startProxy(t, redis.port)
  const url = `redis://127.0.0.1:${proxy.port}${new URL(redis.url).pathname}`
  const node = new Redis(proxied ? url : redis.url)
  node.on('error', () => {})
  const changes: boolean[] = []
  const shard = createShard({
    node,
    timeoutMs,
    onChange: (isUp) => changes.push(isUp),
    onRefusal: (error) => t.fail(String(error)),
  })
  t.teardown(() => {
    shard.close()
    node.disconnect()
  })
  await eventually('up', shard.isUp)
  return { proxy, node, shard, changes }
}

/** As the limiter calls. */
async function call(node: Redis, shard: Shard): Promise<number> {
  const sentAt = performance.now()
  const [serverNow] = await runTake(node, [], shard.deadline(sentAt), 0)
  shard.answered(serverNow!, sentAt)
  return performance.now() - sentAt
}

/** How long each took, ms. */
async function calls(count: number, everyMs: number, node: Redis, shard: Shard): Promise<number[]> {
  const all: Promise<number>[] = []
  for (let i = 0; i < count; i++) {
    all.push(call(node, shard))
    await delay(everyMs)
  }
  return Promise.all(all)
}

t.jobs = 4

t.test(
  'opens when half of the calls take longer than half of the timeout, though none is missed',
  async (t) => {
    const { proxy, node, shard, changes } = await open(t)
    proxy.delayThere = 0.6 * TIMEOUT
    await calls(19, 2, node, shard)
    t.ok(shard.isUp(), '19 slow calls are too few to say')
    // Of those that were answered too long ago it knows nothing any more: on a slow machine it takes some more.
    while (shard.isUp()) await calls(20, 2, node, shard)
    t.same(changes, [true, false])
    t.notOk(shard.isUp())
  },
)

t.test('stays closed while fewer than half of the calls are slow', async (t) => {
  let isUp: boolean
  let fast: number[]
  do {
    const { proxy, node, shard } = await open(t)
    fast = []
    for (let i = 0; i < 4; i++) {
      proxy.delayThere = 0.6 * TIMEOUT
      const slow = calls(3, 2, node, shard)
      await delay(10)
      proxy.delayThere = 0
      fast.push(...(await calls(7, 2, node, shard)))
      await slow
    }
    isUp = shard.isUp()
    // Where the machine stood still for so long the others were slow, too.
  } while (!isUp && Math.max(...fast) > 0.5 * TIMEOUT)
  t.ok(isUp)
})

t.test('a slow server is asked again, and is not taken for well until it is fast', async (t) => {
  const { proxy, node, shard, changes } = await open(t)
  proxy.delayThere = 0.6 * TIMEOUT
  while (shard.isUp()) await calls(20, 2, node, shard)
  // Two probes at least, each answered within the timeout.
  await delay(1600)
  t.same(changes, [true, false])
  proxy.delayThere = 0
  await eventually('up again', shard.isUp)
  t.same(changes, [true, false, true])
})

t.test(
  'seven tenths of the timeout: on the way there they open it, with few calls a second never',
  async (t) => {
    const { proxy, node, shard, changes } = await open(t)
    proxy.delayThere = 0.7 * TIMEOUT
    for (let i = 0; i < 8; i++) await calls(4, 300, node, shard)
    t.ok(shard.isUp(), 'three a second are too few to judge by')
    while (shard.isUp()) await calls(20, 2, node, shard)
    t.same(changes, [true, false])
  },
)

t.test('seven tenths of the timeout on the way back do not, once that has been faster', async (t) => {
  const { proxy, node, shard, changes } = await open(t)
  await calls(5, 2, node, shard)
  proxy.delayBack = 0.7 * TIMEOUT
  for (let i = 0; i < 3; i++) await calls(40, 2, node, shard)
  t.same(changes, [true], 'Redis decided in time; the answers were late and in time')
})

t.test('a burst that the server works off is one observation', async (t) => {
  const { proxy, node, shard } = await open(t)
  proxy.delayThere = 0.6 * TIMEOUT
  const sentAt = performance.now()
  const replies = await Promise.all(Array.from({ length: 200 }, () => runTake(node, [], 0, 0)))
  for (const [serverNow] of replies) shard.answered(serverNow!, sentAt)
  t.ok(shard.isUp())
})

t.test("the deadline is within the timeout by the server's clock, whatever that shows", async (t) => {
  const { shard } = await open(t)
  for (const step of [0, 3_600_000, -7_200_000, 86_400_000]) {
    const clock = () => Date.now() + step
    const sentAt = performance.now()
    await delay(2)
    const serverNow = clock()
    await delay(2)
    shard.answered(serverNow, sentAt)
    const ahead = shard.deadline() - clock() - TIMEOUT
    const took = performance.now() - sentAt
    t.ok(Math.abs(ahead) <= took + 5, `after a step by ${step} ms it is off by ${ahead} ms`)
  }
})

// By itself: it stalls every other test of this process, too.
t.test('an event loop of ours that stands still is not a slow server', { buffered: false }, async (t) => {
  const { node, shard, changes } = await open(t, { timeoutMs: TIMEOUT, proxied: false })
  await call(node, shard)
  const ahead = (at = performance.now()) => shard.deadline(at) - at
  const before = ahead()
  // For so long that an estimate of the clock that forgets would have taken the stalls for the way back.
  for (let i = 0; i < 12; i++) {
    const sent = []
    for (let i = 0; i < 10; i++) {
      sent.push(call(node, shard))
      stall(3)
    }
    stall(0.55 * TIMEOUT)
    await Promise.all(sent)
  }
  t.same(changes, [true], '120 replies that were read after more than half of the timeout')
  const moved = ahead() - before
  t.ok(Math.abs(moved) < 0.4 * TIMEOUT, `the clock is still known: ${moved.toFixed(1)} ms`)
})
