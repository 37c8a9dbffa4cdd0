import { performance } from 'node:perf_hooks'
import { Pool } from 'undici'
import type { Service, Snapshot, Upstream } from '../config/snapshot.js'

/** Connections to one upstream address. Further requests wait in a queue. */
const CONNECTIONS = 128
/** Requests under way or waiting for one address; beyond it the caller gets 503 at once. */
const MAX_IN_FLIGHT = 10_000
/** An address that refused a connection is passed over for this long while others are up. */
const DOWN_MS = 1_000

/** The running side of one upstream address. Lives across reloads: a new snapshot finds its connections warm. */
export interface Target {
  readonly upstream: Upstream
  readonly pool: Pool
  inFlight: number
  /** `performance.now()` until which the address is passed over; 0 while it is up. */
  downUntil: number
}

export interface Upstreams {
  /**
   * The address for the next request of a service: round robin over those that are up, or over all when none is.
   * Not `except`, if there is another.
   *
   * @returns undefined when every candidate has too many requests under way
   */
  pick(service: Service, except?: Target): Target | undefined
  /** Says that a connection to the address failed, or that it answered. */
  failed(target: Target): void
  answered(target: Target): void
  /** Every configured address with its state, for the metrics. */
  health(): Iterable<{ service: string; upstream: string; healthy: boolean }>
  /** Closes the pools that no snapshot needs any more, once what they carry is through. */
  retain(snapshot: Snapshot): void
  close(): Promise<void>
}

export function createUpstreams(initial: Snapshot): Upstreams {
  const targets = new Map<string, Target>()
  const turns = new WeakMap<Service, { next: number }>()
  let snapshot = initial

  function target(upstream: Upstream): Target {
    let found = targets.get(upstream.origin)
    if (found === undefined) {
      found = { upstream, pool: openPool(upstream.origin), inFlight: 0, downUntil: 0 }
      targets.set(upstream.origin, found)
    }
    return found
  }

  return {
    pick(service, except) {
      const { upstreams } = service
      if (upstreams.length === 1) {
        const only = target(upstreams[0]!)
        return only === except || only.inFlight >= MAX_IN_FLIGHT ? undefined : only
      }
      let turn = turns.get(service)
      if (turn === undefined) {
        turn = { next: 0 }
        turns.set(service, turn)
      }
      const now = performance.now()
      let fallback: Target | undefined
      for (let i = 0; i < upstreams.length; i++) {
        const index = turn.next
        turn.next = (index + 1) % upstreams.length
        const candidate = target(upstreams[index]!)
        if (candidate === except || candidate.inFlight >= MAX_IN_FLIGHT) continue
        if (candidate.downUntil <= now) return candidate
        fallback ??= candidate
      }
      return fallback
    },
    failed(target) {
      target.downUntil = performance.now() + DOWN_MS
    },
    answered(target) {
      if (target.downUntil !== 0) target.downUntil = 0
    },
    *health() {
      for (const service of snapshot.services) {
        for (const upstream of service.upstreams) {
          // Stays down in the metric until it has answered again, though it is tried again after a second.
          const healthy = (targets.get(upstream.origin)?.downUntil ?? 0) === 0
          yield { service: service.name, upstream: upstream.origin, healthy }
        }
      }
    },
    retain(next) {
      snapshot = next
      const kept = new Set(next.services.flatMap((service) => service.upstreams.map((u) => u.origin)))
      for (const [origin, { pool }] of targets) {
        if (kept.has(origin)) continue
        targets.delete(origin)
        // Graceful: resolves when what is in flight is through. It has nothing to tell if it fails.
        pool.close().catch(() => {})
      }
    },
    async close() {
      await Promise.all([...targets.values()].map(({ pool }) => pool.destroy()))
      targets.clear()
    },
  }
}

function openPool(origin: string): Pool {
  return new Pool(origin, {
    connections: CONNECTIONS,
    // One request at a time on a connection: a stray byte after a response can never become another's answer.
    pipelining: 1,
    connect: { timeout: 2_000 },
    keepAliveTimeout: 4_000,
    keepAliveMaxTimeout: 60_000,
    keepAliveTimeoutThreshold: 2_000,
    maxHeaderSize: 16_384,
    // DNS is asked again at least this often.
    clientTtl: 30_000,
    allowH2: false,
    // The exchange watches its own times (gateway/watchdog.ts): undici's run on a clock of half a second.
    headersTimeout: 0,
    bodyTimeout: 0,
  })
}
