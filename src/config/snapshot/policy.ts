import type { Level, Limit } from './limit.js'
import { keyPartOf, policyHeader } from './limit-names.js'

/** All limits of one tier on one service: they pass together or not at all. */
export interface Policy {
  /** 1 to 8, in the order of the file. */
  readonly limits: readonly Limit[]
  /** The limits by whose quota they are, in the order that they are asked: the most specific first. */
  readonly parts: readonly Part[]
  /** Whether a limit is one of `concurrency`: an allowed request holds a slot until it is settled. */
  readonly slots: boolean
  /** Whether what was charged may be given back after the response (`refund_on` of a route of the service). */
  readonly refunds: boolean
  /** Limits that are counted beside these on the same traffic and decide nothing. Has no candidate of its own. */
  readonly candidate: Policy | undefined
  /** What holds instead for a consumer without a tenant, where a tenant's quota is shared out: nobody else takes of its own. */
  readonly alone: Policy | undefined
  /** The policy of the tier, where this is that with other amounts for somebody. */
  readonly base: Policy | undefined
  /** The RateLimit-Policy field value, the same for every response. */
  readonly header: string
}

/** The limits of a policy that are counted under one key. */
export interface Part {
  readonly by: Level
  /** Whether it is each consumer's share of what is by that level: counted for every consumer of it apart. */
  readonly each: boolean
  readonly limits: readonly Limit[]
  /** Of each limit, its index into `policy.limits`. */
  readonly indices: readonly number[]
  /**
   * Last part of the Redis key: level, algorithms and windows, not amounts, so that a raised limit goes on with what
   * was used already. `1m`, `1s1h`, `1s+strict.1m`, `ip:1m`; of shares `tenant:share:1m`, behind which the consumer stands.
   */
  readonly keyPart: string
}

/** The order in which levels are asked: what the fewest share first, so that a denial there costs nobody else anything. */
const LEVELS: readonly Level[] = ['ip', 'consumer', 'tenant', 'route', 'service']

/** A policy of limits in the order of the file. `prefix` keeps its counts apart from those of other policies. */
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

/** Of the limits by a level, or of the shares in them. */
function partOf(limits: readonly Limit[], by: Level, each: boolean, prefix: string): Part[] {
  const indices = limits.flatMap((limit, i) =>
    limit.by === by && (limit.shareOf !== undefined) === each ? [i] : [],
  )
  const own = indices.map((i) => limits[i]!)
  return own.length === 0
    ? []
    : [{ by, each, limits: own, indices, keyPart: prefix + keyPartOf(by, own, each) }]
}

/** The policy that holds for a consumer of that tenant, or of none. */
export function forTenant(policy: Policy, tenant: string | undefined): Policy {
  return tenant === undefined && policy.alone !== undefined ? policy.alone : policy
}
