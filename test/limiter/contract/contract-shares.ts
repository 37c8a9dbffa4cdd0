import fc from 'fast-check'
import type { Test } from 'tap'
import { limitsOf } from '../../../src/config/snapshot/limit.js'
import { forTenant, policyOf } from '../../../src/config/snapshot/policy.js'
import { serviceOf } from './build.js'
import type { Subject } from './contract.js'

const DAY = 86_400_000

const SHAPES = [
  { algorithm: 'sliding', window: DAY },
  { algorithm: 'strict', window: DAY },
  { algorithm: 'token_bucket', window: DAY },
  { algorithm: 'fixed', window: DAY },
  { algorithm: 'calendar', period: 'day' },
  { algorithm: 'concurrency', lease: DAY },
] as const

const STEP = fc.record({
  consumer: fc.constantFrom('alice', 'bob', 'carol', 'dan'),
  tenant: fc.constantFrom('acme', 'globex'),
  cost: fc.integer({ min: 1, max: 4 }),
})

/** Tests what every limiter does with a quota that several consumers share, with a maximum for each. */
export function shareContract(t: Test, name: string, open: (t: Test) => Promise<Subject>): void {
  t.test(`${name}: no consumer exceeds its share, and all together do not exceed the limit`, async (t) => {
    const { limiter } = await open(t)
    let run = 0
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...SHAPES),
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 1, max: 99 }),
        fc.array(STEP, { minLength: 10, maxLength: 40 }),
        async (shape, amount, percent, steps) => {
          const share = percent / 100
          const settings = { ...shape, amount, by: 'tenant', share, candidate: false } as const
          const policy = policyOf(limitsOf(settings), { refunds: false, candidate: undefined })
          const service = serviceOf(`service-${run++}`, [policy])
          const most = Math.max(1, Math.floor((amount * percent) / 100))
          const used = new Map<string, number>()
          for (const { consumer, tenant, cost } of steps) {
            const n = shape.algorithm === 'concurrency' ? 1 : cost
            const own = used.get(`${tenant} ${consumer}`) ?? 0
            const all = used.get(tenant) ?? 0
            const levels = { ip: '', tenant, route: '' }
            const { allowed, violated, decidedBy } = await limiter.take(
              service,
              policy,
              consumer,
              cost,
              levels,
            )
            const denying = (all + n > amount ? 1 : 0) + (own + n > most ? 2 : 0)
            // A remembered denial does not include what others have spent since.
            if (allowed !== (denying === 0) || (decidedBy === 'store' && violated !== denying)) {
              throw new Error(`${consumer} of ${tenant} took ${own}, all ${all}: denied by ${violated}`)
            }
            if (!allowed) continue
            used.set(`${tenant} ${consumer}`, own + n)
            used.set(tenant, all + n)
          }
        },
      ),
      { numRuns: 60 },
    )
    t.pass()
  })

  t.test(`${name}: a share does not bind a consumer without a tenant`, async (t) => {
    const { limiter } = await open(t)
    const limits = limitsOf({
      algorithm: 'sliding',
      amount: 4,
      window: DAY,
      by: 'tenant',
      share: 0.5,
      candidate: false,
    })
    const policy = policyOf(limits, { refunds: false, candidate: undefined })
    const service = serviceOf('payments', [policy])
    const take = (tenant: string | undefined) =>
      limiter.take(service, forTenant(policy, tenant), 'alice', 4, { ip: '', tenant, route: '' })
    t.match(await take('acme'), { allowed: false, violated: 0b10, retryMs: -1, remaining: 2 })
    t.match(await take(undefined), { allowed: true, remaining: 0 })
  })
}
