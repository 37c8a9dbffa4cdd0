import { type Algorithm, isHeld, MOST, numbered } from './algorithm.js'

/**
 * Counts in windows that begin at multiples of their length since 1970, the same for all consumers. Use does not fade
 * within the window. Twice the amount may pass within a moment, around the boundary.
 *
 * Counts: number of the window, used in it.
 */
export const fixed: Algorithm = {
  size: 2,
  roll({ windowMs }, counts, o, now) {
    const window = Math.floor(now / windowMs)
    const stored = counts[o]
    if (stored === window) return 0
    if (stored !== undefined && isHeld(stored * windowMs - now, windowMs)) return stored * windowMs - now
    counts[o] = window
    counts[o + 1] = 0
    return 0
  },
  free: ({ amount }, counts, o) => amount - counts[o + 1]!,
  wait: ({ windowMs }, _counts, _o, t) => windowMs - (t % windowMs),
  reset: ({ windowMs }, _counts, _o, t) => windowMs - (t % windowMs),
  add(_limit, counts, o, cost) {
    counts[o + 1] = Math.min(MOST, counts[o + 1]! + cost)
  },
  give({ windowMs }, counts, o, at, cost) {
    if (counts[o] === Math.floor(at / windowMs)) counts[o + 1] = Math.max(0, counts[o + 1]! - cost)
  },
  expires: ({ windowMs }, counts, o) => (counts[o]! + 1) * windowMs,
  stored: numbered(1, ({ windowMs }) => windowMs),
}
