import type { Policy, Service } from '../config/snapshot.js'
import { consumerPart, limitKey } from './key.js'
import type { DecidedBy, Decision, DegradedReason, Limiter } from './limiter.js'
import { type Counts, expiryOf, takeFrom, usageFrom } from './window.js'

export interface MemoryLimiterOptions {
  /** How many (service, consumer, tier) are remembered; past it the one unused for longest is forgotten. */
  readonly maxKeys?: number
  /** Unix ms. */
  readonly now?: () => number
}

/** What the degraded mode `local` needs beyond a Limiter: a decision at once, signed by whoever asks. */
export interface MemoryLimiter extends Limiter {
  take(service: Service, policy: Policy, consumer: string, cost: number): Decision
  takeAs(
    decidedBy: DecidedBy,
    reason: DegradedReason | undefined,
    service: Service,
    policy: Policy,
    consumer: string,
    cost: number,
  ): Decision
  /** How many keys are held. */
  size(): number
}

interface Entry {
  readonly counts: Counts
  /** Unix ms after which the counts are as good as none. */
  expires: number
}

/** A few expired keys leave with each new one, so a burst of one-off consumers does not stay until the map is full. */
const SWEPT_PER_INSERT = 2

/**
 * Counts in this process: the embedded store, and the `local` mode of a Redis limiter whose store is away. Bounded:
 * a Map in order of use, from whose old end goes what has expired, and what is over `maxKeys`.
 */
export function createMemoryLimiter(options: MemoryLimiterOptions = {}): MemoryLimiter {
  const { maxKeys = 100_000, now = Date.now } = options
  const entries = new Map<string, Entry>()

  function makeRoom(at: number): void {
    let swept = 0
    for (const [key, entry] of entries) {
      if (entries.size <= maxKeys && (entry.expires > at || swept === SWEPT_PER_INSERT)) return
      entries.delete(key)
      swept++
    }
  }

  function takeAs(
    decidedBy: DecidedBy,
    reason: DegradedReason | undefined,
    service: Service,
    policy: Policy,
    consumer: string,
    cost: number,
  ): Decision {
    const key = limitKey(service.name, consumerPart(consumer), policy.keyPart)
    const at = now()
    const known = entries.get(key)
    // Expired is gone, as in Redis, whatever the clock does next.
    const entry = known !== undefined && known.expires >= at ? known : { counts: [], expires: 0 }
    const decision = takeFrom(policy.limits, entry.counts, at, cost, decidedBy, reason)
    // A stranger who is denied costs no memory; a denied consumer who keeps asking is not forgotten for it.
    if (known === undefined && !decision.allowed) return decision
    if (decision.allowed) entry.expires = expiryOf(policy.limits, entry.counts)
    if (known !== undefined) entries.delete(key)
    entries.set(key, entry)
    if (known === undefined) makeRoom(at)
    return decision
  }

  return {
    take: (service, policy, consumer, cost) => takeAs('store', undefined, service, policy, consumer, cost),
    takeAs,
    async usage(service, policy, consumer) {
      const entry = entries.get(limitKey(service.name, consumerPart(consumer), policy.keyPart))
      const at = now()
      return usageFrom(
        policy.limits,
        entry !== undefined && entry.expires >= at ? entry.counts : undefined,
        at,
      )
    },
    async reset(service, consumer) {
      const part = consumerPart(consumer)
      for (const policy of service.policies) {
        if (policy !== undefined) entries.delete(limitKey(service.name, part, policy.keyPart))
      }
    },
    state: () => 'up',
    async close() {
      entries.clear()
    },
    size: () => entries.size,
  }
}
