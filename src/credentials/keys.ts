import { createPublicKey, createSecretKey, type JsonWebKey, type KeyObject } from 'node:crypto'
import { keyFits, publicKeyOf, weaknessOf } from '../config/values/public-key.js'
import type { TokenAlgorithm } from '../config/values/token-algorithms.js'

/** A key that may verify tokens. It stays the same object for as long as the issuer publishes it. */
export interface VerificationKey {
  /** Undefined: the key has no id and is tried for every token. */
  readonly kid: string | undefined
  /** The only algorithm that the key may be used with, if its issuer names one. */
  readonly algorithm: string | undefined
  readonly key: KeyObject
  /** True once the issuer has withdrawn the key: tokens signed with it are no longer valid. */
  gone: boolean
}

/** Says why there is no key to try: it does not exist, or the key set is unavailable. */
export interface NoKey {
  readonly unavailable: boolean
  readonly why: string
  /** Ms until a retry makes sense. */
  readonly retryMs: number
}

export type FoundKeys = readonly VerificationKey[] | NoKey

export interface KeySource {
  /** Finds the keys that may have signed a token, mostly one. Returns a Promise only when they must be fetched. */
  find(algorithm: TokenAlgorithm, kid: string | undefined): FoundKeys | Promise<FoundKeys>
  close(): void
}

export function noSuchKey(why: string): NoKey {
  return { unavailable: false, why, retryMs: 0 }
}

export function fits({ algorithm, key }: VerificationKey, wanted: TokenAlgorithm): boolean {
  return (algorithm === undefined || sameAlgorithm(algorithm, wanted)) && keyFits(wanted, key)
}

/** Compares two algorithm names. `EdDSA` with an Ed25519 key is called `Ed25519` in RFC 9864. */
function sameAlgorithm(a: string, b: string): boolean {
  return a === b || (ED25519.has(a) && ED25519.has(b))
}
const ED25519: ReadonlySet<string> = new Set(['EdDSA', 'Ed25519'])

/** Creates a source of the keys in the configuration. They have no ids: all that fit the algorithm are tried. */
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

/**
 * Creates a source of public keys in PEM.
 *
 * @param pems keys that the configuration check has accepted
 */
export function publicKeys(pems: readonly string[]): KeySource {
  return fixedKeys(pems.flatMap((pem) => publicKeyOf(pem) ?? []))
}

export function sharedSecret(secret: string): KeySource {
  return fixedKeys([createSecretKey(Buffer.from(secret))])
}

/** Members of a public key by type (RFC 7518 §6). Private members are never read. */
const MEMBERS: Readonly<Record<string, readonly string[]>> = {
  RSA: ['n', 'e'],
  EC: ['crv', 'x', 'y'],
  OKP: ['crv', 'x'],
}

/**
 * Reads a key of a JWK set (RFC 7517). Refuses a shared secret: a reader of the set could sign with it.
 *
 * @returns a text that says why the key is not used
 */
export function readJwk(jwk: unknown): { readonly key: VerificationKey; readonly print: string } | string {
  if (typeof jwk !== 'object' || jwk === null || Array.isArray(jwk)) return 'is not an object'
  const { kty, kid, alg, use, key_ops: ops, ...members } = jwk as Record<string, unknown>
  const names = typeof kty === 'string' && Object.hasOwn(MEMBERS, kty) ? MEMBERS[kty]! : undefined
  if (names === undefined) return 'is of an unsupported kind'
  if (use !== undefined && use !== 'sig') return 'is not for signatures'
  if (ops !== undefined && !(Array.isArray(ops) && ops.includes('verify'))) return 'is not for signatures'
  if (alg !== undefined && typeof alg !== 'string') return 'has an alg that is not text'
  if (kid !== undefined && (typeof kid !== 'string' || kid.length > 256)) return 'has a kid that is not text'
  const picked: JsonWebKey = { kty: kty as string }
  for (const name of names) {
    if (typeof members[name] !== 'string') return `has no ${name}`
    picked[name] = members[name]
  }
  let key: KeyObject
  try {
    key = createPublicKey({ key: picked, format: 'jwk' })
  } catch {
    return 'is not a valid key'
  }
  const weakness = weaknessOf(key)
  if (weakness !== undefined) return weakness
  return {
    key: { kid, algorithm: alg, key, gone: false },
    print: JSON.stringify([kid, alg, picked]),
  }
}

/** Shortens and quotes a value from a client, for a log line. */
export function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? 'none'
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}
