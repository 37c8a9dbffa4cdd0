/**
 * How often gateways ask the store while a user is denied. A gateway that was denied remembers it, so of the user's requests to it
 * only the first reaches the store, and then the first after each time that it remembered.
 */

/** Longest time that a gateway remembers a denial, in ms (src/limiter/denial-cache.ts). */
const REMEMBERED_MS = 1000
/** Number of times remembered after which the long-run rate is exact enough. */
const LONG = 20

/** Returns how long a gateway remembers a denial. As in src/limiter/denial-cache.ts. */
export function rememberedMs({ resetMs, retryMs }) {
  return Math.min(resetMs, retryMs < 0 ? resetMs : retryMs, REMEMBERED_MS) - 1
}

/**
 * Returns the expected number of times that one gateway asks within `ms`, if it remembers nothing at the beginning.
 *
 * @param rate requests of the user to this gateway, per ms, at random moments
 */
export function asksOf(rate, ms, remembered = REMEMBERED_MS - 1) {
  if (ms <= 0) return 0
  const mean = 1 / rate
  if (ms > LONG * remembered) {
    const cycle = remembered + mean
    return ms / cycle + (mean ** 2 + cycle ** 2) / (2 * cycle ** 2) - mean / cycle
  }
  let asks = 0
  for (let k = 1, left = ms; left > 0; k++, left -= remembered) asks += atLeast(k, rate * left)
  return asks
}

/** Returns the probability that a Poisson number is k or more. */
function atLeast(k, mean) {
  let term = Math.exp(-mean)
  let below = term
  for (let i = 1; i < k; i++) {
    term *= mean / i
    below += term
  }
  return 1 - below
}

/**
 * Returns the expected number of times that all gateways ask from the first denial until `ms` later, without that first one. At the
 * end of the window (after `resetMs`, and every `windowMs` after that) all of them forget.
 */
export function asksOfAll(rate, gateways, ms, { resetMs, windowMs }) {
  const own = rate / gateways
  // In the last ms nothing is remembered.
  const until = (time) => (time <= 1 ? own * Math.max(0, time) : asksOf(own, time - 1) + own)
  let asks = 0
  let from = 0
  for (let end = Math.min(ms, resetMs); from < ms; from = end, end = Math.min(ms, end + windowMs)) {
    // The gateway that asked first remembers it.
    asks += from === 0 ? (gateways - 1) * until(end) : gateways * until(end - from)
    if (from === 0) asks += until(end - (REMEMBERED_MS - 1))
  }
  return asks
}
