import type { Limit } from '../config/snapshot.js'
import type { DecidedBy, Decision, DegradedReason, LimitUsage } from './limiter.js'

/**
 * The sliding window counter in integers, as lua/take.lua has it: what was used in this window, plus what was used in
 * the one before, weighed by how much of it a window that ends now still covers. Everything is multiplied by the
 * window instead of divided by it, so that no decision and no retry time hangs on a rounding.
 */

/** What one consumer has used under one policy: three numbers per limit (window number, used in it, used before it). */
export type Counts = number[]

/**
 * A clock that steps back makes nothing free again while the stored window begins at most this many ms, or its own
 * length, from now. Further back the counts are dropped: a clock that was days ahead must not lock anybody out for days.
 */
const CLOCK_HOLD_MS = 60_000

/** One limit's counts as they stand at one moment. */
interface Standing {
  readonly window: number
  readonly current: number
  readonly previous: number
  /** Ms since the window began. */
  readonly offset: number
  /** Ms that the window lies ahead of the clock: 0 unless the clock has stepped back. */
  readonly ahead: number
}

function standing(counts: Counts | undefined, index: number, windowMs: number, now: number): Standing {
  const offset = now % windowMs
  const window = (now - offset) / windowMs
  const stored = counts?.[index * 3]
  const current = counts?.[index * 3 + 1]
  const previous = counts?.[index * 3 + 2]
  if (stored === undefined || current === undefined || previous === undefined) {
    return { window, current: 0, previous: 0, offset, ahead: 0 }
  }
  const passed = window - stored
  if (passed === 0) return { window, current, previous, offset, ahead: 0 }
  if (passed === 1) return { window, current: 0, previous: current, offset, ahead: 0 }
  const ahead = stored * windowMs - now
  if (passed < 0 && ahead <= Math.max(windowMs, CLOCK_HOLD_MS)) {
    return { window: stored, current, previous, offset: 0, ahead }
  }
  return { window, current: 0, previous: 0, offset, ahead: 0 }
}

/** What is free, multiplied by the window; negative when a lowered limit leaves less than nothing. */
function room(limit: Limit, at: Standing): number {
  return (limit.amount - at.current) * limit.windowMs - at.previous * (limit.windowMs - at.offset)
}

/** Exact ms until `cost`, which is denied now, fits if nobody else spends; -1: never. */
function retryAfter(limit: Limit, at: Standing, cost: number): number {
  if (cost > limit.amount) return -1
  const spare = limit.amount - cost - at.current
  const untilItFits =
    spare >= 0
      ? limit.windowMs - Math.floor((spare * limit.windowMs) / at.previous)
      : 2 * limit.windowMs - Math.floor(((limit.amount - cost) * limit.windowMs) / at.current)
  return at.ahead + untilItFits - at.offset
}

/**
 * Decides, and charges `counts` when every limit has room; a denied request leaves them as they are.
 *
 * @param counts empty, or full of holes, for a consumer never seen
 * @param now unix ms
 * @param cost integer ≥ 1
 */
export function takeFrom(
  limits: readonly Limit[],
  counts: Counts,
  now: number,
  cost: number,
  decidedBy: DecidedBy,
  reason: DegradedReason | undefined,
): Decision {
  const standings: Standing[] = []
  let violated = 0
  let remaining = Number.POSITIVE_INFINITY
  let tightest = 0
  let longest = 0
  let retryMs = 0
  for (let i = 0; i < limits.length; i++) {
    const limit = limits[i]!
    const at = standing(counts, i, limit.windowMs, now)
    standings.push(at)
    const free = room(limit, at)
    const whole = Math.max(0, Math.floor(free / limit.windowMs))
    if (whole < remaining) {
      remaining = whole
      tightest = i
    }
    if (cost * limit.windowMs > free) {
      const wait = retryAfter(limit, at, cost)
      if (violated === 0 || (retryMs !== -1 && (wait === -1 || wait > retryMs))) {
        retryMs = wait
        longest = i
      }
      violated |= 1 << i
    }
  }
  const allowed = violated === 0
  if (allowed) {
    for (let i = 0; i < standings.length; i++) {
      const at = standings[i]!
      counts[i * 3] = at.window
      counts[i * 3 + 1] = at.current + cost
      counts[i * 3 + 2] = at.previous
    }
    remaining -= cost
  }
  const binding = allowed ? tightest : longest
  const windowMs = limits[binding]!.windowMs
  const at = standings[binding]!
  return {
    allowed,
    decidedBy,
    reason,
    binding,
    violated,
    remaining,
    resetMs: at.ahead + windowMs - at.offset,
    retryMs,
    at: now,
  }
}

/** Every limit as it stands at `now`, charging nothing. */
export function usageFrom(limits: readonly Limit[], counts: Counts | undefined, now: number): LimitUsage[] {
  return limits.map((limit, i) => {
    const at = standing(counts, i, limit.windowMs, now)
    const free = room(limit, at)
    return {
      limit,
      used: Math.ceil((limit.amount * limit.windowMs - free) / limit.windowMs),
      remaining: Math.max(0, Math.floor(free / limit.windowMs)),
      resetMs: at.ahead + limit.windowMs - at.offset,
    }
  })
}

/** Unix ms at which nothing of the counts matters any more. */
export function expiryOf(limits: readonly Limit[], counts: Counts): number {
  return limits.reduce((latest, limit, i) => Math.max(latest, (counts[i * 3]! + 2) * limit.windowMs), 0)
}
