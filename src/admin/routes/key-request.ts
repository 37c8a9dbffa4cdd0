import { parseDuration } from '../../config/values/quantities.js'
import {
  isScope,
  LONGEST_ID,
  LONGEST_NAME,
  LONGEST_SCOPE,
  MOST_SCOPES,
  type StoredKey,
} from '../../fleet/api-keys.js'

/** Reads request bodies of the endpoints for API keys. The functions return a string when something is wrong. */

/** Settings of a new key. */
export interface KeyRequest extends Pick<StoredKey, 'consumer' | 'tier' | 'tenant' | 'scopes' | 'name'> {
  /** Ms; undefined: the key does not expire. */
  readonly lifetime: number | undefined
}

const LEAST_LIFETIME = 60_000
const LONGEST_LIFETIME = 3650 * 86_400_000
const LONGEST_OVERLAP = 90 * 86_400_000
const OVERLAP = 86_400_000

const MEMBERS = ['consumer', 'tier', 'tenant', 'scopes', 'name', 'expires_in']
const FORM = `Send {"consumer":"…"} as JSON, and of tier, tenant, scopes, name and expires_in what is wanted.`

export function readKeyRequest(body: unknown): KeyRequest | string {
  if (!isMapping(body)) return FORM
  const unknown = Object.keys(body).find((name) => !MEMBERS.includes(name))
  if (unknown !== undefined) return `No member ${JSON.stringify(unknown)}. ${FORM}`
  const { consumer, tier, tenant, scopes, name, expires_in: expiresIn } = body
  if (!isText(consumer, LONGEST_ID)) return `consumer has 1 to ${LONGEST_ID} characters.`
  if (tier !== undefined && !isText(tier, LONGEST_ID)) return 'tier is the name of a tier.'
  if (tenant !== undefined && !isText(tenant, LONGEST_ID)) return `tenant has 1 to ${LONGEST_ID} characters.`
  if (name !== undefined && !isText(name, LONGEST_NAME)) return `name has 1 to ${LONGEST_NAME} characters.`
  if (scopes !== undefined && !isScopes(scopes))
    return `scopes is a list of 1 to ${MOST_SCOPES} different ones, each of 1 to ${LONGEST_SCOPE} printable ASCII characters without space, quote and backslash.`
  const lifetime = readLifetime(expiresIn)
  if (typeof lifetime === 'string') return lifetime
  return { consumer, tier, tenant, scopes, name, lifetime }
}

/** Time for which the old key still works, and the lifetime of the new one if it differs. */
export interface RotateRequest {
  /** Ms. */
  readonly overlap: number
  /** Ms. */
  readonly lifetime: number | undefined
}

const ROTATE_FORM = 'Send nothing, or overlap and expires_in, or one of them, as JSON.'

export function readRotateRequest(body: unknown): RotateRequest | string {
  if (body === undefined || body === null) return { overlap: OVERLAP, lifetime: undefined }
  if (!isMapping(body)) return ROTATE_FORM
  const unknown = Object.keys(body).find((name) => name !== 'overlap' && name !== 'expires_in')
  if (unknown !== undefined) return `No member ${JSON.stringify(unknown)}. ${ROTATE_FORM}`
  const overlap = body.overlap === undefined ? OVERLAP : durationOf(body.overlap)
  if (overlap === undefined || overlap > LONGEST_OVERLAP)
    return 'overlap is a duration of at most 90d, such as 24h; 0 ends the old key at once.'
  const lifetime = readLifetime(body.expires_in)
  return typeof lifetime === 'string' ? lifetime : { overlap, lifetime }
}

function readLifetime(value: unknown): number | string | undefined {
  if (value === undefined) return undefined
  const lifetime = durationOf(value)
  if (lifetime === undefined || lifetime < LEAST_LIFETIME || lifetime > LONGEST_LIFETIME)
    return 'expires_in is a duration from 1m to 3650d, such as 90d.'
  return lifetime
}

function durationOf(value: unknown): number | undefined {
  return typeof value === 'string' ? parseDuration(value) : undefined
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isText(value: unknown, longest: number): value is string {
  return typeof value === 'string' && value !== '' && value.length <= longest
}

function isScopes(value: unknown): value is string[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > MOST_SCOPES) return false
  return value.every(isScope) && new Set(value).size === value.length
}
