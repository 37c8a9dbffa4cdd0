import { type Algorithm, isHeld } from './algorithm.js'

/**
 * Generic cell rate algorithm (ITU-T I.371), as a debt that is paid off at a steady rate: `amount` in a window, at most
 * `burst` at once. Its theoretical arrival time is `at + debt ÷ amount`. The debt is stored instead, in tokens ×
 * window, because it is a whole number where the arrival time is a fraction of a microsecond: 300,000/s is one token in
 * 3.3 µs, and rounding that up to 4 would make it 250,000/s. A debt also stays right when the rate changes.
 *
 * Counts: unix ms of the latest charge, debt after it.
 */
export const tokenBucket: Algorithm = {
  size: 2,
  roll({ amount, windowMs }, counts, o, now) {
    const at = counts[o]
    if (at === undefined || (at > now && !isHeld(at - now, windowMs))) {
      counts[o] = now
      counts[o + 1] = 0
      return 0
    }
    if (at > now) return at - now
    counts[o + 1] = Math.max(0, counts[o + 1]! - (now - at) * amount)
    counts[o] = now
    return 0
  },
  free: ({ windowMs, burst }, counts, o) => Math.floor((burst * windowMs - counts[o + 1]!) / windowMs),
  wait: ({ amount, windowMs, burst }, counts, o, _t, cost) =>
    Math.ceil((counts[o + 1]! - (burst - cost) * windowMs) / amount),
  reset: ({ amount }, counts, o) => Math.ceil(counts[o + 1]! / amount),
  add({ windowMs }, counts, o, cost) {
    counts[o + 1] = Math.min(Number.MAX_SAFE_INTEGER, counts[o + 1]! + cost * windowMs)
  },
  give({ windowMs }, counts, o, _at, cost) {
    counts[o + 1] = Math.max(0, counts[o + 1]! - cost * windowMs)
  },
  expires: ({ amount }, counts, o) => counts[o]! + Math.ceil(counts[o + 1]! / amount),
  stored: { bytes: 16, read: (value, at) => [value.readDoubleBE(at), value.readDoubleBE(at + 8)] },
}
