import type { Limit } from '../../../src/config/snapshot/limit.js'

/** State of one limit. Time is cut into units: charges of one unit age as one. `usedIn` says how long they count. */
export interface Count {
  /** Unit of the latest charge; undefined if there was none. A bucket's units are ms. */
  newest: number | undefined
  /** Charges by unit; for a bucket only the debt after the latest charge, times the window. */
  readonly used: Map<number, bigint>
}

const DAY = 86_400_000
const KOLKATA = 5.5 * 3_600_000

/**
 * Returns the length of a unit in ms: a window, a sixteenth of one, a day (`period.test.ts` has months and other zones), or 1.
 */
function unitMs({ algorithm, windowMs }: Limit): number {
  if (algorithm === 'strict' || algorithm === 'concurrency') return Math.ceil(windowMs / 16)
  return algorithm === 'token_bucket' ? 1 : windowMs
}
const shift = ({ calendar }: Limit) => (calendar === undefined ? 0 : KOLKATA)
export const unitAt = (limit: Limit, ms: number) => Math.floor((ms + shift(limit)) / unitMs(limit))
export const startOf = (limit: Limit, unit: number) => unit * unitMs(limit) - shift(limit)
/** Returns for how many units after its own a charge still counts, at least in part. */
export function reach(limit: Limit): number {
  if (limit.algorithm === 'sliding') return 1
  return unitMs(limit) < limit.windowMs ? Math.ceil(limit.windowMs / unitMs(limit)) : 0
}

/** Returns the time that a limit uses: a clock that stepped back is held at the start of the newest unit. */
export function seen(limit: Limit, { newest }: Count, now: number): number {
  const ahead = newest === undefined ? 0 : startOf(limit, newest) - now
  const hold = limit.calendar === undefined ? Math.max(limit.windowMs, 60_000) : DAY
  return ahead > 0 && ahead <= hold ? now + ahead : now
}

/** Returns what counts at `now`, times the window. Charges ahead of that time do not count. */
export function usedIn(limit: Limit, count: Count, now: number): bigint {
  const [t, W] = [seen(limit, count, now), BigInt(limit.windowMs)]
  const { newest, used } = count
  if (newest === undefined || startOf(limit, newest) > t) return 0n
  if (limit.algorithm === 'token_bucket') {
    const left = used.get(newest)! - BigInt(t - newest) * BigInt(limit.amount)
    return left > 0n ? left : 0n
  }
  let sum = 0n
  for (const [unit, n] of used) {
    const age = unitAt(limit, t) - unit
    if (age > reach(limit)) continue
    sum += n * (limit.algorithm === 'sliding' && age === 1 ? W - BigInt(t % limit.windowMs) : W)
  }
  return sum
}

export function free(limit: Limit, count: Count, now: number): number {
  const [W, left] = [BigInt(limit.windowMs), BigInt(limit.burst * limit.windowMs) - usedIn(limit, count, now)]
  return Number(left >= 0n ? left / W : -((-left + W - 1n) / W))
}
