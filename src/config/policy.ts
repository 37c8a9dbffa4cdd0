import type { Level, Limit } from './limit.js'
import { keyPartOf, policyHeader } from './names.js'

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
  /** The RateLimit-Policy field value, the same for every response. */
  readonly header: string
}

/** The limits of a policy that are counted under one key. */
export interface Part {
  readonly by: Level
  readonly limits: readonly Limit[]
  /** Of each limit, its index into `policy.limits`. */
  readonly indices: readonly number[]
  /**
   * Last part of the Redis key: level, algorithms and windows, not amounts, so that a raised limit goes on with what
   * was used already. `1m`, `1s1h`, `1s+strict.1m`, `ip:1m`.
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
  const parts = LEVELS.flatMap((by): Part[] => {
    const indices = limits.flatMap((limit, i) => (limit.by === by ? [i] : []))
    const own = indices.map((i) => limits[i]!)
    return own.length === 0 ? [] : [{ by, limits: own, indices, keyPart: prefix + keyPartOf(by, own) }]
  })
  const slots = limits.some(({ algorithm }) => algorithm === 'concurrency')
  return { limits, parts, slots, refunds, candidate, header: policyHeader(limits) }
}
