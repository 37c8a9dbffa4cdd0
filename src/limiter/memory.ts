import type { LimitGroup } from '../config/snapshot/policy.js'
import type { Counts } from './algorithms/algorithm.js'
import { consumerKeys, keyOf, keysOf } from './counter-keys.js'
import { expiryOf, previewFrom, settleIn, sizeOf, takeFrom, usageFrom, usageOf } from './decide.js'
import type { Asking, Charge, DecidedBy, Decision, DegradedReason, Limiter, Slot, Taking } from './limiter.js'

export interface MemoryLimiterOptions {
  /** Maximum number of keys. Beyond it, a key without recent use is forgotten. */
  readonly maxKeys?: number
  /** Clock, in unix ms. */
  readonly now?: () => number
  /** Returns the initial counts of an unknown key. Default: none. */
  readonly seed?: (key: string, part: LimitGroup) => Counts | undefined
}

/** Limiter with what the degraded mode `local` needs in addition: decisions at once, labelled by the caller. */
export interface MemoryLimiter extends Limiter {
  take(...asking: Asking): Decision
  decide(taking: Taking): Decision
  takeAs(decidedBy: DecidedBy, reason: DegradedReason | undefined, ...asking: Asking): Decision
  settle(charge: Charge, quota: number, slot: Slot): void
  /** Returns true if anything is to be claimed. */
  owes(): boolean
  /** Takes what was charged to a key here since the last claim without asking the store; undefined if nothing. */
  claim(key: string): Counts | undefined
  /** Records that the store has charged what was claimed. The key is forgotten, unless more was charged meanwhile. */
  paid(key: string): void
  /** Returns the stored counts of a key. */
  peek(key: string): { readonly counts: Readonly<Counts>; readonly expires: number } | undefined
  /** Returns the number of keys. */
  size(): number
}

interface Entry {
  readonly key: string
  counts: Counts
  /** Unix ms after which the counts are equivalent to none. */
  expires: number
  /** Counts that the store does not know of, each limit's by its own windows; undefined if the store knows all. */
  owed: Counts | undefined
  /** True if it was used since the hand last passed. */
  used: boolean
}

/** Entries that a new one checks. Two keep pace with expiry. More are only checked when there is no room. */
const LOOKS = 2
const LOOKS_WHEN_FULL = 16

/**
 * Counts in this process: the whole store of a single gateway, and the fallback for `local`. `maxKeys` bounds the
 * memory. A hand goes round the entries as new ones arrive. It removes expired ones and, if there is no room, those not
 * used since it last passed. A request of a known consumer moves nothing. (A Map in order of use is not an option:
 * searching its oldest entry passes over all that were deleted before.)
 */
