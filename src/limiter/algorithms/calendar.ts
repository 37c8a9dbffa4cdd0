import { type Algorithm, MOST, uint32s } from './algorithm.js'
import { periodAt } from './period.js'

/**
 * Counts in a day or a month of a time zone's calendar. Use does not fade within the period.
 *
 * Counts: number of the period, used in it, unix ms of its end.
 */
export const calendar: Algorithm = {
  size: 3,
  roll(limit, counts, o, now) {
    const present = periodAt(limit.calendar!, now)
    if (counts[o] === present.index) return 0
    const next = periodAt(limit.calendar!, present.end)
    // The clock has stepped back over the end of a period.
    if (counts[o] === next.index) return next.start - now
    counts[o] = present.index
    counts[o + 1] = 0
    counts[o + 2] = present.end
    return 0
  },
  free: ({ amount }, counts, o) => amount - counts[o + 1]!,
  wait: (_limit, counts, o, t) => counts[o + 2]! - t,
  reset: (_limit, counts, o, t) => counts[o + 2]! - t,
  add(_limit, counts, o, cost) {
    counts[o + 1] = Math.min(MOST, counts[o + 1]! + cost)
  },
  give(limit, counts, o, at, cost) {
    if (counts[o] === periodAt(limit.calendar!, at).index) counts[o + 1] = Math.max(0, counts[o + 1]! - cost)
  },
  expires: (_limit, counts, o) => counts[o + 2]!,
  stored: {
    bytes: 8,
    read(value, at, { calendar }, now) {
      const [index, used] = uint32s(value, at, 2)
      const present = periodAt(calendar!, now)
      // The clock may have stepped back over the end of a period.
      const { end } = index! > present.index ? periodAt(calendar!, present.end) : present
      return [index!, used!, end]
    },
  },
}
