import { type Limit, type Policy, policyOf, shareOf } from '../config/snapshot/snapshot.js'

/** One thing that is changed about a limit, by its name. */
export interface AmountRule {
  readonly kind: 'boost' | 'override'
  readonly limit: string
  readonly amount: number
  /** Unix ms; undefined: for good. */
  readonly until: number | undefined
}

/** What the packed counters hold. */
export const MOST_AMOUNT = 2 ** 25 - 1

/**
 * The policy with what is changed of its limits: the override of the consumer, else that of its tenant, else the tier's own amount;
 * and the boosts of both on top. What ends is in it, so that it ends by whatever clock decides. A bucket's burst changes by as much
 * as its amount; a share is of the limit as it is then, unless it is changed itself.
 *
 * @param own rules of the consumer, of this service
 * @param theirs the same of its tenant
 * @param now unix ms
 * @returns the policy, and unix ms up to which it is right; the very same policy when none of its limits is meant
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
    // What ends may be of another limit, or may change nothing.
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

/** A share that is changed because what it is a share of is. */
function asShare({ changed }: Limit, tier: Limit): Limit['changed'] {
  return changed && { ...changed, tier: tier.amount, override: undefined, boost: 0 }
}

/** As much as can be counted exactly. */
function within({ windowMs, calendar }: Limit, amount: number): number {
  const most = calendar === undefined ? Math.floor((2 ** 53 - 1) / windowMs) : MOST_AMOUNT
  return Math.min(amount, MOST_AMOUNT, most)
}
