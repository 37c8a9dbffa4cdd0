import { isTime, type MapShape } from './replicated-map.js'

/** An API key as the store has it: all but the key itself. */
export interface StoredKey {
  /** Its public handle: the first 16 hex digits of `sha256`. */
  readonly id: string
  /** Of the key, in hex. */
  readonly sha256: string
  readonly consumer: string
  /** A name; what the configuration does not have counts as none. */
  readonly tier: string | undefined
  readonly tenant: string | undefined
  readonly scopes: readonly string[] | undefined
  /** For people: what it is used for, or by whom. */
  readonly name: string | undefined
  /** Unix ms. */
  readonly created: number
  /** Unix ms from which it is refused; undefined: never. */
  readonly expires: number | undefined
  /** Id of the key that takes its place. */
  readonly replacedBy: string | undefined
  /** In memory only: unix ms at which the store was told last that it is in use. */
  told?: number
}

/** Ms for which a key is still known after it has expired, so that it can be said of it. */
const KNOWN_AFTER = 30 * 86_400_000

export const LONGEST_ID = 256
export const MOST_SCOPES = 32
export const LONGEST_SCOPE = 64
export const LONGEST_NAME = 100

/** RFC 6749 section 3.3: printable ASCII without space, quote and backslash. */
const SCOPE = /^[!#-[\]-~]{1,64}$/
const KEY_ID = /^[0-9a-f]{16}$/

export function isKeyId(text: string): boolean {
  return KEY_ID.test(text)
}

export function isScope(text: unknown): text is string {
  return typeof text === 'string' && SCOPE.test(text)
}

/** API keys that were made by `tidegate key`, by id. */
export const API_KEYS: MapShape<StoredKey> = {
  name: 'keys:{keys}',
  what: 'API keys',
  keyName: 'id of the key',
  parse: parseKey,
  write: ({ sha256, consumer, tier, tenant, scopes, name, created, expires, replacedBy }) =>
    JSON.stringify({
      sha256,
      consumer,
      tier,
      tenant,
      scopes,
      name,
      created,
      expires,
      replaced_by: replacedBy,
    }),
  until: ({ expires }) => (expires === undefined ? undefined : expires + KNOWN_AFTER),
  most: 500_000,
  longestKey: 16,
  longestValue: 8192,
}

/** What does not look like a key of ours is none: a record that could be read in two ways must not let anybody in. */
function parseKey(text: string): StoredKey | undefined {
  let found: Record<string, unknown>
  try {
    found = JSON.parse(text) as Record<string, unknown>
  } catch {
    return undefined
  }
  if (typeof found !== 'object' || found === null) return undefined
  const { sha256, consumer, tier, tenant, scopes, name, created, expires, replaced_by: replacedBy } = found
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

function isName(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value.length <= LONGEST_ID
}
