import type { Limit } from '../../config/snapshot/limit.js'
import { type Algorithm, type Counts, isHeld, MOST, numbered } from './algorithm.js'

/**
 * Number of parts of a window. One more is kept: the oldest, which is partly outside. With 16, a consumer that asks for
 * half as much again as allowed gets 95 % of the limit (`npm run bench:accuracy`); with 10, 92 %.
 */
const PARTS = 16

const widthOf = ({ windowMs }: Limit) => Math.ceil(windowMs / PARTS)
/** Returns how many sub-buckets before the present one still count. The oldest of them counts whole. */
const reachOf = (limit: Limit) => Math.ceil(limit.windowMs / widthOf(limit))

function freeOf({ amount }: Limit, counts: Counts, o: number): number {
  let used = 0
  for (let age = 0; age <= PARTS; age++) used += counts[o + 1 + age]!
  return amount - used
}

function lapsesAt(limit: Limit, counts: Counts, o: number, age: number): number {
  return (counts[o]! - age + reachOf(limit) + 1) * widthOf(limit)
}

/**
 * Counts in sub-buckets of a sixteenth of the window. The oldest, which is only partly in a window that ends now,
 * counts whole. So no window of this length, wherever it begins, takes more than the amount.
 *
 * `concurrency` counts the same way. A slot is a charge that is given back when the response closes. If its holder has
 * died, it lapses with its sub-bucket.
 *
 * Counts: number of the newest sub-bucket, used in it, used in each of the sixteen before.
 */
export const strict: Algorithm = {
  size: 1 + 1 + PARTS,
  roll(limit, counts, o, now) {
    const width = widthOf(limit)
    const bucket = Math.floor(now / width)
    const stored = counts[o]
    const passed = stored === undefined ? PARTS + 1 : bucket - stored
    if (passed === 0) return 0
    if (passed < 0 && isHeld(stored! * width - now, limit.windowMs)) return stored! * width - now
    const reach = reachOf(limit)
    for (let age = PARTS; age >= 0; age--) {
      const before = age - passed
      counts[o + 1 + age] = passed > 0 && before >= 0 && age <= reach ? counts[o + 1 + before]! : 0
    }
    counts[o] = bucket
    return 0
  },
  free: freeOf,
  wait(limit, counts, o, t, cost) {
    let missing = cost - freeOf(limit, counts, o)
    let age = reachOf(limit)
    for (; age > 0; age--) {
      missing -= counts[o + 1 + age]!
      if (missing <= 0) break
    }
    return lapsesAt(limit, counts, o, age) - t
  },
  reset: (limit, counts, o, t) => lapsesAt(limit, counts, o, 0) - t,
  add(_limit, counts, o, cost) {
    counts[o + 1] = Math.min(MOST, counts[o + 1]! + cost)
  },
  give(limit, counts, o, at, cost) {
    const age = counts[o]! - Math.floor(at / widthOf(limit))
    if (age < 0 || age > reachOf(limit)) return
    counts[o + 1 + age] = Math.max(0, counts[o + 1 + age]! - cost)
  },
  expires: (limit, counts, o) => lapsesAt(limit, counts, o, 0),
  stored: numbered(1 + PARTS, widthOf),
}
