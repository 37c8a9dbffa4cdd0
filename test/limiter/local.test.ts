// Tests src/limiter/degraded.ts
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { openStore } from '../../src/fleet/open-store.js'
import { createLocal } from '../../src/limiter/local.js'
import { connectStore } from '../../src/limiter/redis/connect.js'
import { createHeartbeat } from '../../src/limiter/redis/heartbeat.js'
import { eventually } from '../support/eventually.js'
import { startProxy } from '../support/http/proxy.js'
import { hasRedisServer, ownRedis, startRedis } from '../support/redis/redis.js'
import { policyOf, serviceOf } from './contract/build.js'
import { openLimiter } from './contract/open-limiter.js'
import { PATIENT } from './contract/traffic.js'

const DAY = 86_400_000
/**
 * Timeout in ms, so long that a Redis on a busy machine is not missed. A frozen one is missed three times before it counts as
 * away.
 */
const FROZEN = 1000
const skip = hasRedisServer ? false : 'needs a redis-server of its own to stop'
const log = { info() {}, warn() {} }

// Each test has a server of its own, and mostly waits.
t.jobs = 4

t.test('each of n gateways admits its share of every limit, rounded up', async (t) => {
  const policy = policyOf([10, DAY], { algorithm: 'token_bucket', amount: 100, burst: 7, windowMs: DAY })
  const service = serviceOf('payments', [policy], 'local')
  for (const [n, share] of [
    [1, 7],
    [2, 4],
    [3, 3],
    [100, 1],
  ] as const) {
    const gateways = Array.from({ length: n }, () => createLocal(100, () => n))
    const admitted = gateways.map((local) => {
      let count = 0
      while (local.take('breaker', service, policy, 'alice', 1).allowed) count++
      return count
    })
    t.ok(
      admitted.every((count) => count === share),
      `${n} gateways: ${share} each`,
    )
    t.ok(n * share < 7 + n, 'together less than the limit and one for each')
  }
})

t.test('a gateway that joins or leaves changes the shares at once', async (t) => {
  let n = 1
  const local = createLocal(100, () => n)
  const policy = policyOf([10, DAY])
  const service = serviceOf('payments', [policy], 'local')
  const take = () => local.take('breaker', service, policy, 'alice', 1).allowed
  for (let i = 0; i < 4; i++) t.ok(take())
  n = 3
  t.notOk(take(), 'four of four are used')
  n = 2
  t.ok(take(), 'the fifth of five')
  t.notOk(take())
})

t.test('a later charge is paid off at the rate of the share', async (t) => {
  const local = createLocal(100, () => 10)
  const policy = policyOf({ algorithm: 'token_bucket', amount: 100, windowMs: 1000 })
  const service = serviceOf('payments', [policy], 'local')
  const take = () => local.take('breaker', service, policy, 'alice', 1)
  const { at } = take()
  const decided = { decidedBy: 'local', at, slotAt: at } as const
  local.settle({ service, policy, consumer: 'alice', levels: undefined, cost: 1, ...decided }, 89, 'keep')
  // 90 are owed of a burst of 10, and 10 a second come back. At 100 a second all would be paid off within one.
  await delay(1100)
  const { allowed, retryMs } = take()
  t.notOk(allowed)
  t.ok(retryMs > 2000, `${retryMs} ms`)
})

t.test('a gateway admits its share of what the store had left', { skip }, async (t) => {
  const redis = await ownRedis(t)
  const policy = policyOf([30, DAY])
  const service = serviceOf('payments', [policy], 'local')
  const { limiter } = openLimiter(t, redis.url, PATIENT, { gateways: () => 3 })
  await limiter.ready
  for (let i = 0; i < 24; i++) t.equal((await limiter.take(service, policy, 'alice', 1)).decidedBy, 'store')
  await redis.stop()
  const take = (consumer: string) => limiter.take(service, policy, consumer, 1)
  const admitted = async (consumer: string) => {
    let count = 0
    for (let i = 0; i < 20; i++) if ((await take(consumer)).allowed) count++
    return count
  }
  t.equal(await admitted('alice'), 2, 'a third of the six that were left')
  t.equal(await admitted('bob'), 10, 'a third of thirty, for a new consumer')
})

t.test(
  "what was admitted during an outage is charged to the store once, at the key's next request",
  { skip },
  async (t) => {
    const redis = await ownRedis(t)
    const policy = policyOf([30, DAY])
    const service = serviceOf('payments', [policy], 'local')
    const { limiter } = openLimiter(t, redis.url, FROZEN)
    await limiter.ready
    const take = () => limiter.take(service, policy, 'alice', 1)
    for (let i = 0; i < 5; i++) await take()
    redis.pause()
    while ((await limiter.take(service, policy, 'opener', 1)).reason !== 'breaker') t.pass('in vain')
    for (let i = 0; i < 7; i++) t.match(await take(), { allowed: true, decidedBy: 'local' })
    redis.resume()
    await eventually('the store is back', () => limiter.state() === 'up')
    const used = async () => (await limiter.usage(service, policy, 'alice'))[0]!.used
    t.equal(await used(), 5)
    t.match(await take(), { decidedBy: 'store', remaining: 30 - 5 - 7 - 1 })
    t.match(await take(), { decidedBy: 'store', remaining: 30 - 5 - 7 - 2 }, 'once')
    t.equal(await used(), 5 + 7 + 2)
  },
)

