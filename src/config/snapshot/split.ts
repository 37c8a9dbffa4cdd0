import { bestFor, hashText } from '../../common/rendezvous.js'
import type { Config } from '../schema/schema.js'

/** Weighted split of a route's requests among services. */
export interface Split<R> {
  readonly members: readonly SplitMember<R>[]
  /** Hashes of the services' names, and the weights, in the order of the members. */
  readonly seeds: readonly number[]
  readonly weights: readonly number[]
  /** Sum of all weights. */
  readonly total: number
  /** True if a consumer stays with one member. */
  readonly sticky: boolean
}

export interface SplitMember<R> {
  readonly weight: number
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
  const chosen = up.length > 0 ? up : weighted
  return {
    members: chosen.map(({ service, weight }) => ({ weight, route: routeTo(service) })),
    seeds: chosen.map(({ service }) => hashText(service)),
    weights: chosen.map(({ weight }) => weight),
    total: chosen.reduce((sum, { weight }) => sum + weight, 0),
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
export function memberOf<R>({ members, seeds, weights }: Split<R>, consumer: string): SplitMember<R> {
  return members[bestFor(hashText(consumer), seeds, weights)]!
}
