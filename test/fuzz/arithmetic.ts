import fc from 'fast-check'
import type { Limit } from '../../src/config/snapshot/limit.js'
import type { LimitGroup } from '../../src/config/snapshot/policy.js'
import type { Counts } from '../../src/limiter/algorithms/algorithm.js'
import { previewFrom, settleIn, takeFrom, usageFrom } from '../../src/limiter/decide.js'
import { snapshotOf } from '../support/gateway/gateway.js'
import { holds, must, type Target } from './target.js'

const ALGORITHMS = ['sliding', 'fixed', 'token_bucket', 'strict', 'concurrency'] as const
const windowMs = fc.oneof(
  fc.constantFrom(1000, 60_000, 3_600_000, 86_400_000),
  fc.integer({ min: 1000, max: 2_678_400_000 }),
)

interface Plan {
  readonly algorithm: (typeof ALGORITHMS)[number]
  readonly amount: number
  readonly window: number
}
const plan: fc.Arbitrary<Plan> = fc.record({
  algorithm: fc.constantFrom(...ALGORITHMS),
  amount: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 1_000_000 })),
  window: windowMs,
})

/** Compiles the limit as a file's would be; undefined where the file would be refused. */
function limitsOf(plans: readonly Plan[]): readonly Limit[] | undefined {
  const items = plans.map(({ algorithm, amount, window }, i) =>
    algorithm === 'concurrency'
      ? `{ name: l${i}, amount: ${amount}, algorithm: concurrency }`
      : `{ name: l${i}, amount: ${amount}, window: ${window}ms, algorithm: ${algorithm} }`,
  )
  const yaml = `
tiers: [free]
services: { api: { upstreams: ['http://a'], limits: { free: [${items.join(', ')}] } } }
routes: [{ path: /*, service: api }]
`
  try {
    return snapshotOf(yaml).services[0]!.policies[0]!.parts[0]!.limits
  } catch {
    return undefined
  }
}

interface Step {
  readonly ms: number
  readonly cost: number
  readonly give: boolean
}
const step: fc.Arbitrary<Step> = fc.record({
  ms: fc.oneof(
    { weight: 3, arbitrary: fc.integer({ min: 0, max: 5_000 }) },
    { weight: 1, arbitrary: fc.integer({ min: -120_000, max: 90_000_000 }) },
  ),
  cost: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 30 })),
  give: fc.boolean(),
})

export const arithmetic: Target = {
  name: 'arithmetic',
  what: 'a limit never has more left than its amount, a denial takes nothing and says when to retry, and a refund adds nothing',
  short: 150,
  open: () =>
    holds(
      fc.record({
        plans: fc.array(plan, { minLength: 1, maxLength: 3 }),
        steps: fc.array(step, { minLength: 1, maxLength: 25 }),
      }),
      ({ plans, steps }) => {
        const limits = limitsOf(plans)
        if (limits === undefined) return
        const parts = [{ limits, indices: limits.map((_, i) => i) }] as unknown as LimitGroup[]
        const counts: Counts = []
        let now = 1_760_000_040_000
        for (const { ms, cost, give } of steps) {
          now += ms
          const before = JSON.stringify(counts)
          const preview = previewFrom(parts, [counts], now, cost)
          must(JSON.stringify(counts) === before, 'a preview changes counts')
          const decision = takeFrom(parts, [counts], now, cost, 'store', undefined)
          must(
            preview.allowed === decision.allowed && preview.remaining === decision.remaining,
            'a preview says otherwise',
          )
          const { allowed, remaining, resetMs, retryMs, binding, violated } = decision
          for (const [name, value] of Object.entries({ remaining, resetMs, retryMs, binding, violated })) {
            must(Number.isSafeInteger(value) && value >= (name === 'retryMs' ? -1 : 0), `${name} is ${value}`)
          }
          must(remaining <= Math.min(...limits.map(({ burst }) => burst)), 'more is left than is allowed')
          for (const usage of usageFrom(limits, counts, now)) {
            must(
              usage.remaining >= 0 && usage.remaining <= usage.limit.burst,
              `usage leaves ${usage.remaining}`,
            )
          }
          if (!allowed) {
            must(JSON.stringify(counts) === before, 'a denial changes counts')
            must(violated !== 0 && (retryMs !== 0 || violated === 0), 'a denial says that it would pass now')
            if (retryMs > 0)
              must(
                previewFrom(parts, [counts], now + retryMs, cost).allowed,
                'a denial says when, and it is denied then',
              )
            if (retryMs > 1)
              must(
                !previewFrom(parts, [counts], now + retryMs - 1, cost).allowed,
                'it would have passed before',
              )
          } else if (give) {
            settleIn(limits, counts, now, -cost, now, 'release', now)
            for (const usage of usageFrom(limits, counts, now))
              must(usage.remaining <= usage.limit.burst, 'giving back adds')
          }
        }
      },
    ),
}
