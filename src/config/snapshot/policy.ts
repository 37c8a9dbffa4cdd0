import type { Level, Limit } from './limit.js'
import { keyPartOf, policyHeader } from './limit-names.js'

/** Limits of one tier on one service. They pass together or not at all. */
export interface Policy {
  /** Limits in the order of the file, 1 to 8. */
  readonly limits: readonly Limit[]
  /** Limits grouped by level, in the order of evaluation: the most specific first. */
  readonly parts: readonly LimitGroup[]
  /** True if a limit is a `concurrency` limit: an allowed request then holds a slot until it is settled. */
  readonly slots: boolean
  /** True if a charge may be refunded after the response (`refund_on` of a route of the service). */
  readonly refunds: boolean
  /** Limits that are counted on the same traffic and decide nothing. They have no candidate of their own. */
  readonly candidate: Policy | undefined
  /** Policy for a consumer without a tenant, if a tenant's quota is shared out: its quota is its own. */
  readonly alone: Policy | undefined
  /** Policy of the tier, if this one differs from it by changed amounts. */
  readonly base: Policy | undefined
  /** Value of the RateLimit-Policy header, the same for every response. */
  readonly header: string
}

/** Limits of a policy that are counted under one key. */
export interface LimitGroup {
  readonly by: Level
  /** True for each consumer's share of a limit on that level. It is counted for every consumer separately. */
  readonly each: boolean
  readonly limits: readonly Limit[]
  /** Index of each limit in `policy.limits`. */
  readonly indices: readonly number[]
  /**
   * Last part of the Redis key: level, algorithms and windows, without amounts, so that a raised limit keeps its
   * counts. `1m`, `1s1h`, `1s+strict.1m`, `ip:1m`. For shares `tenant:share:1m`, followed by the consumer.
   */
  readonly keyPart: string
}

/** Order of evaluation: levels shared by the fewest first, so that a denial there costs no other consumer anything. */
const LEVELS: readonly Level[] = ['ip', 'consumer', 'tenant', 'route', 'service']

/** Makes a policy of limits in the order of the file. `prefix` keeps its counts apart from those of other policies. */
export function policyOf(
  limits: readonly Limit[],
  { refunds, candidate, prefix = '' }: Pick<Policy, 'refunds' | 'candidate'> & { readonly prefix?: string },
): Policy {
  const parts = LEVELS.flatMap((by) => [true, false].flatMap((each) => partOf(limits, by, each, prefix)))
  const slots = limits.some(({ algorithm }) => algorithm === 'concurrency')
  const header = policyHeader(limits)
  const own = limits.filter(({ by, shareOf }) => by !== 'tenant' || shareOf === undefined)
  const tried = candidate && forTenant(candidate, undefined)
  const alone =
    own.length === limits.length && tried === candidate
      ? undefined
      : policyOf(own, { refunds, candidate: tried, prefix })
  return { limits, parts, slots, refunds, candidate, alone, base: undefined, header }
}

/** Returns the part for the limits of a level, or for the shares in them. */
function partOf(limits: readonly Limit[], by: Level, each: boolean, prefix: string): LimitGroup[] {
  const indices = limits.flatMap((limit, i) =>
    limit.by === by && (limit.shareOf !== undefined) === each ? [i] : [],
  )
  const own = indices.map((i) => limits[i]!)
  return own.length === 0
    ? []
    : [{ by, each, limits: own, indices, keyPart: prefix + keyPartOf(by, own, each) }]
}

/** Returns the policy for a consumer of that tenant, or without one. */
export function forTenant(policy: Policy, tenant: string | undefined): Policy {
  return tenant === undefined && policy.alone !== undefined ? policy.alone : policy
}