export function createMemoryLimiter(options: MemoryLimiterOptions = {}): MemoryLimiter {
  const { maxKeys = 100_000, now = Date.now, seed = () => undefined } = options
  const entries = new Map<string, Entry>()
  const ring: Entry[] = []
  let hand = 0
  let owing = 0

  function makeRoom(at: number): void {
    for (let looks = 1; ring.length > 0; looks++) {
      const full = ring.length >= maxKeys
      if (!full && looks > LOOKS) return
      hand = hand < ring.length ? hand : 0
      const entry = ring[hand]!
      if (entry.expires < at || (full && (!entry.used || looks >= LOOKS_WHEN_FULL))) remove(entry, hand)
      else if (full) entry.used = false
      hand++
    }
  }

  function owe(entry: Entry, owed: Counts | undefined): void {
    owing += Number(owed !== undefined) - Number(entry.owed !== undefined)
    entry.owed = owed
  }

  function remove(entry: Entry, index: number): void {
    owe(entry, undefined)
    entries.delete(entry.key)
    const last = ring.pop()!
    if (last !== entry) ring[index] = last
  }

  /**
   * Returns the counts of a part, in an array of its final length: a growing array allocates room for 17, and there may
   * be a million.
   */
  function countsOf(entry: Entry | undefined, key: string, part: LimitGroup, at: number): Counts {
    // An expired entry is gone, as in Redis, whatever the clock does next.
    if (entry !== undefined && entry.expires >= at) return entry.counts
    return seed(key, part) ?? new Array<number>(sizeOf(part.limits))
  }

  /** Returns the counts that a request would find, for reading only. */
  function held(key: string, part: LimitGroup, at: number): Counts | undefined {
    const entry = entries.get(key)
    return entry !== undefined && entry.expires >= at ? entry.counts : seed(key, part)
  }

  function keep(entry: Entry | undefined, key: string, counts: Counts, expires: number, at: number): Entry {
    // Making room for another key of the same request may have removed it.
    if (entry !== undefined && entries.get(key) === entry) {
      if (entry.expires < at) owe(entry, undefined)
      entry.counts = counts
      entry.expires = expires
      return entry
    }
    makeRoom(at)
    const made = { key, counts, expires, owed: undefined, used: false }
    entries.set(key, made)
    ring.push(made)
    return made
  }

  const takeAs: MemoryLimiter['takeAs'] = (
    decidedBy,
    reason,
    service,
    policy,
    consumer,
    cost,
    levels,
    shows,
  ) => {
    const { parts } = policy
    const at = now()
    const keys = keysOf(service.name, parts, consumer, levels)
    const known = keys.map((key) => entries.get(key))
    const counts = keys.map((key, k) => countsOf(known[k], key, parts[k]!, at))
    const decision = takeFrom(parts, counts, at, cost, decidedBy, reason, shows)
    for (const entry of known) if (entry !== undefined) entry.used = true
    for (let k = 0; decision.allowed && k < parts.length; k++) {
      const entry = keep(known[k], keys[k]!, counts[k]!, expiryOf(parts[k]!.limits, counts[k]!), at)
      // If the store was asked in vain, it may have charged the request. That must not be charged again.
      if (reason === 'breaker') {
        const { limits } = parts[k]!
        const owed = entry.owed ?? new Array<number>(sizeOf(limits))
        settleIn(limits, owed, at, cost, at, 'keep', 0)
        owe(entry, owed)
      }
    }
    return decision
  }

  return {
    take: (...asking) => takeAs('store', undefined, ...asking),
    decide: ({ service, policy, consumer, cost, levels, shows }) =>
      takeAs('store', undefined, service, policy, consumer, cost, levels, shows),
    takeAs,
    settle(charge, quota, slot) {
      const { service, policy, consumer, levels } = charge
      const at = now()
      const keys = keysOf(service.name, policy.parts, consumer, levels)
      for (const [k, part] of policy.parts.entries()) {
        const key = keys[k]!
        const entry = entries.get(key)
        const adds = settles(part, quota, slot)
        if (adds === undefined || (!adds && (entry === undefined || entry.expires < at))) continue
        const counts = countsOf(entry, key, part, at)
        settleIn(part.limits, counts, at, quota, charge.at, slot, charge.slotAt)
        const expires = adds ? expiryOf(part.limits, counts) : entry!.expires
        const kept = keep(entry, key, counts, expires, at)
        if (kept.owed !== undefined) settleIn(part.limits, kept.owed, at, quota, charge.at, 'keep', 0)
      }
      if (slot === 'renew') charge.slotAt = at
    },
    owes: () => owing > 0,
    claim(key) {
      const entry = entries.get(key)
      if (entry === undefined) return undefined
      const owed = entry.expires < now() ? undefined : entry.owed
      owe(entry, undefined)
      return owed
    },
    paid(key) {
      const entry = entries.get(key)
      if (entry !== undefined && entry.owed === undefined) entry.expires = Number.NEGATIVE_INFINITY
    },
    async preview(service, policy, consumer, cost, levels) {
      const { parts } = policy
      const at = now()
      const counts = keysOf(service.name, parts, consumer, levels).map((key, k) => held(key, parts[k]!, at))
      return previewFrom(parts, counts, at, cost)
    },
    async usage(service, policy, consumer, levels) {
      const at = now()
      return usageOf(policy.parts, (part) => {
        const key = keyOf(service.name, part, consumer, levels)
        return key === undefined ? undefined : usageFrom(part.limits, held(key, part, at), at)
      })
    },
    async reset(service, consumer, byAddress) {
      for (const key of consumerKeys(service, consumer, byAddress)) {
        const entry = entries.get(key)
        if (entry !== undefined) entry.expires = Number.NEGATIVE_INFINITY
      }
    },
    state: () => 'up',
    foreignKeys: () => 0,
    async close() {
      entries.clear()
      ring.length = 0
      owing = 0
    },
    peek(key) {
      const entry = entries.get(key)
      return entry && { counts: entry.counts, expires: entry.expires }
    },
    size: () => entries.size,
  }
}

/**
 * Returns true if settling charges something of the part; false if it only gives back; undefined if it does neither.
 */
function settles(part: LimitGroup, quota: number, slot: Slot): boolean | undefined {
  let any: boolean | undefined
  for (const { algorithm } of part.limits) {
    const isSlot = algorithm === 'concurrency'
    if (isSlot ? slot === 'renew' : quota > 0) return true
    if (isSlot ? slot === 'release' : quota < 0) any = false
  }
  return any
}
