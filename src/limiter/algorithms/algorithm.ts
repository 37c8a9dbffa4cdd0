import type { Limit } from '../../config/snapshot/snapshot.js'

/**
 * What one limit remembers of one consumer: a few integers from index `o` of an array that it shares with the other
 * limits of its key. Nothing there (`undefined`): never seen.
 */
export type Counts = number[]

/**
 * One way of counting, in integers, as lua/algorithms.lua has it. Pure but for the counts it is given.
 *
 * The time `t` that counts are read at is `now`, unless the clock has stepped back: then the counts hold time still
 * where they were written, and `roll` tells how far ahead of the clock that is.
 */
export interface Algorithm {
  /** How many integers a limit takes. */
  readonly size: number
  /** Brings the counts to `now` (unix ms), letting go of what does not count any more. @returns t - now, ms */
  roll(limit: Limit, counts: Counts, o: number, now: number): number
  /** What a cost may be at most, at t, of rolled counts. Below 0 when a debit or a lowered limit leaves less than nothing. */
  free(limit: Limit, counts: Counts, o: number, t: number): number
  /** Exact ms from t until `cost`, which is above what is free and not above the burst, fits if nobody else spends. */
  wait(limit: Limit, counts: Counts, o: number, t: number, cost: number): number
  /** Ms from t until the present window ends, or until everything is free again. */
  reset(limit: Limit, counts: Counts, o: number, t: number): number
  /** Charges, whether it fits or not. Of rolled counts. */
  add(limit: Limit, counts: Counts, o: number, cost: number): void
  /** Takes back what was charged at `at`, as far as it still counts. Of counts as stored, not rolled. */
  give(limit: Limit, counts: Counts, o: number, at: number, cost: number): void
  /** Unix ms at which the counts have become as good as none. */
  expires(limit: Limit, counts: Counts, o: number): number
}

/** More than any limit allows, and less than the store's 25 bits hold: where a debit ends. */
export const MOST = 2 ** 25 - 1

/**
 * A clock that steps back makes nothing free again while the counts lie at most this many ms, or one window, ahead.
 * Further ahead they are dropped: a clock that was days ahead must not lock anybody out for days.
 */
const CLOCK_HOLD_MS = 60_000

export function isHeld(aheadMs: number, windowMs: number): boolean {
  return aheadMs > 0 && aheadMs <= Math.max(windowMs, CLOCK_HOLD_MS)
}