t.test(
  'after an outage each limit is charged only what its current windows still count',
  { skip },
  async (t) => {
    const redis = await ownRedis(t)
    const month = { period: 'month', timeZone: 'UTC' } as const
    const policy = policyOf(
      [6, 1000],
      [10, 60_000],
      { algorithm: 'fixed', amount: 50, windowMs: 60_000 },
      { algorithm: 'strict', amount: 50, windowMs: 160_000 },
      { algorithm: 'token_bucket', amount: 60, windowMs: 60_000 },
      { algorithm: 'calendar', amount: 1000, windowMs: 31 * DAY, calendar: month },
    )
    const service = serviceOf('payments', [policy], 'local')
    // In the future: the store deletes what is over by its own clock.
    const minute = Date.UTC(2040, 5, 15, 12)
    let clock = minute
    const { limiter } = openLimiter(t, redis.url, FROZEN, { now: () => clock })
    await limiter.ready
    const take = (consumer: string) => limiter.take(service, policy, consumer, 1)
    const used = async (consumer: string) =>
      (await limiter.usage(service, policy, consumer)).map(({ used }) => used)
    redis.pause()
    while ((await take('opener')).reason !== 'breaker') t.pass('in vain')
    for (const consumer of ['quiet', 'steady', 'steady', 'next']) {
      for (let i = 0; i < 3; i++) t.match(await take(consumer), { allowed: true, decidedBy: 'local' })
      clock += 1000
    }
    redis.resume()
    await eventually('the store is back', () => limiter.state() === 'up')

    clock = minute + 30_000
    t.match(await take('steady'), { allowed: true, decidedBy: 'store' })
    t.same(
      await used('steady'),
      [1, 7, 7, 7, 1, 7],
      'the minute and the month; the second and the bucket have passed',
    )
    clock = minute + 90_000
    t.match(await take('next'), { allowed: true, decidedBy: 'store' })
    t.same(await used('next'), [1, 3, 1, 4, 1, 4], 'half of the minute before')
    clock = minute + 4 * 60_000
    t.match(await take('quiet'), { allowed: true, decidedBy: 'store' })
    t.same(await used('quiet'), [1, 1, 1, 1, 1, 4], 'the month alone')
    t.match(await take('quiet'), { allowed: true, decidedBy: 'store' })
    t.same(await used('quiet'), [2, 2, 2, 2, 2, 5], 'once')
  },
)

t.test('charges after an outage do not overdraw the quota', { skip }, async (t) => {
  const redis = await ownRedis(t)
  const policy = policyOf([4, DAY])
  const service = serviceOf('payments', [policy], 'local')
  const one = openLimiter(t, redis.url, FROZEN).limiter
  const other = openLimiter(t, redis.url, FROZEN).limiter
  await Promise.all([one.ready, other.ready])
  redis.pause()
  const spent = [one, other].map(async (limiter) => {
    while ((await limiter.take(service, policy, 'opener', 1)).reason !== 'breaker') t.pass('in vain')
    for (let i = 0; i < 4; i++) t.match(await limiter.take(service, policy, 'alice', 1), { allowed: true })
  })
  await Promise.all(spent)
  redis.resume()
  await eventually('the store is back', () => one.state() === 'up' && other.state() === 'up')
  for (const limiter of [one, other]) t.notOk((await limiter.take(service, policy, 'alice', 1)).allowed)
  const [usage] = await one.usage(service, policy, 'alice')
  t.match(usage, { used: 4, remaining: 0 })
})

t.test('gateways count each other, without one that has left', async (t) => {
  const redis = await startRedis(t)
  const stores = [0, 1, 2].map(() => connectStore({ redis: redis.url }, log))
  t.teardown(() => {
    for (const store of stores) store.disconnect()
  })
  const [a, b, c] = stores.map((store) => createHeartbeat(store))
  const counts = async (n: number) => {
    await eventually(`${n} are counted`, () => a!.count() === n)
    t.equal(a!.count(), n)
  }
  await counts(3)
  await c!.close()
  await counts(2)
  await b!.close()
  await counts(1)
  await a!.close()
  // Sooner than a silent gateway is dropped.
  await eventually('none is left', async () => (await redis.client.zcard('nodes:{gateways}')) === 0, 3000)
})

t.test('a gateway leaves even when the store hangs', { skip }, async (t) => {
  const redis = await ownRedis(t)
  const store = openStore(
    {
      redis: redis.url,
      timeout: 100,
      max_keys: 100,
      on_failure: 'local',
      batch: 64,
      merge: true,
      gather: 0,
      denials: 0,
      own_connection: true,
    },
    log,
  )
  await store.ready
  redis.pause()
  t.teardown(redis.resume)
  await store.close()
  t.pass('closed')
})

t.test('a request that may have reached the store is not charged again', { skip }, async (t) => {
  const redis = await startRedis(t)
  const proxy = await startProxy(t, redis.port)
  const policy = policyOf([30, DAY])
  const service = serviceOf('payments', [policy], 'local')
  const { limiter } = openLimiter(t, `redis://127.0.0.1:${proxy.port}`, PATIENT)
  await limiter.ready
  for (let i = 0; i < 3; i++) {
    await eventually('the store is back', () => limiter.state() === 'up')
    proxy.cutNextReply()
    t.match(await limiter.take(service, policy, 'alice', 1), { allowed: true, decidedBy: 'local' })
  }
  await eventually('the store is back', () => limiter.state() === 'up')
  const last = await limiter.take(service, policy, 'alice', 1)
  t.match(last, { decidedBy: 'store', remaining: 26 }, 'three charged by the store itself, and this one')
})
