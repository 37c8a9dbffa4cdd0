import { createKey, digestOf, idOfDigest } from '../../credentials/key-format.js'
import type { StoredKey } from '../../fleet/api-keys.js'
import type { KeyStore } from '../../fleet/keyring.js'
import type { KeyRequest, RotateRequest } from './key-request.js'

/** A key that was just made: the only moment at which it is known. */
export interface IssuedKey {
  readonly key: string
  readonly stored: StoredKey
}

/** @param now unix ms. Rejects when the store does not take it. */
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
  /** The old one, as it is now. */
  readonly old: StoredKey
}

/**
 * Makes another key for the same caller; the old one works for the time of the overlap still, or until it expires. The
 * new one lives as long as the old one was to, from now on.
 *
 * @returns undefined: the old one was revoked meanwhile
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
