/**
 * Parses an ISO 8601 time into Unix ms; returns undefined for other text. Also refuses a day that its month does not
 * have, which `Date.parse` moves to the next month.
 */
export function momentIn(text: string): number | undefined {
  const at = Date.parse(text)
  const day = text.slice(0, 10)
  const midnight = Date.parse(`${day}T00:00:00Z`)
  const isThere = !Number.isNaN(midnight) && new Date(midnight).toISOString().startsWith(day)
  return Number.isNaN(at) || !isThere ? undefined : at
}
