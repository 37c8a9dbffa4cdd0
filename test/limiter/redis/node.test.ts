import { setTimeout as delay } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { connectStore } from '../../../src/limiter/redis/connect.js'
import { createShard, type Shard } from '../../../src/limiter/redis/node.js'
import { takeCall } from '../../../src/limiter/redis/scripts.js'
import { eventually } from '../../support/eventually.js'
import { startProxy } from '../../support/http/proxy.js'
import { startRedis } from '../../support/redis/redis.js'
import { stall } from '../../support/stall.js'

/** Timeout in ms, so long that a busy machine never looks like a slow store. */
const TIMEOUT = 400

/** Opens a shard whose path to the server can be slowed. */
async function open(t: Test, { timeoutMs = TIMEOUT, proxied = true, ownConnection = true } = {}) {
  const redis = await startRedis(t)
  const proxy = await startProxy(t, redis.port)
  const url = `redis://127.0.0.1:${proxy.port}${new URL(redis.url).pathname}`
  const node = connectStore({ redis: proxied ? url : redis.url }, { info() {}, warn() {} }) as Redis
  const changes: boolean[] = []
  const shard = createShard({
    node,
    client: node,
    ownConnection,
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

/** Takes nothing. @returns the server's unix ms */
function take(shard: Shard, deadline: number): Promise<number> {
  return new Promise((resolve, reject) => {
    shard.send(takeCall([], deadline, 0), (error, reply) => {
      if (error === undefined) resolve((reply as readonly number[])[0]!)
      else reject(error)
    })
  })
}

/** Calls as the limiter does. */
async function call(shard: Shard): Promise<number> {
  const sentAt = performance.now()
  shard.answered(await take(shard, shard.deadline(sentAt)), sentAt)
  return performance.now() - sentAt
}

/** Duration of each call, in ms. */
async function calls(count: number, everyMs: number, shard: Shard): Promise<number[]> {
  const all: Promise<number>[] = []
  for (let i = 0; i < count; i++) {
    all.push(call(shard))
    await delay(everyMs)
  }
  return Promise.all(all)
}

t.jobs = 4

for (const ownConnection of [true, false]) {
  const way = ownConnection ? '' : ', without own_connection'
  t.test(
    `opens when half of the calls take longer than half of the timeout, though none is missed${way}`,
    async (t) => {
      const { proxy, shard, changes } = await open(t, { ownConnection })
      proxy.delayThere = 0.6 * TIMEOUT
      await calls(19, 2, shard)
      t.ok(shard.isUp(), '19 slow calls are too few to say')
      // It forgets old answers, so a slow machine needs a few more calls.
      while (shard.isUp()) await calls(20, 2, shard)
      t.same(changes, [true, false])
      t.notOk(shard.isUp())
    },
  )
}

t.test('stays closed while fewer than half of the calls are slow', async (t) => {
  let isUp: boolean
  let fast: number[]
  do {
    const { proxy, shard } = await open(t)
    fast = []
    for (let i = 0; i < 4; i++) {
      proxy.delayThere = 0.6 * TIMEOUT
      const slow = calls(3, 2, shard)
      await delay(10)
      proxy.delayThere = 0
      fast.push(...(await calls(7, 2, shard)))
      await slow
    }
    isUp = shard.isUp()
    // If the machine stood still, the others were slow, too.
  } while (!isUp && Math.max(...fast) > 0.5 * TIMEOUT)
  t.ok(isUp)
})

t.test('a slow server is probed, and counts as down until it is fast', async (t) => {
  const { proxy, shard, changes } = await open(t)
  proxy.delayThere = 0.6 * TIMEOUT
  while (shard.isUp()) await calls(20, 2, shard)
  // At least two probes, each answered within the timeout.
  await delay(1600)
  t.same(changes, [true, false])
  proxy.delayThere = 0
  await eventually('up again', shard.isUp)
  t.same(changes, [true, false, true])
})

t.test('a delay of 0.7 timeouts on the way there opens it, unless calls are few', async (t) => {
  const { proxy, shard, changes } = await open(t)
  proxy.delayThere = 0.7 * TIMEOUT
  for (let i = 0; i < 8; i++) await calls(4, 300, shard)
  t.ok(shard.isUp(), 'three a second are too few to judge by')
  while (shard.isUp()) await calls(20, 2, shard)
  t.same(changes, [true, false])
})

t.test('a delay of 0.7 timeouts on the way back does not open it, once that was faster', async (t) => {
  const { proxy, shard, changes } = await open(t)
  await calls(5, 2, shard)
  proxy.delayBack = 0.7 * TIMEOUT
  for (let i = 0; i < 3; i++) await calls(40, 2, shard)
  t.same(changes, [true], 'Redis decided in time; the answers were late and in time')
})

t.test('a burst of slow replies counts as one observation', async (t) => {
  const { proxy, shard } = await open(t)
  proxy.delayThere = 0.6 * TIMEOUT
  const sentAt = performance.now()
  const times = await Promise.all(Array.from({ length: 200 }, () => take(shard, 0)))
  for (const serverNow of times) shard.answered(serverNow, sentAt)
  t.ok(shard.isUp())
})

t.test("the deadline is within the timeout by the server's clock, even when that clock steps", async (t) => {
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

// Runs alone: it stalls every other test of this process.
t.test('a stall of our own event loop does not count as a slow server', { buffered: false }, async (t) => {
  const { shard, changes } = await open(t, { timeoutMs: TIMEOUT, proxied: false })
  await call(shard)
  const ahead = (at = performance.now()) => shard.deadline(at) - at
  const before = ahead()
  // So long that a forgetful estimate of the clock would take the stalls for the way back.
  for (let i = 0; i < 12; i++) {
    const sent = []
    for (let i = 0; i < 10; i++) {
      sent.push(call(shard))
      stall(3)
    }
    stall(0.55 * TIMEOUT)
    await Promise.all(sent)
  }
  t.same(changes, [true], '120 replies that were read after more than half of the timeout')
  const moved = ahead() - before
  t.ok(Math.abs(moved) < 0.4 * TIMEOUT, `the clock is still known: ${moved.toFixed(1)} ms`)
})
