/**
 * Unix ms of a time of ISO 8601; undefined: it is none. Neither is a day that its month does not have, which `Date.parse` takes
 * for one of the next.
 */
export function momentIn(text: string): number | undefined {
  const at = Date.parse(text)
  const day = text.slice(0, 10)
  const midnight = Date.parse(`${day}T00:00:00Z`)
  const isThere = !Number.isNaN(midnight) && new Date(midnight).toISOString().startsWith(day)
  return Number.isNaN(at) || !isThere ? undefined : at
}
