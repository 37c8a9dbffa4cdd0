import type { Service, Snapshot } from '../../config/snapshot/snapshot.js'
import { formatDuration, parseDuration } from '../../config/values/quantities.js'
import { refuse } from '../access/problem.js'

/** Reads the parts of a request. Each function ends the request if its part is wrong. */

export type Query = Readonly<Record<string, string | readonly string[] | undefined>>

export interface QueryOf {
  readonly Querystring: Query
}

/** Longest id that is accepted, in UTF-16 units: a longer one is a mistake, and assignments are held in memory. */
const MAX_ID = 1024
/** Shortest and longest period in a body, in ms: `"for":"2h"`. */
const LEAST_MS = 1000
const MOST_MS = 366 * 86_400_000

/** Checks a consumer's or tenant's id. Any character is allowed. */
export function checkId(id: string): void {
  if (id === '') refuse('bad_request', 'The consumer id is empty. Put it into the path, percent-encoded.')
  if (id.length > MAX_ID) refuse('bad_request', `A consumer id has at most ${MAX_ID} characters.`)
}

export function serviceNamed({ services }: Snapshot, name: string): Service {
  const found = services.find((service) => service.name === name)
  return found ?? refuse('not_found', unknown('service', name, namesOf(services)))
}

/** Checks the name of a tier; undefined is allowed. */
export function checkTier(
  { tiers }: Snapshot,
  name: string | readonly string[] | undefined,
): asserts name is string | undefined {
  if (name === undefined || (typeof name === 'string' && tiers.includes(name))) return
  refuse('unprocessable', unknown('tier', String(name), tiers))
}

/** Formats an error message: what does not exist, and the names to choose from. */
export function unknown(kind: string, name: string, known: readonly string[]): string {
  return `No ${kind} ${JSON.stringify(name)}; the ${kind}s are ${listed(known)}.`
}

/** Lists the names to choose from, for an error message. */
export function listed(names: readonly string[]): string {
  return names.join(', ')
}

export function namesOf(some: readonly { readonly name: string }[]): readonly string[] {
  return [...new Set(some.map(({ name }) => name))]
}

/** Reads a query that has some of these parameters, each at most once, and no others. */
export function readQuery<K extends string>(
  query: Query,
  keys: readonly K[],
): Readonly<Partial<Record<K, string>>> {
  for (const [key, value] of Object.entries(query)) {
    if (!(keys as readonly string[]).includes(key)) refuse('bad_request', unknown('parameter', key, keys))
    if (Array.isArray(value)) refuse('bad_request', `Give ${key} once.`)
  }
  return query as Partial<Record<K, string>>
}

/** Parses a whole number from 1 to `most`, such as a number of rows. */
export function countIn(text: string, what: string, most: number): number {
  if (!/^[1-9]\d{0,3}$/.test(text) || Number(text) > most)
    refuse('bad_request', `n is the number of ${what}, from 1 to ${most}.`)
  return Number(text)
}

/** Reads a body as `bodyWith` does. Ends the request for any other body, with the form of a right one. */
export function readBody<K extends string>(
  body: unknown,
  keys: readonly K[],
  form: string,
): Partial<Record<K, unknown>> {
  const found = bodyWith(body, keys)
  if (found !== undefined) return found
  const more = Object.keys(Object(body)).find((key) => !(keys as readonly string[]).includes(key))
  return refuse('bad_request', more === undefined ? form : `No member ${JSON.stringify(more)}. ${form}`)
}

/** Reads a body that is an object with some of these keys and no others. Returns undefined for any other body. */
export function bodyWith<K extends string>(
  body: unknown,
  keys: readonly K[],
): Partial<Record<K, unknown>> | undefined {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return undefined
  return Object.keys(body).every((key) => (keys as readonly string[]).includes(key)) ? body : undefined
}

/** Reads the time at which a change ends, in unix ms, from the period in a body; undefined: no end was given. */
export function endOf(period: unknown, mostMs = MOST_MS, now = Date.now()): number | undefined {
  if (period === undefined) return undefined
  const ms = typeof period === 'string' ? parseDuration(period) : undefined
  if (ms !== undefined && ms >= LEAST_MS && ms <= mostMs) return now + ms
  const range = `from ${formatDuration(LEAST_MS)} to ${formatDuration(mostMs)}`
  return refuse('bad_request', `"for" is a duration ${range}, such as 30m, 1h or 7d.`)
}

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

/** Formats Unix ms as ISO 8601; null: no end. */
export function isoOf(at: number | undefined): string | null {
  return at === undefined ? null : new Date(at).toISOString()
}
