import { type Limit, standing } from '../config/snapshot/limit.js'
import type { LimitGroup } from '../config/snapshot/policy.js'
import type { Counts } from './algorithms/algorithm.js'
import { ALGORITHMS } from './algorithms/by-name.js'
import { countedIn } from './limit-readings.js'
import type { DecidedBy, Decision, DegradedReason, LimitUsage, Slot } from './limiter.js'

/** Decides in this process what lua/take.lua and lua/take_mixed.lua decide in Redis. */

/** Returns how many integers a key of these limits takes. */
export function sizeOf(limits: readonly Limit[]): number {
  return limits.reduce((size, { algorithm }) => size + ALGORITHMS[algorithm].size, 0)
}

/** Returns the cost for a limit. A request takes one slot, whatever it costs. */
function costOf({ algorithm }: Limit, cost: number): number {
  return algorithm === 'concurrency' ? 1 : cost
}

/**
 * Returns the exact ms from now until a denied cost fits if no other request spends, or -1 if never. If the amount of a
 * limit changes meanwhile, the limit is evaluated as it is in each of these periods.
 *
 * @param own counts as stored, not rolled. Those of the limit begin at `first`.
 * @param from earliest result, in ms from now
 */
function waitFor(limit: Limit, own: Counts, first: number, now: number, cost: number, from = 0): number {
  let begins = from
  for (let one: Limit | undefined = limit; one !== undefined; one = one.next?.limit) {
    const ends = one.next === undefined ? Number.POSITIVE_INFINITY : one.next.at - now
    if (ends <= begins) continue
    const fits = Math.max(begins, untilFit(one, own, first, now, cost))
    if (fits < ends) return fits
    begins = ends
  }
  return -1
}

/**
 * Returns the first moment at which all limits have room. One that has room at some time may not later, if an amount
 * decreases.
 */
function waitForAll(
  parts: readonly LimitGroup[],
  counts: readonly Counts[],
  now: number,
  cost: number,
): number {
  let from = 0
  for (;;) {
    let latest = from
    for (const [k, { limits }] of parts.entries()) {
      let o = 0
      for (const limit of limits) {
        const fits = waitFor(limit, counts[k]!, o, now, costOf(limit, cost), from)
        if (fits < 0) return -1
        latest = Math.max(latest, fits)
        o += ALGORITHMS[limit.algorithm].size
      }
    }
    if (latest === from) return from
    from = latest
  }
}

/** Returns the same for a limit that does not change; 0 if it fits now, Infinity if never. */
function untilFit(limit: Limit, own: Counts, first: number, now: number, cost: number): number {
  if (cost > limit.burst) return Number.POSITIVE_INFINITY
  const algorithm = ALGORITHMS[limit.algorithm]
  const counts = own.slice(first, first + algorithm.size)
  const ahead = algorithm.roll(limit, counts, 0, now)
  if (cost <= algorithm.free(limit, counts, 0, now + ahead)) return 0
  return ahead + algorithm.wait(limit, counts, 0, now + ahead, cost)
}

/**
 * Scratch array: decisions work on a copy, so that a denied request changes nothing. One is enough, because no decision
 * waits.
 */
const rolled: Counts = []

/**
 * Decides, and charges the counts if every limit of every part has room. A denied request leaves them unchanged.
 *
 * @param counts of each part; empty, or full of holes, for one never seen
 * @param now unix ms
 * @param cost integer ≥ 1
 * @param shows true if the decision shows the state of the limits even if it allows the request
 */
