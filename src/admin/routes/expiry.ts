import { formatDuration, parseDuration } from '../../config/values/quantities.js'
import type { Problem } from '../access/problem.js'

/** Shortest period in a body, in ms: `"for":"2h"`. */

const LEAST_MS = 1000
const MOST_MS = 366 * 86_400_000

/**
 * Parses a period.
 *
 * @returns ms; undefined: no end was given; or the fault in the text
 */
export function periodOf(text: unknown): number | undefined | Problem {
  if (text === undefined) return undefined
  const ms = typeof text === 'string' ? parseDuration(text) : undefined
  if (ms !== undefined && ms >= LEAST_MS && ms <= MOST_MS) return ms
  const detail = `"for" is no time from ${formatDuration(LEAST_MS)} to ${formatDuration(MOST_MS)}; write one such as 30m, 2h or 7d.`
  return { code: 'bad_request', detail }
}

/** Reads a body that is an object with some of these keys and no others. */
export function bodyWith<K extends string>(
  body: unknown,
  keys: readonly K[],
): Partial<Record<K, unknown>> | undefined {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return undefined
  return Object.keys(body).every((key) => (keys as readonly string[]).includes(key))
    ? (body as Partial<Record<K, unknown>>)
    : undefined
}
