import { Redis } from 'ioredis'
import t from 'tap'
import { eventually } from '../../support/eventually.js'
import { hasRedisServer } from '../../support/redis/redis.js'
import { startSentinels } from '../../support/redis/redis-sentinel.js'
import { policyOf, serviceOf } from '../contract/build.js'
import { openLimiter } from '../contract/open-limiter.js'
import { PATIENT, policy, SLOWEST, serviceWhich, slowest, traffic, used } from '../contract/traffic.js'

// Each has servers of its own, and mostly waits for Sentinel.
t.jobs = 3

const skip = hasRedisServer ? false : 'needs a redis-server on the PATH'

t.test('when a primary is killed under load, its replica goes on counting', { skip }, async (t) => {
  const { primary, url } = await startSentinels(t)
  const { limiter } = openLimiter(t, url, PATIENT)
  await limiter.ready
  const limit = policyOf([50, 86_400_000])
  const limited = serviceOf('limited', [limit], 'closed')
  let admitted = 0
  const spend = async () => {
    for (let i = 0; i < 60; i++) if ((await limiter.take(limited, limit, 'alice', 1)).allowed) admitted++
  }
  await spend()
  t.equal(admitted, 50)

  const before = await traffic(limiter, 300)
  await primary.stop()
  const gone = performance.now()
  const during = []
  while (limiter.state() === 'degraded' || during.length === 0) {
    during.push(...(await traffic(limiter, 100)))
    if (performance.now() - gone > 60_000) throw new Error('no new primary within 60 s')
  }
  const gap = performance.now() - gone
  const after = await traffic(limiter, 300)
  t.ok(before.every(({ decision }) => decision.decidedBy === 'store'))
  t.ok(during.every(({ decision }) => decision.allowed))
  t.ok(after.every(({ decision }) => decision.decidedBy === 'store'))
  const all = [...before, ...during, ...after]
  const counted = all.filter(({ decision }) => decision.decidedBy === 'store').length
  const lost = counted - (await used(limiter, 'alice'))
  await spend()
  t.comment(
    `counting again after ${gap.toFixed(0)} ms; slowest ${slowest(all).toFixed(1)} ms; ${lost} charges lost; ${admitted} admitted of a limit of 50`,
  )
  t.ok(slowest(all) < SLOWEST, `nobody waits for the timeout: ${slowest(all).toFixed(1)} ms`)
  // There are 20 callers: each may know of a charge that was not replicated, or not know of one that was.
  t.ok(Math.abs(lost) <= 40, `${lost} charges lost`)
  t.ok(admitted <= 100, 'over the limit by no more than the limit, once')
})

t.test('after a manual failover the new primary counts', { skip }, async (t) => {
  const { primary, replica, url } = await startSentinels(t)
  const { limiter } = openLimiter(t, url, PATIENT)
  await limiter.ready
  const [, port] = /:(\d+),/.exec(url)!
  const sentinel = new Redis(Number(port), '127.0.0.1')
  t.teardown(() => sentinel.disconnect())
  // Sentinel does not fail over to a replica that it has just not heard of.
  await eventually('it is done', async () => {
    const reply = await sentinel.call('SENTINEL', 'FAILOVER', 'main').catch(String)
    return reply === 'OK' || /INPROG/.test(String(reply))
  })
  const all = []
  const until = performance.now() + 40_000
  const isPrimary = async () => /^master/.test(String(await replica.client.call('ROLE')))
  while (!(await isPrimary()) && performance.now() < until) all.push(...(await traffic(limiter, 100)))
  // Sentinel does so, too, but ten seconds later.
  await primary.client.replicaof('127.0.0.1', replica.port)
  // The old primary refuses writes now, so the limiter leaves it.
  all.push(...(await traffic(limiter, 500)))
  while (limiter.state() !== 'up' && performance.now() < until) all.push(...(await traffic(limiter, 100)))
  t.match(String(await replica.client.call('ROLE')), /^master/)
  const counted = await traffic(limiter, 200)
  t.ok(counted.every(({ decision }) => decision.decidedBy === 'store'))
  t.ok(all.every(({ decision }) => decision.allowed))
  t.ok(slowest(all) < SLOWEST, `nobody waits for the timeout: ${slowest(all).toFixed(1)} ms`)
  const without = all.filter(({ decision }) => decision.decidedBy !== 'store').length
  t.comment(`${without} of ${all.length} decided without the store`)
})

t.test('Sentinels may require a password of their own', { skip }, async (t) => {
  const { url } = await startSentinels(t, { password: 'sentinel-pw' })
  const refused = openLimiter(t, url)
  await eventually('the log tells why', () => /NOAUTH|Authentication/i.test(JSON.stringify(refused.log)))
  t.equal(refused.limiter.state(), 'degraded')
  t.notMatch(JSON.stringify(refused.log), /sentinel-pw/)
  const { limiter } = openLimiter(t, { redis: url, sentinel: { password: 'sentinel-pw' } }, PATIENT)
  await limiter.ready
  t.equal((await limiter.take(serviceWhich('open'), policy, 'alice', 1)).decidedBy, 'store')
})
