import type { KeyOwner } from '../../config/snapshot/key-owner.js'
import { type CredentialKindName, credentialKind } from '../../config/values/credential-kinds.js'
import type { Refusal } from '../../errors.js'
import type { Exchange } from '../exchange/exchange.js'

/**
 * Result of one source of consumers: `'absent'`, at once, if its credential is missing, and the next source is tried. A
 * present credential decides: `undefined` with the consumer written into the exchange, or a refusal. A credential that
 * was not seen recently may take longer: then the result is a Promise of one of these two.
 */
export type Identified = Refusal | undefined | 'absent'

/** Longest credential or trusted id, in characters. */
export const MAX_CREDENTIAL = 256

export function isId(text: string): boolean {
  return text !== '' && text.length <= MAX_CREDENTIAL
}

/**
 * Writes the owner of a key into the exchange.
 *
 * @param tier index into the tiers of the snapshot
 */
export function identifyAs(
  x: Exchange,
  kind: CredentialKindName,
  owner: Omit<KeyOwner, 'tier'>,
  tier: number | undefined,
): void {
  x.consumer = owner.consumer
  x.credentialTier = tier
  x.tenant = owner.tenant
  x.scopes = owner.scopes
  x.identifiedBy = kind
}

/** Returns the challenge of a kind of credential without an error (RFC 6750 §3); undefined if it has no scheme. */
export function challengeOf(kind: CredentialKindName): string | undefined {
  const scheme = credentialKind(kind)?.scheme
  return scheme && `${scheme} realm="tidegate"`
}

const API_KEY = challengeOf('api_key')!

/**
 * Makes a 401.
 *
 * @param detail for the client: which credential is wrong, never its text
 * @param challenge from `challengeOf`, optionally with more parameters
 */
export function unauthorized(detail: string | undefined, challenge = API_KEY): Refusal {
  return {
    code: 'unauthorized',
    headers: ['WWW-Authenticate', challenge],
    ...(detail === undefined ? {} : { detail }),
  }
}
