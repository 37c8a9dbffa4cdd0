import { isIP } from 'node:net'
import { performance } from 'node:perf_hooks'
import type { Service, Snapshot, Upstream } from '../config/snapshot.js'
import { openSender } from './connections.js'
import type { Sender } from './sender.js'

/** An address that refused a connection is passed over for this long while others are up; then one request tries. */
const DOWN_MS = 1_000
/** How long the connections to a host name are kept: DNS is asked again at least this often. */
const RENEW_MS = 30_000

export interface UpstreamLimits {
  /** Connections to one address. Further requests wait in a queue. */
  readonly connections: number
  /** Requests under way or waiting for one address; beyond it the caller gets 503 at once. */
  readonly inFlight: number
}

const LIMITS: UpstreamLimits = { connections: 128, inFlight: 10_000 }

/**
 * The running side of one origin, shared by all that name it with the same settings. Lives across reloads: a new snapshot
 * finds it warm.
 */
interface Address {
  readonly upstream: Upstream
  pool: Sender
  /** `performance.now()` when the pool must be renewed; Infinity for an IP address, which never moves. */
  renewAt: number
  inFlight: number
  /** `performance.now()` until which the address is passed over; 0 while it is up. */
  downUntil: number
  /** No snapshot in force names it: the pool goes with the last request. */
  retired: boolean
  closed: boolean
}

/** One upstream of a service. Services may share an address and yet have base paths of their own. */
export interface Target {
  readonly upstream: Upstream
  readonly address: Address
}

export interface Upstreams {
  /**
   * The address for the next request of a service: round robin over those that are up, or over all when none is.
   *
   * @param tried those that this request has been to already
   * @returns undefined when every other one has too many requests under way
   */
  pick(service: Service, tried?: readonly Target[]): Target | undefined
  /** A request goes to the target: between the two its pool stays open. Every `begun` needs its `ended`. */
  begun(target: Target): Sender
  ended(target: Target): void
  /** Says that a connection to the address failed, or that it answered. */
  failed(target: Target): void
  answered(target: Target): void
  /** Every configured address with its state, for the metrics. */
  health(): Iterable<{ service: string; upstream: string; healthy: boolean }>
  /** Closes the pools that no snapshot needs any more, once what they carry is through. */
  retain(snapshot: Snapshot): void
  close(): Promise<void>
}

/** @param now ms that never go back */
export function createUpstreams(
  initial: Snapshot,
  limits: UpstreamLimits = LIMITS,
  now: () => number = () => performance.now(),
): Upstreams {
  const addresses = new Map<string, Address>()
  const rotations = new WeakMap<Service, { readonly targets: readonly Target[]; next: number }>()
  const pools = new Set<Sender>()
  let snapshot = initial

  function open(upstream: Upstream): Sender {
    const pool = openSender(upstream, limits.connections)
    pools.add(pool)
    return pool
  }

  /** Graceful: what is in flight goes through. There is nothing to tell if it fails. */
  function leave(pool: Sender): void {
    const gone = () => pools.delete(pool)
    pool.close().then(gone, gone)
  }

  function addressOf(upstream: Upstream): Address {
    let found = addresses.get(upstream.key)
    if (found === undefined) {
      found = {
        upstream,
        pool: open(upstream),
        renewAt: now() + lifetime(upstream),
        inFlight: 0,
        downUntil: 0,
        retired: false,
        closed: false,
      }
      addresses.set(upstream.key, found)
    }
    return found
  }

  function rotationOf(service: Service) {
    let rotation = rotations.get(service)
    if (rotation === undefined) {
      const targets = service.upstreams.map((upstream) => ({ upstream, address: addressOf(upstream) }))
      rotation = { targets, next: 0 }
      rotations.set(service, rotation)
    }
    return rotation
  }

  function closeWhenIdle(address: Address): void {
    if (!address.retired || address.closed || address.inFlight > 0) return
    address.closed = true
    leave(address.pool)
  }

  function renew(address: Address): void {
    if (!address.closed) leave(address.pool)
    address.closed = false
    address.pool = open(address.upstream)
    address.renewAt = now() + lifetime(address.upstream)
  }

  return {
    pick(service, tried) {
      const rotation = rotationOf(service)
      const { targets } = rotation
      let fallback = -1
      for (let i = 0; i < targets.length; i++) {
        const index = rotation.next
        const candidate = targets[index]!
        rotation.next = index + 1 === targets.length ? 0 : index + 1
        const { address } = candidate
        if (address.inFlight >= limits.inFlight || tried?.includes(candidate)) continue
        if (address.downUntil === 0) return candidate
        const time = now()
        if (address.downUntil <= time) {
          // One request finds out whether it is back; until it has, the others go on passing it over.
          address.downUntil = time + DOWN_MS
          return candidate
        }
        if (fallback < 0) fallback = index
      }
      if (fallback < 0) return undefined
      rotation.next = (fallback + 1) % targets.length
      return targets[fallback]
    },
    begun({ address }) {
      // A request that captured the snapshot before a reload may come when its address was closed already.
      if (address.closed || (address.renewAt !== Infinity && address.renewAt <= now())) renew(address)
      address.inFlight++
      return address.pool
    },
    ended({ address }) {
      address.inFlight--
      if (address.retired) closeWhenIdle(address)
    },
    failed({ address }) {
      address.downUntil = now() + DOWN_MS
    },
    answered({ address }) {
      if (address.downUntil !== 0) address.downUntil = 0
    },
    *health() {
      for (const service of snapshot.services) {
        for (const { origin, key } of service.upstreams) {
          // Stays down in the metric until it has answered again, though it is tried again after a second.
          const healthy = (addresses.get(key)?.downUntil ?? 0) === 0
          yield { service: service.name, upstream: origin, healthy }
        }
      }
    },
    retain(next) {
      snapshot = next
      const kept = new Set(next.services.flatMap((service) => service.upstreams.map((u) => u.key)))
      for (const [key, address] of addresses) {
        if (kept.has(key)) continue
        addresses.delete(key)
        address.retired = true
        closeWhenIdle(address)
      }
    },
    async close() {
      addresses.clear()
      await Promise.all([...pools].map((pool) => pool.destroy()))
    },
  }
}

/** Ms that connections to an origin are kept. An IP address never moves. */
function lifetime({ origin }: Upstream): number {
  const { hostname } = new URL(origin)
  return isIP(hostname) !== 0 || hostname.startsWith('[') ? Infinity : RENEW_MS
}
