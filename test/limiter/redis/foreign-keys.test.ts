import t from 'tap'
import { startRedis } from '../../support/redis/redis.js'
import { policyOf, serviceOf } from '../contract/build.js'
import { openLimiter } from '../contract/open-limiter.js'
import { PATIENT } from '../contract/traffic.js'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const POLICIES = {
  'rl:api:{alice}:1m': policyOf([10, MINUTE]),
  'rl:api:{alice}:1m1h': policyOf([10, MINUTE], [10, HOUR]),
  'rl:api:{alice}:bucket.1m': policyOf({ algorithm: 'token_bucket', amount: 10 }),
}

t.test('a key that holds something other than counts is overwritten, counted and logged', async (t) => {
  const redis = await startRedis(t)
  const { limiter, log } = openLimiter(t, redis.url, PATIENT)
  await limiter.ready
  let expected = 0
  for (const [key, policy] of Object.entries(POLICIES)) {
    const service = serviceOf('api', [policy])
    const take = () => limiter.take(service, policy, 'alice', 1)
    for (const put of [
      () => redis.client.rpush(key, 'x'),
      () => redis.client.set(key, 'no counts'),
      () => redis.client.hset(key, 'a', 'b'),
    ]) {
      await redis.client.del(key)
      await put()
      t.match(
        await limiter.usage(service, policy, 'alice'),
        [{ used: 0 }],
        `${key}: usage says what the next request gets`,
      )
      t.match(await take(), { allowed: true, decidedBy: 'store', remaining: 9 }, key)
      expected++
      t.equal(limiter.foreignKeys(), expected, 'counted')
      t.match(await take(), { allowed: true, decidedBy: 'store', remaining: 8 })
      t.equal(limiter.foreignKeys(), expected, 'once')
    }
  }
  t.match(
    log.find(({ message }) => message === 'a key of the store held something other than counts'),
    { level: 'warn', fields: { key: 'rl:api:{alice}:1m' } },
  )
  t.equal(limiter.state(), 'up')
})

t.test('in a call with several requests, the log names the foreign key', async (t) => {
  const redis = await startRedis(t)
  const { limiter, log } = openLimiter(t, redis.url, PATIENT)
  await limiter.ready
  const policy = policyOf([10, MINUTE])
  const service = serviceOf('api', [policy])
  await redis.client.rpush('rl:api:{bob}:1m', 'x')
  const names = ['alice', 'bob', 'bob', 'carol']
  const all = await Promise.all(names.map((consumer) => limiter.take(service, policy, consumer, 1)))
  t.same(
    all.map(({ remaining }) => remaining),
    [9, 9, 8, 9],
  )
  t.equal(limiter.foreignKeys(), 1)
  t.match(
    log.find(({ fields }) => 'key' in fields),
    { fields: { key: 'rl:api:{bob}:1m' } },
  )
})

t.test('settling under a foreign key is counted, too', async (t) => {
  const redis = await startRedis(t)
  const { limiter } = openLimiter(t, redis.url, PATIENT)
  await limiter.ready
  const policy = policyOf([10, MINUTE])
  const service = serviceOf('api', [policy])
  const { at, decidedBy } = await limiter.take(service, policy, 'alice', 1)
  await redis.client.del('rl:api:{alice}:1m')
  await redis.client.rpush('rl:api:{alice}:1m', 'x')
  const charge = { service, policy, consumer: 'alice', levels: undefined, cost: 1, decidedBy, at, slotAt: at }
  await limiter.settle(charge, 2, 'keep')
  t.equal(limiter.foreignKeys(), 1)
  t.match(await limiter.usage(service, policy, 'alice'), [{ used: 2 }])
})
