import fc from 'fast-check'
import t from 'tap'
import { limitsOf, standing } from '../../src/config/snapshot/limit.js'
import { type Policy, policyOf as policyOfLimits } from '../../src/config/snapshot/policy.js'
import { type AmountRule, adjusted } from '../../src/limiter/apply-overrides.js'
import { policyOf } from './contract/build.js'

const NOW = 1_760_000_000_000
const FOREVER = Number.POSITIVE_INFINITY

const boost = (amount: number, until: number | undefined = NOW + 1000, limit = 'minute'): AmountRule => ({
  kind: 'boost',
  limit,
  amount,
  until,
})
const override = (amount: number, until?: number, limit = 'minute'): AmountRule => ({
  kind: 'override',
  limit,
  amount,
  until,
})

/** Returns the amounts of the limits at a moment. */
const at = (policy: Policy, ms: number) =>
  policy.limits.map((limit) => [standing(limit, ms).amount, standing(limit, ms).burst])

const minute = policyOf({ name: 'minute', amount: 100 }, { name: 'second', amount: 5, windowMs: 1000 })

t.test('a boost adds to the amount until it ends; order and keys of the limits stay', async (t) => {
  const { policy, until } = adjusted(minute, [boost(500)], [], NOW)
  t.same(at(policy, NOW), [
    [600, 600],
    [5, 5],
  ])
  t.same(at(policy, NOW + 999)[0], [600, 600])
  t.same(at(policy, NOW + 1000)[0], [100, 100])
  t.equal(until, NOW + 1000)
  t.match(policy.limits[0]!.changed, { tier: 100, override: undefined, boost: 500 })
  t.equal(policy.limits[1], minute.limits[1], 'a limit without a rule stays the same object')
  t.equal(policy.base, minute)
  t.same(
    policy.parts.map(({ keyPart, indices }) => [keyPart, indices]),
    minute.parts.map(({ keyPart, indices }) => [keyPart, indices]),
    'what was used still counts',
  )
  t.equal(policy.header, '"minute";q=600;w=60, "second";q=5;w=1')
})

t.test(
  "an override replaces the tier's amount; the consumer's own one wins, and boosts add up",
  async (t) => {
    const amount = (own: AmountRule[], theirs: AmountRule[]) =>
      at(adjusted(minute, own, theirs, NOW).policy, NOW)[0]![0]
    t.equal(amount([], [override(40)]), 40)
    t.equal(amount([override(50)], [override(40)]), 50)
    t.equal(amount([override(50)], [override(40), boost(7)]), 57)
    t.equal(amount([override(50), boost(3)], [override(40), boost(7)]), 60)
    t.equal(amount([boost(3)], [boost(7)]), 110)
    t.equal(adjusted(minute, [override(50)], [], NOW).until, FOREVER)
  },
)

t.test('a rule that has ended, or that is for another limit, changes nothing', async (t) => {
  for (const rule of [boost(5, NOW), boost(5, NOW - 1), boost(5, NOW + 1000, 'hour')]) {
    t.strictSame(adjusted(minute, [rule], [rule], NOW), { policy: minute, until: FOREVER })
  }
  t.equal(adjusted(minute, [rule()], [], NOW).policy, minute)
  function rule(): AmountRule {
    return override(1, undefined, 'toString')
  }
})

t.test("a bucket's burst changes by as much as its amount, and is at least 1", async (t) => {
  const bucket = policyOf({ name: 'minute', algorithm: 'token_bucket', amount: 10, burst: 25 })
  t.same(at(adjusted(bucket, [boost(5)], [], NOW).policy, NOW), [[15, 30]])
  t.same(at(adjusted(bucket, [override(4)], [], NOW).policy, NOW), [[4, 19]])
  const tight = policyOf({ name: 'minute', algorithm: 'token_bucket', amount: 10, burst: 2 })
  t.same(at(adjusted(tight, [override(4)], [], NOW).policy, NOW), [[4, 1]])
})

t.test("a share follows its limit's current amount, unless a rule changes the share itself", async (t) => {
  const limits = limitsOf({
    algorithm: 'sliding',
    amount: 100,
    window: 60_000,
    by: 'tenant',
    share: 0.3,
    candidate: false,
  })
  const shared = policyOfLimits(limits, { refunds: false, candidate: undefined })
  const amounts = (rules: AmountRule[], ms = NOW) =>
    at(adjusted(shared, [], rules, NOW).policy, ms).map(([amount]) => amount)
  t.same(amounts([override(1000, undefined, 'tenant-minute')]), [1000, 300])
  t.same(amounts([boost(100, NOW + 5, 'tenant-minute')]), [200, 60])
  t.same(amounts([boost(100, NOW + 5, 'tenant-minute')], NOW + 5), [100, 30])
  t.same(amounts([boost(50, NOW + 5, 'tenant-minute-share')]), [100, 80])
  t.same(
    amounts([boost(100, NOW + 5, 'tenant-minute'), override(90, undefined, 'tenant-minute-share')]),
    [200, 90],
  )
  const rule = [override(1000, undefined, 'tenant-minute')]
  t.same(at(adjusted(shared.alone!, rule, [], NOW).policy, NOW), [[1000, 1000]], 'without a tenant')
})

t.test('no boost raises an amount beyond what can be counted', async (t) => {
  const long = policyOf({ name: 'minute', amount: 5, windowMs: 366 * 86_400_000 })
  const { amount, windowMs } = adjusted(long, [boost(33_000_000)], [], NOW).policy.limits[0]!
  t.ok(amount > 200_000 && amount * windowMs < 2 ** 53)
  t.equal(adjusted(minute, [boost(33_554_431)], [], NOW).policy.limits[0]!.amount, 33_554_431)
})

t.test('at any moment the amount follows from the rules that hold then', async (t) => {
  const rule = fc.record({
    kind: fc.constantFrom('boost' as const, 'override' as const),
    limit: fc.constantFrom('minute', 'second'),
    amount: fc.integer({ min: 1, max: 50 }),
    until: fc.option(
      fc.integer({ min: -2, max: 10 }).map((ms) => NOW + ms),
      { nil: undefined },
    ),
  })
  // A limit has at most one rule of each kind, as in the store.
  const rules = fc.uniqueArray(rule, { selector: ({ kind, limit }) => `${kind} ${limit}` })
  fc.assert(
    fc.property(rules, rules, fc.nat(12), (own, theirs, after) => {
      const ms = NOW + after
      const holds = ({ until = FOREVER }: AmountRule) => until > ms
      const expected = minute.limits.map(({ name, amount }) => {
        const find = (kind: string, all: AmountRule[]) =>
          all.filter(holds).find((one) => one.kind === kind && one.limit === name)?.amount
        const base = find('override', own) ?? find('override', theirs) ?? amount
        return base + (find('boost', own) ?? 0) + (find('boost', theirs) ?? 0)
      })
      const made = adjusted(minute, own, theirs, NOW)
      t.same(
        made.policy.limits.map((limit) => standing(limit, ms).amount),
        expected,
      )
      return true
    }),
    { numRuns: 200 },
  )
})
