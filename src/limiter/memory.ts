import type { Policy, Service } from '../config/snapshot.js'
import { consumerPart, limitKey } from './key.js'
import type { DecidedBy, Decision, DegradedReason, Limiter } from './limiter.js'
import { type Counts, expiryOf, takeFrom, usageFrom } from './window.js'

export interface MemoryLimiterOptions {
  /** How many (service, consumer, tier) are remembered; past it one that was not used for long is forgotten. */
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
  readonly key: string
  counts: Counts
  /** Unix ms after which the counts are as good as none. */
  expires: number
  /** Since the hand came by. */
  used: boolean
}

/** As long as it gets: an array that grows makes room for 17 numbers, and there may be a million of these. */
function noCounts(policy: Policy): Counts {
  return new Array<number>(3 * policy.limits.length)
}

/** How many entries a new one looks at: two keep pace with what expires; more only when there is no room. */
const LOOKS = 2
const LOOKS_WHEN_FULL = 16

/**
 * Counts in this process: the embedded store, and the `local` mode of a Redis limiter whose store is away. Bounded by
 * `maxKeys`: a hand goes round the entries as new ones come; what has expired leaves, and when there is no room, what
 * was not used since the hand came by. A request of a known consumer moves nothing. (Not a Map in order of use:
 * looking for its oldest entry passes over all that were deleted before.)
 */
export function createMemoryLimiter(options: MemoryLimiterOptions = {}): MemoryLimiter {
  const { maxKeys = 100_000, now = Date.now } = options
  const entries = new Map<string, Entry>()
  const ring: Entry[] = []
  let hand = 0

  function makeRoom(at: number): void {
    for (let looks = 1; ring.length > 0; looks++) {
      const full = ring.length >= maxKeys
      if (!full && looks > LOOKS) return
      hand = hand < ring.length ? hand : 0
      const entry = ring[hand]!
      if (entry.expires < at || (full && (!entry.used || looks >= LOOKS_WHEN_FULL))) {
        entries.delete(entry.key)
        const last = ring.pop()!
        if (last !== entry) ring[hand] = last
      } else if (full) entry.used = false
      hand++
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
    const key = limitKey(service.name, consumerPart(consumer), policy.parts[0]!.keyPart)
    const at = now()
    const known = entries.get(key)
    // Expired is gone, as in Redis, whatever the clock does next.
    const counts = known !== undefined && known.expires >= at ? known.counts : noCounts(policy)
    const decision = takeFrom(policy.limits, counts, at, cost, decidedBy, reason)
    if (known !== undefined) {
      known.used = true
      if (!decision.allowed) return decision
      known.counts = counts
      known.expires = expiryOf(policy.limits, counts)
    } else if (decision.allowed) {
      makeRoom(at)
      const entry = { key, counts, expires: expiryOf(policy.limits, counts), used: false }
      entries.set(key, entry)
      ring.push(entry)
    }
    return decision
  }

  return {
    take: (service, policy, consumer, cost) => takeAs('store', undefined, service, policy, consumer, cost),
    takeAs,
    settle() {},
    async usage(service, policy, consumer) {
      const entry = entries.get(limitKey(service.name, consumerPart(consumer), policy.parts[0]!.keyPart))
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
        const entry = policy && entries.get(limitKey(service.name, part, policy.parts[0]!.keyPart))
        if (entry !== undefined) entry.expires = 0
      }
    },
    state: () => 'up',
    async close() {
      entries.clear()
      ring.length = 0
    },
    size: () => entries.size,
  }
}
