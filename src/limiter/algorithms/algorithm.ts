import type { Limit } from '../../config/snapshot/limit.js'

/**
 * What one limit remembers of one consumer: a few integers from index `o` of an array that it shares with the other
 * limits of its key. Empty (`undefined`) for a consumer never seen.
 */
export type Counts = number[]

/**
 * Counting algorithm in integers, as in lua/algorithms.lua. Pure except for the counts that it gets.
 *
 * The time `t` that counts are read at is `now`, unless the clock has stepped back. Then the counts hold time still
 * where they were written, and `roll` returns how far ahead of the clock that is.
 */
export interface Algorithm {
  /** Number of integers that a limit takes. */
  readonly size: number
  /**
   * Brings the counts to `now` (unix ms), and drops what does not count any more.
   *
   * @returns t - now, in ms
   */
  roll(limit: Limit, counts: Counts, o: number, now: number): number
  /**
   * Returns the highest cost that fits at t, from rolled counts. Below 0 if a debit or a lowered limit leaves less than
   * nothing.
   */
  free(limit: Limit, counts: Counts, o: number, t: number): number
  /**
   * Returns the exact ms from t until `cost` fits if no other request spends. `cost` must be above what is free and not
   * above the burst.
   */
  wait(limit: Limit, counts: Counts, o: number, t: number, cost: number): number
  /** Returns the ms from t until the present window ends, or until everything is free again. */
  reset(limit: Limit, counts: Counts, o: number, t: number): number
  /** Charges rolled counts, whether there is room or not. */
  add(limit: Limit, counts: Counts, o: number, cost: number): void
  /** Gives back what was charged at `at`, as far as it still counts. Takes counts as stored, not rolled. */
  give(limit: Limit, counts: Counts, o: number, at: number, cost: number): void
  /** Returns the unix ms at which the counts are equivalent to none. */
  expires(limit: Limit, counts: Counts, o: number): number
  /** Layout of its counts in the value of a Redis key, as the contract block of lua/algorithms.lua describes it. */
  readonly stored: StoredCounts
}

export type StoredCounts = ReturnType<typeof numbered>

export const uint32s = (value: Buffer, at: number, count: number): Counts =>
  Array.from({ length: count }, (_, i) => value.readUInt32BE(at + 4 * i))

/** Returns the layout of a window number modulo 2^32, for windows of `width` ms, followed by uint32 counts. */
export function numbered(counts: number, width: (limit: Limit) => number) {
  return {
    bytes: 4 + 4 * counts,
    /** Reads the counts of a limit, which begin at the byte `at`. `now` is by the clock that they were written by. */
    read(value: Buffer, at: number, limit: Limit, now: number): Counts {
      const present = Math.floor(now / width(limit))
      // The nearest to the present one.
      const number = present - ((present - value.readUInt32BE(at)) | 0)
      return [number, ...uint32s(value, at + 4, counts)]
    },
  }
}

/** Largest possible debit: more than any limit allows, and less than the store's 25 bits hold. */
export const MOST = 2 ** 25 - 1

/**
 * How far the counts may be ahead of a clock that stepped back, in ms, or one window. Within it, nothing becomes free
 * again. Beyond it, the counts are dropped: a clock that was days ahead must not lock a consumer out for days.
 */
const CLOCK_HOLD_MS = 60_000

export function isHeld(aheadMs: number, windowMs: number): boolean {
  return aheadMs > 0 && aheadMs <= Math.max(windowMs, CLOCK_HOLD_MS)
}
