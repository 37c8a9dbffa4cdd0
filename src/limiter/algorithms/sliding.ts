import { type Algorithm, isHeld, MOST, numbered } from './algorithm.js'

/**
 * Sliding window counter: what was used in this window, plus what was used in the one before, weighted by how much of
 * it a window that ends now still covers. Everything is multiplied by the window instead of divided by it, so that no
 * decision and no retry time depends on rounding.
 *
 * Counts: number of the window, used in it, used in the one before.
 */
export const sliding: Algorithm = {
  size: 3,
  roll({ windowMs }, counts, o, now) {
    const window = Math.floor(now / windowMs)
    const stored = counts[o]
    const passed = stored === undefined ? 2 : window - stored
    if (passed === 0) return 0
    if (passed < 0 && isHeld(stored! * windowMs - now, windowMs)) return stored! * windowMs - now
    counts[o + 2] = passed === 1 ? counts[o + 1]! : 0
    counts[o + 1] = 0
    counts[o] = window
    return 0
  },
  free({ amount, windowMs }, counts, o, t) {
    const weighed = counts[o + 2]! * (windowMs - (t % windowMs))
    return Math.floor(((amount - counts[o + 1]!) * windowMs - weighed) / windowMs)
  },
  wait({ amount, windowMs }, counts, o, t, cost) {
    const current = counts[o + 1]!
    const spare = amount - cost - current
    const untilItFits =
      spare >= 0
        ? windowMs - Math.floor((spare * windowMs) / counts[o + 2]!)
        : 2 * windowMs - Math.floor(((amount - cost) * windowMs) / current)
    return untilItFits - (t % windowMs)
  },
  reset: ({ windowMs }, _counts, _o, t) => windowMs - (t % windowMs),
  add(_limit, counts, o, cost) {
    counts[o + 1] = Math.min(MOST, counts[o + 1]! + cost)
  },
  give({ windowMs }, counts, o, at, cost) {
    const passed = counts[o]! - Math.floor(at / windowMs)
    if (passed === 0 || passed === 1) counts[o + 1 + passed] = Math.max(0, counts[o + 1 + passed]! - cost)
  },
  expires: ({ windowMs }, counts, o) => (counts[o]! + 2) * windowMs,
  // A key with a single sliding limit has a shorter value: see decode-counts.ts.
  stored: numbered(2, ({ windowMs }) => windowMs),
}
