import { parseDuration } from '../../config/values/quantities.js'
import {
  isScope,
  LONGEST_ID,
  LONGEST_NAME,
  LONGEST_SCOPE,
  MOST_SCOPES,
  type StoredKey,
} from '../../fleet/api-keys.js'
import { refuse } from '../access/problem.js'
import { readBody } from './read-request.js'

/** Reads request bodies of the endpoints for API keys. The functions end the request if something is wrong. */

/** Settings of a new key. */
export interface KeyRequest extends Pick<StoredKey, 'consumer' | 'tier' | 'tenant' | 'scopes' | 'name'> {
  /** Ms; undefined: the key does not expire. */
  readonly lifetime: number | undefined
}

const LEAST_LIFETIME = 60_000
const LONGEST_LIFETIME = 3650 * 86_400_000
const LONGEST_OVERLAP = 90 * 86_400_000
const OVERLAP = 86_400_000

const MEMBERS = ['consumer', 'tier', 'tenant', 'scopes', 'name', 'expires_in'] as const

export function readKeyRequest(body: unknown): KeyRequest {
  const form = 'Send {"consumer":"…"} as JSON. Optional are tier, tenant, scopes, name and expires_in.'
  const { consumer, tier, tenant, scopes, name, expires_in } = readBody(body, MEMBERS, form)
  if (scopes !== undefined && !isScopes(scopes)) {
    refuseBody(
      `scopes is a list of 1 to ${MOST_SCOPES} different scopes. Each has 1 to ${LONGEST_SCOPE} printable ASCII characters, but no space, quote or backslash.`,
    )
  }
  return {
    consumer: textIn('consumer', consumer ?? '', LONGEST_ID)!,
    tier: textIn('tier', tier, LONGEST_ID),
    tenant: textIn('tenant', tenant, LONGEST_ID),
    scopes,
    name: textIn('name', name, LONGEST_NAME),
    lifetime: lifetimeIn(expires_in),
  }
}

/** Time for which the old key still works, and the lifetime of the new one if it differs. */
export interface RotateRequest {
  /** Ms. */
  readonly overlap: number
  /** Ms. */
  readonly lifetime: number | undefined
}

export function readRotateRequest(body: unknown): RotateRequest {
  const form = 'Send no body, or JSON with overlap, expires_in or both.'
  const { overlap, expires_in } = readBody(body ?? {}, ['overlap', 'expires_in'], form)
  const ms = overlap === undefined ? OVERLAP : durationOf(overlap)
  if (ms === undefined || ms > LONGEST_OVERLAP)
    refuseBody('overlap is a duration of at most 90d, such as 24h; 0 ends the old key at once.')
  return { overlap: ms, lifetime: lifetimeIn(expires_in) }
}

function refuseBody(detail: string): never {
  return refuse('bad_request', detail)
}

function lifetimeIn(value: unknown): number | undefined {
  if (value === undefined) return undefined
  const lifetime = durationOf(value)
  if (lifetime === undefined || lifetime < LEAST_LIFETIME || lifetime > LONGEST_LIFETIME)
    refuseBody('expires_in is a duration from 1m to 3650d, such as 90d.')
  return lifetime
}

function durationOf(value: unknown): number | undefined {
  return typeof value === 'string' ? parseDuration(value) : undefined
}

function textIn(member: string, value: unknown, longest: number): string | undefined {
  if (value === undefined || (typeof value === 'string' && value !== '' && value.length <= longest))
    return value
  return refuseBody(`${member} has 1 to ${longest} characters.`)
}

function isScopes(value: unknown): value is string[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > MOST_SCOPES) return false
  return value.every(isScope) && new Set(value).size === value.length
}
