import type { Config } from '../schema/schema.js'

/** Weighted split of a route's requests among services. */
export interface Split<R> {
  readonly members: readonly SplitMember<R>[]
  /** Sum of all weights. */
  readonly total: number
  /** True if a consumer stays with one member. */
  readonly sticky: boolean
}

export interface SplitMember<R> {
  readonly weight: number
  /** Hash of the service's name. A consumer's hash is mixed with it. */
  readonly seed: number
  /** Route with this member's service in place of the first one. */
  readonly route: R
}

type RouteConfig = Config['routes'][number]

/** Returns the service whose limits count for a route; undefined if nothing is forwarded. */
export function countingService(route: RouteConfig): string | undefined {
  return route.service ?? route.split?.[0]?.service
}

/**
 * Compiles a split.
 *
 * @param isOut returns true if a service is in maintenance: the others then take its share, if there are any
 * @param routeTo returns the route as it leads to this service
 */
export function compileSplit<R>(
  { split, sticky }: RouteConfig,
  isOut: (service: string) => boolean,
  routeTo: (service: string) => R,
): Split<R> | undefined {
  if (split === undefined) return undefined
  const weighted = split.filter(({ weight }) => weight > 0)
  const up = weighted.filter(({ service }) => !isOut(service))
  const members = (up.length > 0 ? up : weighted).map(({ service, weight }) => ({
    weight,
    seed: hashOf(service),
    route: routeTo(service),
  }))
  return {
    members,
    total: members.reduce((sum, { weight }) => sum + weight, 0),
    sticky: sticky === 'consumer',
  }
}

/** Returns the member for a number from 0 to below 1. */
export function memberAt<R>({ members, total }: Split<R>, random: number): SplitMember<R> {
  let left = random * total
  for (const member of members) {
    left -= member.weight
    if (left < 0) return member
  }
  return members.at(-1)!
}

/**
 * Returns the member of a consumer: the one with the best weighted draw (rendezvous hashing). If a weight changes, only
 * the consumers move that this member gains or loses. All gateways return the same member.
 */
export function memberOf<R>({ members }: Split<R>, consumer: string): SplitMember<R> {
  const hash = hashOf(consumer)
  let best = members[0]!
  let least = Number.POSITIVE_INFINITY
  for (const member of members) {
    // Exponential draws: the probability that a member has the least one is proportional to its weight.
    const draw = -Math.log((mix(hash ^ member.seed) + 0.5) / 2 ** 32) / member.weight
    if (draw >= least) continue
    least = draw
    best = member
  }
  return best
}

/** FNV-1a hash. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return mix(hash)
}

/** Finalizer of MurmurHash3: every bit of the result depends on every bit of the number. */
function mix(hash: number): number {
  let h = hash ^ (hash >>> 16)
  h = Math.imul(h, 0x85ebca6b)
  h ^= h >>> 13
  h = Math.imul(h, 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
