import type { Limit, Part } from '../config/snapshot.js'
import type { Counts } from './algorithms/algorithm.js'
import { ALGORITHMS } from './algorithms/by-name.js'
import { countedIn } from './counted.js'
import type { DecidedBy, Decision, DegradedReason, LimitUsage, Slot } from './limiter.js'

/** What lua/take.lua and lua/take_mixed.lua decide, in this process. */

/** How many integers a key of these limits takes. */
export function sizeOf(limits: readonly Limit[]): number {
  return limits.reduce((size, { algorithm }) => size + ALGORITHMS[algorithm].size, 0)
}

/** Slots are taken one a request, whatever it costs. */
function costOf({ algorithm }: Limit, cost: number): number {
  return algorithm === 'concurrency' ? 1 : cost
}

/** Decisions work on a copy: what a denied request saw stays as it was. One for all, since none of them waits. */
const rolled: Counts = []

/**
 * Decides, and charges the counts when every limit of every part has room; a denied request leaves them as they are.
 *
 * @param counts of each part; empty, or full of holes, for one never seen
 * @param now unix ms
 * @param cost integer ≥ 1
 */
export function takeFrom(
  parts: readonly Part[],
  counts: readonly Counts[],
  now: number,
  cost: number,
  decidedBy: DecidedBy,
  reason: DegradedReason | undefined,
): Decision {
  let violated = 0
  let free = Number.POSITIVE_INFINITY
  let left = Number.POSITIVE_INFINITY
  let retryMs = 0
  let binding = 0
  let resetMs = 0
  let o = 0
  for (let k = 0; k < parts.length; k++) {
    const { limits, indices } = parts[k]!
    const own = counts[k]!
    const first = o
    for (let i = 0; i < limits.length; i++) {
      const limit = limits[i]!
      const algorithm = ALGORITHMS[limit.algorithm]
      for (let j = 0; j < algorithm.size; j++) rolled[o + j] = own[o - first + j]!
      const ahead = algorithm.roll(limit, rolled, o, now)
      const t = now + ahead
      const n = costOf(limit, cost)
      const room = algorithm.free(limit, rolled, o, t)
      free = Math.min(free, room)
      if (n > room) {
        const wait = n > limit.burst ? -1 : ahead + algorithm.wait(limit, rolled, o, t, n)
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
  if (allowed) {
    o = 0
    for (let k = 0; k < parts.length; k++) {
      const own = counts[k]!
      const size = sizeOf(parts[k]!.limits)
      for (let j = 0; j < size; j++) own[j] = rolled[o + j]!
      o += size
    }
  }
  const remaining = allowed ? left : Math.max(0, free)
  const counted = allowed ? undefined : countedIn(parts, counts, now)
  return { allowed, decidedBy, reason, binding, violated, remaining, resetMs, retryMs, at: now, counted }
}

/** The same without charging: of counts that stay as they are. */
export function previewFrom(
  parts: readonly Part[],
  counts: readonly (Counts | undefined)[],
  now: number,
  cost: number,
): Decision {
  const own = parts.map((_, k) => [...(counts[k] ?? [])])
  const counted = countedIn(parts, own, now)
  return { ...takeFrom(parts, own, now, cost, 'store', undefined), counted }
}

/**
 * Changes what was charged: see `Limiter.settle`.
 *
 * @param at unix ms at which the quota was charged
 * @param slotAt unix ms at which the slot was taken, or renewed
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
  for (const limit of limits) {
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

/** Every limit as it stands at `now`, charging nothing. */
export function usageFrom(limits: readonly Limit[], counts: Counts | undefined, now: number): LimitUsage[] {
  const own = counts === undefined ? [] : [...counts]
  let o = 0
  return limits.map((limit) => {
    const algorithm = ALGORITHMS[limit.algorithm]
    const ahead = algorithm.roll(limit, own, o, now)
    const free = algorithm.free(limit, own, o, now + ahead)
    const resetMs = ahead + algorithm.reset(limit, own, o, now + ahead)
    o += algorithm.size
    return { limit, used: limit.burst - free, remaining: Math.max(0, free), resetMs }
  })
}

/** Unix ms at which nothing of the counts matters any more. */
export function expiryOf(limits: readonly Limit[], counts: Counts): number {
  let o = 0
  let latest = 0
  for (const limit of limits) {
    const { size, expires } = ALGORITHMS[limit.algorithm]
    latest = Math.max(latest, expires(limit, counts, o))
    o += size
  }
  return latest
}