export function takeFrom(
  parts: readonly LimitGroup[],
  counts: readonly Counts[],
  now: number,
  cost: number,
  decidedBy: DecidedBy,
  reason: DegradedReason | undefined,
  shows = false,
): Decision {
  let violated = 0
  let free = Number.POSITIVE_INFINITY
  let left = Number.POSITIVE_INFINITY
  let retryMs = 0
  let binding = 0
  let resetMs = 0
  let changes = false
  let o = 0
  for (let k = 0; k < parts.length; k++) {
    const { limits, indices } = parts[k]!
    const own = counts[k]!
    const first = o
    for (let i = 0; i < limits.length; i++) {
      const limit = standing(limits[i]!, now)
      const algorithm = ALGORITHMS[limit.algorithm]
      for (let j = 0; j < algorithm.size; j++) rolled[o + j] = own[o - first + j]!
      const ahead = algorithm.roll(limit, rolled, o, now)
      const t = now + ahead
      const n = costOf(limit, cost)
      if (limit.next !== undefined) changes = true
      const room = algorithm.free(limit, rolled, o, t)
      free = Math.min(free, room)
      if (n > room) {
        const wait =
          limit.next !== undefined
            ? waitFor(limit, own, o - first, now, n)
            : n > limit.burst
              ? -1
              : ahead + algorithm.wait(limit, rolled, o, t, n)
        if (violated === 0 || (retryMs !== -1 && (wait === -1 || wait > retryMs))) {
          retryMs = wait
          binding = indices[i]!
          resetMs = ahead + algorithm.reset(limit, rolled, o, t)
        }
        violated |= 1 << indices[i]!
      } else if (violated === 0) {
        algorithm.add(limit, rolled, o, n)
        if (room - n < left) {
          left = room - n
          binding = indices[i]!
          resetMs = ahead + algorithm.reset(limit, rolled, o, t)
        }
      }
      o += algorithm.size
    }
  }
  const allowed = violated === 0
  const counted = allowed && !shows ? undefined : countedIn(parts, counts, now)
  if (allowed) {
    o = 0
    for (let k = 0; k < parts.length; k++) {
      const own = counts[k]!
      const size = sizeOf(parts[k]!.limits)
      for (let j = 0; j < size; j++) own[j] = rolled[o + j]!
      o += size
    }
  }
  if (!allowed && changes) retryMs = waitForAll(parts, counts, now, cost)
  const remaining = allowed ? left : Math.max(0, free)
  return { allowed, decidedBy, reason, binding, violated, remaining, resetMs, retryMs, at: now, counted }
}

/** Decides without charging. The counts stay unchanged. */
export function previewFrom(
  parts: readonly LimitGroup[],
  counts: readonly (Counts | undefined)[],
  now: number,
  cost: number,
): Decision {
  const own = parts.map((_, k) => [...(counts[k] ?? [])])
  return takeFrom(parts, own, now, cost, 'store', undefined, true)
}

/**
 * Changes an earlier charge: see `Limiter.settle`.
 *
 * @param at unix ms at which the quota was charged
 * @param slotAt unix ms at which the slot was taken or renewed
 */
export function settleIn(
  limits: readonly Limit[],
  counts: Counts,
  now: number,
  quota: number,
  at: number,
  slot: Slot,
  slotAt: number,
): void {
  let o = 0
  for (const one of limits) {
    const limit = standing(one, now)
    const algorithm = ALGORITHMS[limit.algorithm]
    const isSlot = limit.algorithm === 'concurrency'
    const add = isSlot ? (slot === 'renew' ? 1 : 0) : quota
    if (counts[o] === undefined) algorithm.roll(limit, counts, o, now)
    if (isSlot && slot !== 'keep') algorithm.give(limit, counts, o, slotAt, 1)
    if (add < 0) algorithm.give(limit, counts, o, at, -add)
    if (add > 0) {
      algorithm.roll(limit, counts, o, now)
      algorithm.add(limit, counts, o, add)
    }
    o += algorithm.size
  }
}

/** Returns the usage of every limit at `now`, without charging. */
export function usageFrom(limits: readonly Limit[], counts: Counts | undefined, now: number): LimitUsage[] {
  const own = counts === undefined ? [] : [...counts]
  let o = 0
  return limits.map((one) => {
    const limit = standing(one, now)
    const algorithm = ALGORITHMS[limit.algorithm]
    const ahead = algorithm.roll(limit, own, o, now)
    const free = algorithm.free(limit, own, o, now + ahead)
    const resetMs = ahead + algorithm.reset(limit, own, o, now + ahead)
    o += algorithm.size
    return { limit, used: limit.burst - free, remaining: Math.max(0, free), resetMs }
  })
}

/**
 * Returns the usage of all parts in the order of the policy.
 *
 * @param read returns the usage of a part; undefined: its level is unknown, and its limits are left out
 */
export async function usageOf(
  parts: readonly LimitGroup[],
  read: (part: LimitGroup) => LimitUsage[] | undefined | Promise<LimitUsage[] | undefined>,
): Promise<LimitUsage[]> {
  const byIndex: LimitUsage[] = []
  const found = await Promise.all(parts.map(read))
  for (const [k, { indices }] of parts.entries()) {
    found[k]?.forEach((usage, i) => {
      byIndex[indices[i]!] = usage
    })
  }
  return byIndex.filter((usage) => usage !== undefined)
}

/** Returns the unix ms from which the counts no longer matter, whatever an amount changes to until then. */
export function expiryOf(limits: readonly Limit[], counts: Counts): number {
  let o = 0
  let latest = 0
  for (const limit of limits) {
    const { size, expires } = ALGORITHMS[limit.algorithm]
    for (let one: Limit | undefined = limit; one !== undefined; one = one.next?.limit) {
      latest = Math.max(latest, expires(one, counts, o))
    }
    o += size
  }
  return latest
}
