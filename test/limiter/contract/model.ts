import type { Limit } from '../../../src/config/snapshot/limit.js'

/** Time is cut into units: what is charged in one unit ages as one. How long it counts is told in `usedIn`. */
export interface Count {
  /** Of the latest charge; undefined: never charged. A bucket's units are ms. */
  newest: number | undefined
  /** By unit; of a bucket, only the debt after the latest charge, times the window. */
  readonly used: Map<number, bigint>
}

const DAY = 86_400_000
const KOLKATA = 5.5 * 3_600_000

/** Length of a unit, ms: a window, a sixteenth of one, a day (months and other zones: see `period.test.ts`), a ms. */
function unitMs({ algorithm, windowMs }: Limit): number {
  if (algorithm === 'strict' || algorithm === 'concurrency') return Math.ceil(windowMs / 16)
  return algorithm === 'token_bucket' ? 1 : windowMs
}
const shift = ({ calendar }: Limit) => (calendar === undefined ? 0 : KOLKATA)
export const unitAt = (limit: Limit, ms: number) => Math.floor((ms + shift(limit)) / unitMs(limit))
export const startOf = (limit: Limit, unit: number) => unit * unitMs(limit) - shift(limit)
/** How many units after its own a charge still counts, at least in part. */
export function reach(limit: Limit): number {
  if (limit.algorithm === 'sliding') return 1
  return unitMs(limit) < limit.windowMs ? Math.ceil(limit.windowMs / unitMs(limit)) : 0
}

/** When a limit thinks it is: a clock that stepped back is held at the start of the newest unit. */
export function seen(limit: Limit, { newest }: Count, now: number): number {
  const ahead = newest === undefined ? 0 : startOf(limit, newest) - now
  const hold = limit.calendar === undefined ? Math.max(limit.windowMs, 60_000) : DAY
  return ahead > 0 && ahead <= hold ? now + ahead : now
}

/** What counts at `now`, times the window. What lies ahead of the time seen does not. */
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
