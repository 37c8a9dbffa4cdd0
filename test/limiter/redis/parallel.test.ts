import t from 'tap'
import { startRedis } from '../../support/redis/redis.js'
import { policyOf, serviceOf } from '../contract/build.js'
import { openLimiter } from '../contract/open-limiter.js'

t.test('two gateways on one Redis admit exactly the limit', async (t) => {
  const redis = await startRedis(t)
  const gateways = [openLimiter(t, redis.url, 5000).limiter, openLimiter(t, redis.url, 5000).limiter]
  await Promise.all(gateways.map((gateway) => gateway.ready))
  const policies = [policyOf([100, 86_400_000]), policyOf([60, 86_400_000], [100, 2 * 86_400_000])]
  const service = serviceOf('payments', policies)
  const consumers = Array.from({ length: 20 }, (_, i) => `consumer-${i}`)
  for (const policy of policies) {
    const admitted = new Map<string, number>()
    const decisions = await Promise.all(
      consumers.flatMap((consumer) =>
        Array.from({ length: 150 }, async (_, i) => {
          const decision = await gateways[i % 2]!.take(service, policy, consumer, 1)
          if (decision.allowed) admitted.set(consumer, (admitted.get(consumer) ?? 0) + 1)
          return decision
        }),
      ),
    )
    t.ok(decisions.every(({ decidedBy }) => decidedBy === 'store'))
    const least = Math.min(...policy.limits.map(({ amount }) => amount))
    t.same(
      [...admitted.values()],
      consumers.map(() => least),
    )
  }
})

t.test('a cost is charged in full or not at all', async (t) => {
  const redis = await startRedis(t)
  const gateways = [openLimiter(t, redis.url, 5000).limiter, openLimiter(t, redis.url, 5000).limiter]
  await Promise.all(gateways.map((gateway) => gateway.ready))
  const policy = policyOf([100, 86_400_000])
  const service = serviceOf('payments', [policy])
  let charged = 0
  await Promise.all(
    Array.from({ length: 90 }, async (_, i) => {
      const cost = (i % 7) + 1
      const decision = await gateways[i % 2]!.take(service, policy, 'alice', cost)
      if (decision.allowed) charged += cost
    }),
  )
  const [usage] = await gateways[0]!.usage(service, policy, 'alice')
  t.equal(usage!.used, charged)
  t.ok(charged <= 100 && charged > 93)
})
