import { createKey, digestOf, idOfDigest } from '../../credentials/key-format.js'
import type { StoredKey } from '../../fleet/api-keys.js'
import type { KeyStore } from '../../fleet/keyring.js'
import type { KeyRequest, RotateRequest } from './key-request.js'

/** A new key. Its text is known only at this moment. */
export interface IssuedKey {
  readonly key: string
  readonly stored: StoredKey
}

/**
 * Creates and stores a key. Rejects when the store does not accept it.
 *
 * @param now Unix ms
 */
export async function issueKey(
  keys: KeyStore,
  { lifetime, ...owner }: KeyRequest,
  now: number,
): Promise<IssuedKey> {
  const key = createKey()
  const sha256 = digestOf(key)
  const stored: StoredKey = {
    id: idOfDigest(sha256),
    sha256,
    ...owner,
    created: now,
    expires: lifetime === undefined ? undefined : now + lifetime,
    replacedBy: undefined,
  }
  if (await keys.keys().setIf('absent', stored.id, stored)) return { key, stored }
  throw new Error(`a key with the id ${stored.id} is there already; try again`)
}

export interface Rotated extends IssuedKey {
  /** The old key after the rotation. */
  readonly old: StoredKey
}

/**
 * Creates another key for the same caller. The old key still works for the overlap, or until it expires. The new key
 * gets the lifetime of the old one, starting now.
 *
 * @returns undefined if the old key was revoked meanwhile
 */
export async function rotateKey(
  keys: KeyStore,
  old: StoredKey,
  { overlap, lifetime }: RotateRequest,
  now: number,
): Promise<Rotated | undefined> {
  const { consumer, tier, tenant, scopes, name, created, expires } = old
  const before = expires === undefined ? undefined : expires - created
  const issued = await issueKey(
    keys,
    { consumer, tier, tenant, scopes, name, lifetime: lifetime ?? before },
    now,
  )
  const ending = {
    ...old,
    expires: Math.min(expires ?? Number.POSITIVE_INFINITY, now + overlap),
    replacedBy: issued.stored.id,
  }
  if (await keys.keys().setIf('present', old.id, ending)) return { ...issued, old: ending }
  await keys.keys().set(issued.stored.id, undefined)
  return undefined
}
