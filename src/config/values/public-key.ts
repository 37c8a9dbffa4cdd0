import { createPublicKey, type KeyObject } from 'node:crypto'
import type { Fail } from './parse-url.js'
import { readPemFile } from './pem.js'
import type { NamedFile } from './read-file.js'
import type { TokenAlgorithm } from './token-algorithms.js'

/** Size of an RSA key, in bits: smaller keys are broken (RFC 7518 §3.3), larger ones make each signature expensive. */
const RSA_BITS = { least: 2048, most: 8192 }
/**
 * Exponent of an RSA key, usually 65537. A larger one makes each signature expensive, too. With 1, anyone could sign.
 */
const EXPONENT = { least: 3n, most: 2n ** 32n }

const CURVES: Readonly<Partial<Record<TokenAlgorithm, string>>> = {
  ES256: 'prime256v1',
  ES384: 'secp384r1',
  ES512: 'secp521r1',
}

/** Reads a public key or a certificate in PEM, from the text itself or the file that it names. */
export function readPublicKey(value: string, fail: Fail): NamedFile | undefined {
  const pem = value.includes('-----BEGIN ') ? { file: 'inline', text: value } : readPemFile(value, fail)
  if (pem === undefined) return undefined
  if (/-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----/.test(pem.text))
    return fail('contains a private key', 'give the public one alone: openssl pkey -in FILE -pubout')
  const key = publicKeyOf(pem.text)
  if (key === undefined)
    return fail('contains no readable public key', 'give one that begins with -----BEGIN PUBLIC KEY-----')
  const problem = weaknessOf(key)
  return problem === undefined
    ? pem
    : fail(problem, 'give a key of RSA 2048 to 8192, P-256, P-384, P-521 or Ed25519')
}

/**
 * Parses a public key; undefined if it is invalid.
 *
 * @param pem SPKI, PKCS #1 or a certificate
 */
export function publicKeyOf(pem: string): KeyObject | undefined {
  try {
    return createPublicKey(pem)
  } catch {
    return undefined
  }
}

/** Returns why a key must not be used; undefined for a good one. */
export function weaknessOf({
  asymmetricKeyType: type,
  asymmetricKeyDetails: details,
}: KeyObject): string | undefined {
  if (type === 'ed25519') return undefined
  if (type === 'ec')
    return Object.values(CURVES).includes(details?.namedCurve ?? '')
      ? undefined
      : 'is on an unsupported curve'
  if (type !== 'rsa') return 'is of an unsupported kind'
  const bits = details?.modulusLength ?? 0
  if (bits < RSA_BITS.least || bits > RSA_BITS.most) return `has ${bits} bits`
  const exponent = details?.publicExponent ?? 0n
  const usual = exponent >= EXPONENT.least && exponent <= EXPONENT.most && exponent % 2n === 1n
  return usual ? undefined : 'has an unsafe exponent'
}

/** Returns true if the private half of the key can make signatures of this algorithm. */
export function keyFits(algorithm: TokenAlgorithm, key: KeyObject): boolean {
  switch (algorithm.slice(0, 2)) {
    case 'RS':
    case 'PS':
      return key.asymmetricKeyType === 'rsa'
    case 'ES':
      return key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === CURVES[algorithm]
    case 'Ed':
      return key.asymmetricKeyType === 'ed25519'
    default:
      return key.type === 'secret'
  }
}
