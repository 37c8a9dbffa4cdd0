import { fieldsOf, isTime, parseJson } from '../common/json.js'
import type { MapShape } from './replicated-map.js'

/** API key as the store holds it: everything except the key itself. */
export interface StoredKey {
  /** Public id: the first 16 hex digits of `sha256`. */
  readonly id: string
  /** SHA-256 digest of the key, in hex. */
  readonly sha256: string
  readonly consumer: string
  /** Name of a tier. A name that the configuration does not have counts as no tier. */
  readonly tier: string | undefined
  readonly tenant: string | undefined
  readonly scopes: readonly string[] | undefined
  /** Label for operators: what the key is used for, or who uses it. */
  readonly name: string | undefined
  /** When the key was created, in unix ms. */
  readonly created: number
  /** Unix ms from which the key is refused; undefined if it never expires. */
  readonly expires: number | undefined
  /** Id of the key that replaces this one. */
  readonly replacedBy: string | undefined
  /** In memory only: when this process last reported to the store that the key is in use, in unix ms. */
  told?: number
}

/** How long an expired key is remembered, in ms, so that a denial can say that the key has expired. */
const KNOWN_AFTER = 30 * 86_400_000

export const LONGEST_ID = 256
export const MOST_SCOPES = 32
export const LONGEST_SCOPE = 64
export const LONGEST_NAME = 100

/** Allowed scope names: printable ASCII without space, quote and backslash (RFC 6749 section 3.3). */
const SCOPE = /^[!#-[\]-~]{1,64}$/
const KEY_ID = /^[0-9a-f]{16}$/

export function isKeyId(text: string): boolean {
  return KEY_ID.test(text)
}

export function isScope(text: unknown): text is string {
  return typeof text === 'string' && SCOPE.test(text)
}

/** Map of the API keys that `tidegate key` made, by id. */
export const API_KEYS: MapShape<StoredKey> = {
  name: 'keys:{keys}',
  what: 'API keys',
  keyName: 'id of the key',
  parse: parseKey,
  // The id is the key of the map, and `told` concerns this process only.
  write: ({ id, told, replacedBy, ...key }) => JSON.stringify({ ...key, replaced_by: replacedBy }),
  until: ({ expires }) => (expires === undefined ? undefined : expires + KNOWN_AFTER),
  most: 500_000,
  mostSplit: 50_000_000,
  longestKey: 16,
  longestValue: 8192,
}

/**
 * Parses a stored key. Returns undefined for anything else: a record that can be read in two ways must not let a client
 * in.
 */
function parseKey(text: string): StoredKey | undefined {
  const { sha256, consumer, tier, tenant, scopes, name, created, expires, ...rest } = fieldsOf(
    parseJson(text),
  )
  const { replaced_by: replacedBy } = rest
  if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/.test(sha256)) return undefined
  if (!isName(consumer) || !isTime(created)) return undefined
  if (tier !== undefined && !isName(tier)) return undefined
  if (tenant !== undefined && !isName(tenant)) return undefined
  if (name !== undefined && typeof name !== 'string') return undefined
  if (expires !== undefined && !isTime(expires)) return undefined
  if (scopes !== undefined && !(Array.isArray(scopes) && scopes.every(isScope))) return undefined
  if (replacedBy !== undefined && typeof replacedBy !== 'string') return undefined
  return {
    id: sha256.slice(0, 16),
    sha256,
    consumer,
    tier,
    tenant,
    scopes,
    name,
    created,
    expires,
    replacedBy,
    told: 0,
  }
}

/**
 * Returns a search for the keys of a consumer.
 *
 * @param consumer undefined for all keys
 */
export function keysOf(consumer: string | undefined) {
  if (consumer === undefined) return { fits: () => true }
  const part = JSON.stringify(consumer)
  return {
    mayFit: (text: string) => text.includes(part),
    fits: (_id: string, key: StoredKey) => key.consumer === consumer,
  }
}

function isName(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value.length <= LONGEST_ID
}
