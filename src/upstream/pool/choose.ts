import type { Balance, Upstream } from '../../config/snapshot/upstream-settings.js'
import type { Holding } from '../../shares.js'
import { type Balancer, hashing, leastRequests, roundRobin } from './balance.js'
import { type Endpoint, isOut, settle, shareOf, tryAgain } from './endpoint.js'

/** One upstream of a service, as a snapshot has it. */
export interface Target {
  readonly upstream: Upstream
  readonly endpoint: Endpoint
}

/**
 * Reason why there is no upstream: all have as many requests as they may have; an operator has drained them all; the
 * request has tried all of them.
 */
export type NoTarget = 'busy' | 'drained' | 'tried'

/** A request, with the caller that it counts for. */
export interface Asking {
  /** Read only when connections are scarce. Undefined: the request is exempt from the cap. */
  readonly caller: string | undefined
  /** Its counted place among the connections, if it has one. */
  place: Holding | undefined
}

/** The upstreams to choose from, and the method. */
export interface Choice {
  readonly targets: readonly Target[]
  readonly balancer: Balancer
  /** Returns true if a caller may have one more, given so many free ones. */
  readonly leavesRoom: (asking: Asking, free: number) => boolean
  /** Scratch array, so that choosing allocates nothing. */
  readonly weights: Float64Array
}

/** Share of the connections in use from which they are counted per caller; below it, there are enough for all. */
const SCARCE_FROM = 1 / 4
/**
 * With fewer connections than this, they are always counted: the uncounted part would come on top of a caller's share.
 */
const FEW = 64

/** Returns true if the next request of the upstream must be counted for its caller. */
export function isScarce({ inFlight, capacity }: Endpoint): boolean {
  return capacity < FEW || inFlight >= capacity * SCARCE_FROM
}

/**
 * Creates a choice.
 *
 * @param random returns a number from 0 to below 1
 */
export function createChoice(
  { kind }: Balance,
  targets: readonly Target[],
  random: () => number,
  leavesRoom: Choice['leavesRoom'],
): Choice {
  const balancer =
    kind === 'round_robin'
      ? roundRobin(targets.length)
      : kind === 'least_requests'
        ? leastRequests((i) => targets[i]!.endpoint.inFlight + targets[i]!.endpoint.tunnels, random)
        : hashing(targets.map(({ endpoint }) => endpoint.address))
  return { targets, balancer, leavesRoom, weights: new Float64Array(targets.length) }
}

/**
 * Chooses an upstream that is in service and has room, by weight; when all are out, chooses one of them anyway.
 *
 * @param asking left out: the request has no caller, and takes what is free
 * @param tunnel true if it needs no room: tunnels are counted elsewhere
 * @returns `over_share`: an upstream has room, but that is for other callers
 */
export function chooseTarget(
  choice: Choice,
  key: string | undefined,
  tried: readonly Target[] | undefined,
  now: () => number,
  asking?: Asking,
  tunnel = false,
): Target | NoTarget | 'over_share' {
  const { targets, balancer, weights } = choice
  let time = 0
  let room = 0
  let free = 0
  let some = false
  let busy = false
  let out = false
  for (let i = 0; i < targets.length; i++) {
    const target = targets[i]!
    const { endpoint } = target
    weights[i] = 0
    if (tried?.includes(target)) continue
    if (endpoint.state !== 'serving') {
      if (time === 0) time = now()
      settle(endpoint, time)
      if (isOut(endpoint, time)) {
        out = true
        continue
      }
    }
    room += endpoint.capacity
    if (!tunnel && endpoint.inFlight >= endpoint.capacity) busy = true
    else {
      free += endpoint.capacity - endpoint.inFlight
      weights[i] = endpoint.rampFrom === 0 ? endpoint.upstream.weight : shareOf(endpoint, time)
      some = true
    }
  }
  if (!some && !busy) {
    if (!out) return 'tried'
    const left = weighAll(choice, tried, tunnel)
    if (left !== undefined) return left
  } else if (!some) return 'busy'
  else if (asking !== undefined && free <= room * (1 - SCARCE_FROM) && !choice.leavesRoom(asking, free))
    return 'over_share'
  const target = targets[balancer.choose(weights, key)]!
  if (target.endpoint.unreachableUntil !== 0) tryAgain(target.endpoint, time)
  return target
}

/**
 * Weighs all upstreams that no operator has drained. When all are out, trying them is better than refusing every
 * request.
 *
 * @returns the reason if there is none even so
 */
function weighAll(
  { targets, weights }: Choice,
  tried: readonly Target[] | undefined,
  tunnel: boolean,
): NoTarget | undefined {
  let some = false
  let busy = false
  for (let i = 0; i < targets.length; i++) {
    const target = targets[i]!
    const { endpoint } = target
    if (endpoint.drained || tried?.includes(target)) continue
    if (!tunnel && endpoint.inFlight >= endpoint.capacity) busy = true
    else {
      weights[i] = endpoint.upstream.weight
      some = true
    }
  }
  if (some) return undefined
  if (busy) return 'busy'
  return targets.every(({ endpoint }) => endpoint.drained) ? 'drained' : 'tried'
}
