import { type Limit, shareOf } from '../config/snapshot/limit.js'
import { type Policy, policyOf } from '../config/snapshot/policy.js'

/** One change of a limit, which it names. */
export interface AmountRule {
  readonly kind: 'boost' | 'override'
  readonly limit: string
  readonly amount: number
  /** When the change ends, in unix ms; undefined if it is permanent. */
  readonly until: number | undefined
}

/** Largest amount that the packed counters hold. */
export const MOST_AMOUNT = 2 ** 25 - 1

/**
 * Returns the policy with the changes of its limits: the override of the consumer, otherwise that of its tenant,
 * otherwise the tier's own amount; plus the boosts of both. The result includes the ends of changes, so that they end
 * by the clock that decides. A bucket's burst changes by as much as its amount. A share is a part of the limit as
 * changed, unless it is changed itself.
 *
 * @param own rules of the consumer, for this service
 * @param theirs rules of its tenant, for this service
 * @param now unix ms
 * @returns the policy, and the unix ms until which it is valid; the very same policy if no rule names one of its limits
 */
export function adjusted(
  policy: Policy,
  own: readonly AmountRule[],
  theirs: readonly AmountRule[],
  now: number,
): { readonly policy: Policy; readonly until: number } {
  const alive = ({ limit, until = Number.POSITIVE_INFINITY }: AmountRule) =>
    until > now && policy.limits.some(({ name }) => name === limit)
  const [mine, ours] = [own.filter(alive), theirs.filter(alive)]
  const ends = [...mine, ...ours].flatMap(({ until }) => (until === undefined ? [] : [until]))
  const moments = [...new Set(ends)].sort((a, b) => a - b)
  if (mine.length + ours.length === 0) return { policy, until: Number.POSITIVE_INFINITY }

  const amountAt = (limit: Limit, tier: Limit, at: number): Limit => {
    const holds = ({ limit: name, until = Number.POSITIVE_INFINITY }: AmountRule) =>
      name === limit.name && until > at
    const find = (kind: AmountRule['kind'], rules: readonly AmountRule[]) =>
      rules.find((rule) => rule.kind === kind && holds(rule))?.amount
    const override = find('override', mine) ?? find('override', ours)
    const boost = (find('boost', mine) ?? 0) + (find('boost', ours) ?? 0)
    if (override === undefined && boost === 0) return limit
    const amount = within(limit, (override ?? limit.amount) + boost)
    const burst = within(limit, Math.max(1, limit.burst + amount - limit.amount))
    return { ...limit, amount, burst, changed: { tier: tier.amount, override, boost } }
  }
  const limitAt = (limit: Limit, at: number): Limit => {
    const whole = policy.limits.find(({ name }) => name === limit.shareOf)
    if (whole?.share === undefined) return amountAt(limit, limit, at)
    const changed = amountAt(whole, whole, at)
    const share =
      changed === whole ? limit : { ...shareOf(changed, whole.share), changed: asShare(changed, limit) }
    return amountAt(share, limit, at)
  }
  const from = (limit: Limit, at: number, later: readonly number[]): Limit => {
    const present = limitAt(limit, at)
    const [next, ...rest] = later
    if (next === undefined) return present
    const after = from(limit, next, rest)
    // The change that ends may be of another limit, or may have no effect.
    if (after.amount === present.amount && after.burst === present.burst) {
      return present.changed === undefined ? after : { ...present, next: after.next }
    }
    return { ...present, next: { at: next, limit: after } }
  }
  const limits = policy.limits.map((limit) => from(limit, now, moments))
  const { refunds, candidate } = policy
  return {
    policy: { ...policyOf(limits, { refunds, candidate }), alone: undefined, base: policy },
    until: moments[0] ?? Number.POSITIVE_INFINITY,
  }
}

/** Returns the change of a share that changes because its limit does. */
function asShare({ changed }: Limit, tier: Limit): Limit['changed'] {
  return changed && { ...changed, tier: tier.amount, override: undefined, boost: 0 }
}

/** Reduces an amount to what can be counted exactly. */
function within({ windowMs, calendar }: Limit, amount: number): number {
  const most = calendar === undefined ? Math.floor((2 ** 53 - 1) / windowMs) : MOST_AMOUNT
  return Math.min(amount, MOST_AMOUNT, most)
}
