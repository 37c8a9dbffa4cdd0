import { createPublicKey, createSecretKey, type JsonWebKey, type KeyObject } from 'node:crypto'
import { keyFits, publicKeyOf, weaknessOf } from '../config/values/public-key.js'
import type { TokenAlgorithm } from '../config/values/token-algorithms.js'

/** A key that tokens may be signed with. The same object for as long as the issuer has it. */
export interface VerificationKey {
  /** Undefined: it has no name, and is tried whatever the token says. */
  readonly kid: string | undefined
  /** The only algorithm that it is for, where its issuer names one. */
  readonly algorithm: string | undefined
  readonly key: KeyObject
  /** The issuer has taken it back: what was signed with it is good no longer. */
  gone: boolean
}

/** Why there is no key to try: no such key, or nobody can say whether there is one. */
export interface NoKey {
  readonly unavailable: boolean
  readonly why: string
  /** Ms until it makes sense to ask again. */
  readonly retryMs: number
}

export type FoundKeys = readonly VerificationKey[] | NoKey

export interface KeySource {
  /** Keys that may have signed a token, mostly one. A Promise only when they have to be fetched. */
  find(algorithm: TokenAlgorithm, kid: string | undefined): FoundKeys | Promise<FoundKeys>
  close(): void
}

export function noSuchKey(why: string): NoKey {
  return { unavailable: false, why, retryMs: 0 }
}

export function fits({ algorithm, key }: VerificationKey, wanted: TokenAlgorithm): boolean {
  return (algorithm === undefined || sameAlgorithm(algorithm, wanted)) && keyFits(wanted, key)
}

/** `EdDSA` with a key of Ed25519 is what RFC 9864 calls `Ed25519`. */
function sameAlgorithm(a: string, b: string): boolean {
  return a === b || (ED25519.has(a) && ED25519.has(b))
}
const ED25519: ReadonlySet<string> = new Set(['EdDSA', 'Ed25519'])

/** Keys that stand in the configuration. They have no names: all that fit the algorithm are tried. */
function fixedKeys(keys: readonly KeyObject[]): KeySource {
  const all = keys.map((key): VerificationKey => ({ kid: undefined, algorithm: undefined, key, gone: false }))
  return {
    find(algorithm) {
      const found = all.filter((key) => fits(key, algorithm))
      return found.length > 0 ? found : noSuchKey(`no key is for ${algorithm}`)
    },
    close() {},
  }
}

/** @param pems such as the configuration has been found to hold */
export function publicKeys(pems: readonly string[]): KeySource {
  return fixedKeys(pems.flatMap((pem) => publicKeyOf(pem) ?? []))
}

export function sharedSecret(secret: string): KeySource {
  return fixedKeys([createSecretKey(Buffer.from(secret))])
}

/** Members of a public key, by kind (RFC 7518 §6). Those of a private one are never looked at. */
const MEMBERS: Readonly<Record<string, readonly string[]>> = {
  RSA: ['n', 'e'],
  EC: ['crv', 'x', 'y'],
  OKP: ['crv', 'x'],
}

/**
 * A key of a JWK set (RFC 7517). A shared secret is never taken from one: whoever can read the set could sign with it.
 *
 * @returns a text that says why it is not used
 */
export function readJwk(jwk: unknown): { readonly key: VerificationKey; readonly print: string } | string {
  if (typeof jwk !== 'object' || jwk === null || Array.isArray(jwk)) return 'is no object'
  const { kty, kid, alg, use, key_ops: ops, ...members } = jwk as Record<string, unknown>
  const names = typeof kty === 'string' && Object.hasOwn(MEMBERS, kty) ? MEMBERS[kty]! : undefined
  if (names === undefined) return 'is of a kind that is not used here'
  if (use !== undefined && use !== 'sig') return 'is not for signatures'
  if (ops !== undefined && !(Array.isArray(ops) && ops.includes('verify'))) return 'is not for signatures'
  if (alg !== undefined && typeof alg !== 'string') return 'has an alg that is no text'
  if (kid !== undefined && (typeof kid !== 'string' || kid.length > 256)) return 'has a kid that is no text'
  const picked: JsonWebKey = { kty: kty as string }
  for (const name of names) {
    if (typeof members[name] !== 'string') return `has no ${name}`
    picked[name] = members[name]
  }
  let key: KeyObject
  try {
    key = createPublicKey({ key: picked, format: 'jwk' })
  } catch {
    return 'is no valid key'
  }
  const weakness = weaknessOf(key)
  if (weakness !== undefined) return weakness
  return {
    key: { kid, algorithm: alg, key, gone: false },
    print: JSON.stringify([kid, alg, picked]),
  }
}
