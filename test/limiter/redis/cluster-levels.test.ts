// Tests src/limiter/redis/cross-slot-take.ts
import t from 'tap'
import { consumerPart, slotOf } from '../../../src/limiter/key.js'
import { COUNTED } from '../../../src/limiter/limit-readings.js'
import { hasRedisServer } from '../../support/redis/redis.js'
import { startRedisCluster } from '../../support/redis/redis-cluster.js'
import { policyOf, serviceOf } from '../contract/build.js'
import { openLimiter } from '../contract/open-limiter.js'

const DAY = 86_400_000

if (!hasRedisServer) t.plan(0, 'needs a redis-server on the PATH to make a cluster of')
else {
  const nodes = await startRedisCluster(t, 2)
  const addresses = nodes.map(({ proxy }) => `redis://127.0.0.1:${proxy.port}`)
  const nodeOf = (tag: string) => (slotOf(consumerPart(tag)) < 8192 ? 0 : 1)
  const on = (node: number, name: string) =>
    Array.from({ length: 100 }, (_, i) => `${name}-${i}`).find((tag) => nodeOf(tag) === node)!

  t.test(
    'when a later level in another slot denies, the charges of earlier ones are given back',
    async (t) => {
      const { limiter } = openLimiter(t, addresses, 5000)
      await limiter.ready
      const policy = policyOf(
        { algorithm: 'fixed', by: 'service', amount: 3, windowMs: DAY },
        { by: 'consumer', amount: 100, windowMs: DAY },
        { algorithm: 'strict', by: 'ip', amount: 100, windowMs: DAY },
        { algorithm: 'concurrency', by: 'tenant', amount: 100, windowMs: DAY },
      )
      const service = serviceOf('payments', [policy])
      const levels = { ip: on(0, 'ip'), tenant: on(1, 'tenant'), route: '/' }
      const take = () => limiter.take(service, policy, on(1, 'alice'), 1, levels)
      for (const left of [2, 1, 0]) {
        t.match(await take(), { allowed: true, decidedBy: 'store', binding: 0, remaining: left })
      }
      for (let i = 0; i < 5; i++) t.match(await take(), { allowed: false, binding: 0, violated: 0b0001 })
      const used = async () =>
        (await limiter.usage(service, policy, on(1, 'alice'), levels)).map((one) => one.used)
      let now = await used()
      // The refund is sent without waiting for it.
      for (let i = 0; i < 100 && now.join() !== '3,3,3,3'; i++) now = await used()
      t.same(now, [3, 3, 3, 3])
    },
  )

  t.test('a request shows its limits in all slots, as they were before it', async (t) => {
    const { limiter } = openLimiter(t, addresses, 5000)
    await limiter.ready
    const policy = policyOf(
      { amount: 100, windowMs: DAY },
      { algorithm: 'fixed', by: 'service', amount: 50, windowMs: DAY },
      { algorithm: 'strict', by: 'ip', amount: 10, windowMs: DAY },
    )
    const service = serviceOf('shown', [policy])
    const levels = { ip: on(0, 'ip'), tenant: undefined, route: '/' }
    for (let i = 0; i < 3; i++) {
      const preview = await limiter.preview(service, policy, on(1, 'alice'), 2, levels)
      const decision = await limiter.take(service, policy, on(1, 'alice'), 2, levels, true)
      t.match(decision, { allowed: true, decidedBy: 'store', binding: 2, remaining: 8 - 2 * i })
      const [shown, read] = [decision.counted!.numbers, preview.counted!.numbers]
      t.same(
        shown.filter((_, k) => k % COUNTED !== 2),
        read.filter((_, k) => k % COUNTED !== 2),
      )
      // All but the time until they reset, which passes.
      t.same(
        [0, 1, 2].map((k) => shown[k * COUNTED + 1]),
        [100 - 2 * i, 50 - 2 * i, 10 - 2 * i],
      )
    }
    t.equal((await limiter.take(service, policy, on(1, 'alice'), 2, levels)).counted, undefined)
  })

  t.test('concurrent requests never exceed the level that they share', async (t) => {
    const gateways = [openLimiter(t, addresses, 5000).limiter, openLimiter(t, addresses, 5000).limiter]
    await Promise.all(gateways.map(({ ready }) => ready))
    const policy = policyOf({ amount: 5, windowMs: DAY }, { by: 'service', amount: 40, windowMs: DAY })
    const service = serviceOf('marketing', [policy])
    const decisions = await Promise.all(
      Array.from({ length: 300 }, (_, i) =>
        gateways[i % 2]!.take(service, policy, `consumer-${i % 30}`, 1, { ip: '', tenant: '', route: '' }),
      ),
    )
    t.equal(decisions.filter(({ allowed }) => allowed).length, 40)
    t.ok(decisions.every(({ decidedBy }) => decidedBy === 'store' || decidedBy === 'cache'))
  })

  t.test('when the server of one level is away, the request fails open', async (t) => {
    const { limiter } = openLimiter(t, addresses)
    await limiter.ready
    const policy = policyOf({ amount: 5, windowMs: DAY }, { by: 'ip', amount: 5, windowMs: DAY })
    const levels = { ip: on(0, 'ip'), tenant: undefined, route: '/' }
    const open = serviceOf('open', [policy])
    const closed = serviceOf('closed', [policy], 'closed')
    const consumer = on(1, 'carol')
    nodes[1]!.redis.pause()
    t.teardown(() => nodes[1]!.redis.resume())
    t.match(await limiter.take(open, policy, consumer, 1, levels), { allowed: true, decidedBy: 'open' })
    t.match(await limiter.take(closed, policy, consumer, 1, levels), {
      allowed: false,
      decidedBy: 'closed',
    })
  })

  t.test('when a level cannot be asked, the earlier ones keep no slot taken', async (t) => {
    const { limiter } = openLimiter(t, addresses)
    await limiter.ready
    const policy = policyOf(
      { by: 'ip', algorithm: 'concurrency', amount: 3, windowMs: DAY },
      { by: 'consumer', amount: 100, windowMs: DAY },
    )
    const levels = { ip: on(0, 'slots'), tenant: undefined, route: '/' }
    const open = serviceOf('leaks', [policy])
    const local = serviceOf('leaks-local', [policy], 'local')
    nodes[1]!.redis.pause()
    t.teardown(() => nodes[1]!.redis.resume())
    for (const service of [open, local]) {
      for (let i = 0; i < 8; i++) {
        const decision = await limiter.take(service, policy, on(1, 'carol'), 1, levels)
        if (service === open) t.match(decision, { allowed: true, decidedBy: 'open' })
        else t.match(decision, { decidedBy: 'local' })
      }
    }
  })

  t.test("slots of servers whose clocks differ are given back by each server's own time", async (t) => {
    const { limiter } = openLimiter(t, addresses, 5000)
    await limiter.ready
    const slots = { algorithm: 'concurrency', amount: 4, windowMs: 160 } as const
    const policy = policyOf({ ...slots, by: 'ip' }, { ...slots, by: 'tenant' })
    const service = serviceOf('slots', [policy])
    const levels = { ip: on(0, 'clock'), tenant: on(1, 'clock'), route: '/' }
    for (let i = 0; i < 60; i++) {
      const decision = await limiter.take(service, policy, 'alice', 1, levels)
      t.ok(decision.allowed)
      t.equal(decision.times?.length, 2)
      const { decidedBy, at, times } = decision
      const charge = { service, policy, consumer: 'alice', levels, cost: 1, decidedBy, at, slotAt: at, times }
      if (i % 3 === 0) await limiter.settle(charge, 0, 'renew')
      await limiter.settle(charge, 0, 'release')
    }
    const usage = await limiter.usage(service, policy, 'alice', levels)
    t.same(
      usage.map(({ used }) => used),
      [0, 0],
    )
  })
}
