import type { Config } from '../schema/schema.js'

/** Where the requests of a route go by weight. */
export interface Split<R> {
  readonly members: readonly Member<R>[]
  /** Of all weights. */
  readonly total: number
  /** Whether a consumer stays with one member. */
  readonly sticky: boolean
}

export interface Member<R> {
  readonly weight: number
  /** Of the service's name: what a consumer's hash is mixed with. */
  readonly seed: number
  /** The route with this member's service in place of the first one's. */
  readonly route: R
}

type RouteConfig = Config['routes'][number]

/** The service whose limits count for a route; undefined where nothing is forwarded. */
export function countingService(route: RouteConfig): string | undefined {
  return route.service ?? route.split?.[0]?.service
}

/**
 * @param isOut whether a service is in maintenance: the others take its share, as long as there are others
 * @param routeTo the route as it is when it leads to this service
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

/** The member that a number from 0 up to, but not, 1 falls to. */
export function memberAt<R>({ members, total }: Split<R>, random: number): Member<R> {
  let left = random * total
  for (const member of members) {
    left -= member.weight
    if (left < 0) return member
  }
  return members.at(-1)!
}

/**
 * The member that a consumer belongs to: the one whose draw for it is the best, by weight (rendezvous hashing). When a
 * weight changes, only those move that it takes from others or loses to them; all gateways say the same.
 */
export function memberOf<R>({ members }: Split<R>, consumer: string): Member<R> {
  const hash = hashOf(consumer)
  let best = members[0]!
  let least = Number.POSITIVE_INFINITY
  for (const member of members) {
    // Exponential draws: the least of them is that of a member with the probability of its weight.
    const draw = -Math.log((mix(hash ^ member.seed) + 0.5) / 2 ** 32) / member.weight
    if (draw >= least) continue
    least = draw
    best = member
  }
  return best
}

/** FNV-1a. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return mix(hash)
}

/** The end of MurmurHash3: every bit of the result hangs on every bit of the number. */
function mix(hash: number): number {
  let h = hash ^ (hash >>> 16)
  h = Math.imul(h, 0x85ebca6b)
  h ^= h >>> 13
  h = Math.imul(h, 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
