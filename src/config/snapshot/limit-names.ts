import { ALGORITHM_TRAITS } from '../schema/algorithms.js'
import { formatDuration } from '../values/quantities.js'
import type { Level, Limit } from './limit.js'

/** Returns the last part of the key of the counts. A change of it starts new counts. `each`: counts of shares. */
export function keyPartOf(
  by: Level,
  limits: readonly Pick<Limit, 'algorithm' | 'windowMs' | 'calendar'>[],
  each = false,
): string {
  const parts = limits.map(({ algorithm, windowMs, calendar }) =>
    calendar === undefined
      ? ALGORITHM_TRAITS[algorithm].keyPrefix + formatDuration(windowMs)
      : `${calendar.period}.${calendar.timeZone}`,
  )
  // Kept short: with three limits, two more characters would take 16 bytes more for every consumer. `1s1m1h` is still
  // clear.
  const joined = parts.reduce((before, part, i) => {
    const clear = limits[i - 1]?.algorithm === 'sliding' && limits[i]!.algorithm === 'sliding'
    return i === 0 || clear ? before + part : `${before}+${part}`
  }, '')
  return `${by === 'consumer' ? '' : `${by}:`}${each ? 'share:' : ''}${joined}`
}

/**
 * Formats the RateLimit-Policy header (draft-ietf-httpapi-ratelimit-headers-11). `w` is in whole seconds, at least 1;
 * for a bucket it is the time in which the bucket fills. A month has no fixed length and slots have no window: they get
 * a unit.
 */
export function policyHeader(limits: readonly Limit[]): string {
  return limits
    .map(({ name, algorithm, amount, windowMs, burst, calendar }) => {
      if (algorithm === 'concurrency') return `"${name}";q=${amount};qu="concurrent-requests"`
      if (calendar?.period === 'month') return `"${name}";q=${amount}`
      const ms = algorithm === 'token_bucket' ? (windowMs * burst) / amount : windowMs
      return `"${name}";q=${burst};w=${Math.max(1, Math.ceil(ms / 1000))}`
    })
    .join(', ')
}
