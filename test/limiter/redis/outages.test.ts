import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { RedisLimiter } from '../../../src/limiter/redis/redis.js'
import { startProxy } from '../../support/http/proxy.js'
import { hasRedisServer, type OwnRedis, ownRedis, startRedis } from '../../support/redis/redis.js'
import { openLimiter } from '../contract/open-limiter.js'
import {
  median,
  policy,
  RECOVERY,
  SLOWEST,
  serviceWhich,
  slowest,
  type Timed,
  traffic,
  used,
} from '../contract/traffic.js'

const service = serviceWhich('open')
const skip = hasRedisServer ? false : 'needs a redis-server on the PATH to stop and freeze'

t.jobs = 4

const isBreaker = ({ decision }: Timed) => decision.reason === 'breaker'

/** Runs traffic through an outage, and returns how long until the store counted again. */
async function outage(
  t: Test,
  limiter: RedisLimiter,
  begin: () => unknown,
  end: () => unknown,
): Promise<void> {
  await begin()
  const during = await traffic(limiter, 700)
  t.ok(
    during.every(({ decision }) => decision.allowed),
    'every request passes',
  )
  // A slow machine makes fewer requests, but as many have to wait.
  const most = ({ length }: Timed[]) => during.filter(isBreaker).length > length / 2
  for (let i = 0; i < 20 && !most(during); i++) during.push(...(await traffic(limiter, 100)))
  const waited = during.filter((one) => !isBreaker(one))
  const after = during.filter(isBreaker)
  t.ok(slowest(during) < SLOWEST, `no decision takes long: ${slowest(during).toFixed(1)} ms`)
  t.ok(after.length > during.length / 2, 'the breaker answers most')
  t.ok(median(after) < 40, `and at once: ${median(after).toFixed(3)} ms`)
  t.ok(waited.length <= 200, `${waited.length} waited for the store`)
  t.equal(limiter.state(), 'degraded')
  await end()
  const back = performance.now()
  while ((await limiter.take(service, policy, 'bob', 1)).decidedBy !== 'store') await delay(5)
  const recovered = performance.now() - back
  t.ok(recovered < RECOVERY, `counts again after ${recovered.toFixed(0)} ms`)
  t.equal(limiter.state(), 'up')
  t.comment(
    `slowest ${slowest(during).toFixed(1)} ms, ${waited.length} waited, then ${median(after).toFixed(3)} ms; back after ${recovered.toFixed(0)} ms`,
  )
}

async function open(t: Test): Promise<{ redis: OwnRedis } & ReturnType<typeof openLimiter>> {
  const redis = await ownRedis(t)
  const opened = openLimiter(t, redis.url)
  await opened.limiter.ready
  return { redis, ...opened }
}

t.test(
  'Redis killed: traffic goes on, and is counted again after a restart without data',
  { skip },
  async (t) => {
    const { redis, limiter } = await open(t)
    t.equal((await limiter.take(service, policy, 'alice', 7)).decidedBy, 'store')
    await outage(t, limiter, redis.stop, redis.restart)
    t.equal(await used(limiter, 'alice'), 0, 'counts lost by the restart stay lost')
  },
)

t.test('Redis stopped by SIGSTOP: no abandoned decision is charged later', { skip }, async (t) => {
  const { redis, limiter } = await open(t)
  await outage(t, limiter, redis.pause, redis.resume)
  await delay(200)
  t.equal(await used(limiter, 'alice'), 0, 'no ghost charge')
})

t.test('Redis frozen for 3 s and more: no abandoned decision is charged later', { skip }, async (t) => {
  const { redis, limiter } = await open(t)
  await outage(
    t,
    limiter,
    () => redis.pause(),
    async () => {
      await delay(3000)
      redis.resume()
    },
  )
  await delay(200)
  t.equal(await used(limiter, 'alice'), 0, 'no ghost charge')
})

for (const [mode, ms] of [
  // The pause cannot be ended, so the test waits for its end.
  ['ALL', 3000],
  ['WRITE', 60_000],
] as const) {
  t.test(`CLIENT PAUSE ${mode}: no abandoned decision is charged later`, { skip }, async (t) => {
    const { redis, limiter } = await open(t)
    await outage(
      t,
      limiter,
      () => redis.client.call('CLIENT', 'PAUSE', ms, mode),
      () => (mode === 'ALL' ? redis.client.set('pause', 'over') : redis.client.call('CLIENT', 'UNPAUSE')),
    )
    await delay(200)
    t.equal(await used(limiter, 'alice'), 0, 'no ghost charge')
  })
}

t.test('a network delay of 150 ms: late decisions are not charged', async (t) => {
  const redis = await startRedis(t)
  const proxy = await startProxy(t, redis.port)
  const { limiter } = openLimiter(t, `redis://127.0.0.1:${proxy.port}${new URL(redis.url).pathname}`)
  await limiter.ready
  await outage(
    t,
    limiter,
    () => {
      proxy.delayThere = 150
    },
    () => {
      proxy.delayThere = 0
    },
  )
  t.equal(await used(limiter, 'alice'), 0, 'late decisions are not charged')
})
