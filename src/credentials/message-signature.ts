import { createHmac, createPublicKey, timingSafeEqual, verify } from 'node:crypto'
import { getOrAdd } from '../common/maps.js'
import type { SignatureKey, SignatureSettings } from '../config/snapshot/signatures.js'
import { type InnerList, readByteSequences, readInnerLists } from './structured-fields.js'

/** HTTP message signatures (RFC 9421), for verifiers. */

/** A request as its client sent it. */
export interface SignedRequest {
  readonly method: string
  /** `http` or `https`. */
  readonly scheme: string
  /** Lower-case host, with its port unless it is the default one. */
  readonly authority: string
  /** The request target as the client sent it. */
  readonly target: string
  /** Path of the target. */
  readonly path: string
  /** Query of the target with its `?`, or empty. */
  readonly query: string
  readonly hasBody: boolean
  /**
   * Returns the value of a header by its lower-case name, one character per byte; several values are joined with `, `.
   */
  field(name: string): string | undefined
}

export interface Verified {
  readonly owner: SignatureKey['owner']
  readonly keyid: string
  readonly nonce: string | undefined
  /** True if `content-digest` is signed, and with it the body. */
  readonly coversDigest: boolean
}

/** Says why a signature is not accepted. */
export interface NotVerified {
  /**
   * Text for the client. Undefined: the response says only that the signature is invalid, since more would help
   * guessing.
   */
  readonly detail: string | undefined
  /** Cause for the log. */
  readonly cause: string
}

/**
 * Limits checked before a key is looked up: the longest value of either header and of a nonce, in characters, and the
 * most components.
 */
const MAX_FIELD = 4096
const MAX_COMPONENTS = 32
const MAX_NONCE = 128

/** Components that cover others: each one says more than those in its set. */
const SAYS: ReadonlyMap<string, ReadonlySet<string>> = new Map([
  ['@target-uri', new Set(['@scheme', '@authority', '@path', '@query'])],
  ['@request-target', new Set(['@path', '@query'])],
])

/**
 * Verifies the one signature of a request that was made with a known key. Cheap checks come first: a signature is
 * compared only when it is in time, covers all required components and has the right length.
 *
 * @param now Unix ms
 */
export function verifySignature(
  request: SignedRequest,
  settings: SignatureSettings,
  now: number,
): Verified | NotVerified {
  const input = request.field('signature-input') ?? ''
  const given = request.field('signature') ?? ''
  if (input.length > MAX_FIELD || given.length > MAX_FIELD) return malformed('longer than 4096 characters')
  const lists = readInnerLists(input)
  const signatures = readByteSequences(given)
  if (lists === undefined) return malformed('Signature-Input is no dictionary of inner lists')
  if (signatures === undefined) return malformed('Signature is no dictionary of byte sequences')
  for (const [label, list] of lists) {
    const keyid = parameter(list, 'keyid')
    const key = typeof keyid === 'string' ? settings.keys.get(keyid) : undefined
    if (key === undefined || (settings.tag !== undefined && parameter(list, 'tag') !== settings.tag)) continue
    const signature = signatures.get(label)
    if (signature === undefined) return malformed(`Signature has no "${label}"`)
    return verifyOne(request, settings, list, signature, key, keyid as string, now)
  }
  return invalid('no signature by a key that is known here, with the tag that is asked for')
}

function verifyOne(
  request: SignedRequest,
  settings: SignatureSettings,
  list: InnerList,
  signature: Buffer,
  key: SignatureKey,
  keyid: string,
  now: number,
): Verified | NotVerified {
  const alg = parameter(list, 'alg')
  if (alg !== undefined && alg !== key.algorithm) return invalid(`alg is not ${key.algorithm}`)
  const late = outOfTime(list, settings, now)
  if (late !== undefined) return late
  const nonce = parameter(list, 'nonce')
  if (nonce === undefined ? settings.nonceRequired : typeof nonce !== 'string' || nonce === '')
    return { detail: 'The signature needs a nonce.', cause: 'no nonce' }
  if (typeof nonce === 'string' && nonce.length > MAX_NONCE)
    return { detail: `The nonce is longer than ${MAX_NONCE} characters.`, cause: 'a long nonce' }
  const missing = notCovered(request, settings, list)
  if (missing !== undefined) {
    return { detail: `The signature does not cover ${missing}.`, cause: `does not cover ${missing}` }
  }
  const base = signatureBase(request, list)
  if (typeof base !== 'string') return base
  if (!isSignatureOf(base, signature, key)) return invalid(`not a signature by ${keyid}`)
  const coversDigest = list.items.some(({ value }) => value === 'content-digest')
  return { owner: key.owner, keyid, nonce: nonce as string | undefined, coversDigest }
}

/** Checks `created`, which is required, and `expires`, which is optional; both in Unix seconds. */
function outOfTime(list: InnerList, settings: SignatureSettings, now: number): NotVerified | undefined {
  const created = parameter(list, 'created')
  const expires = parameter(list, 'expires')
  if (typeof created !== 'number')
    return { detail: 'The signature does not say when it was created.', cause: 'no created' }
  if (expires !== undefined && typeof expires !== 'number') return malformed('expires is no whole number')
  const age = now - created * 1000
  if (age < -settings.leeway)
    return { detail: 'The signature was created in the future.', cause: `created in ${-age} ms` }
  const old = age > settings.maxAge + settings.leeway
  if (old || (expires !== undefined && now > expires * 1000 + settings.leeway))
    return { detail: 'The signature is too old.', cause: old ? `created ${age} ms ago` : 'expired' }
  return undefined
}

/** Returns the first required component that is not covered. */
function notCovered(
  { hasBody }: SignedRequest,
  { components, digest }: SignatureSettings,
  { items }: InnerList,
): string | undefined {
  const isCovered = (name: string) =>
    items.some(
      ({ value, parameters }) =>
        parameters.length === 0 && (value === name || SAYS.get(value)?.has(name) === true),
    )
  if (digest && hasBody && !isCovered('content-digest')) return 'content-digest'
  return components.find((name) => !isCovered(name))
}

/** Builds the signature base (RFC 9421 §2.5). */
export function signatureBase(request: SignedRequest, list: InnerList): string | NotVerified {
  if (list.items.length > MAX_COMPONENTS) return malformed(`more than ${MAX_COMPONENTS} components`)
  const seen = new Set<string>()
  let base = ''
  for (const { value: name, parameters, text } of list.items) {
    if (parameters.length > 0) {
      const detail = `Parameters of a component, as in ${text}, are not read here.`
      return { detail, cause: `parameters: ${text}` }
    }
    if (seen.has(name)) return malformed(`"${name}" is covered twice`)
    seen.add(name)
    const value = component(request, name)
    if (value === undefined) {
      const detail = `The signature covers ${name}, which is missing or does not reach the gateway.`
      return { detail, cause: `covers ${name}` }
    }
    base += `${text}: ${value}\n`
  }
  return `${base}"@signature-params": ${list.text}`
}

/** Components that are derived from the request (RFC 9421 §2.2). */
const DERIVED: Readonly<Record<string, (request: SignedRequest) => string>> = {
  '@method': ({ method }) => method,
  '@authority': ({ authority }) => authority,
  '@scheme': ({ scheme }) => scheme,
  '@path': ({ path }) => path,
  // RFC 9421 §2.2.7: an absent query is an empty one.
  '@query': ({ query }) => query || '?',
  '@target-uri': ({ scheme, authority, path, query }) => `${scheme}://${authority}${path}${query}`,
  '@request-target': ({ target }) => target,
}

function component(request: SignedRequest, name: string): string | undefined {
  if (name.startsWith('@')) return Object.hasOwn(DERIVED, name) ? DERIVED[name]!(request) : undefined
  return NAME.test(name) ? request.field(name)?.trim() : undefined
}

/** Matches a lower-case header name (RFC 9421 §2.1). */
const NAME = /^[!#$%&'*+.^_`|~0-9a-z-]+$/

/** Prepared verifiers by key; they live as long as the snapshot of the key. */
const ready = new WeakMap<SignatureKey, (base: Buffer, signature: Buffer) => boolean>()

function isSignatureOf(base: string, signature: Buffer, key: SignatureKey): boolean {
  // Header values have one character per byte.
  return getOrAdd(ready, key, checkOf)(Buffer.from(base, 'latin1'), signature)
}

function checkOf({ algorithm, key }: SignatureKey): (base: Buffer, signature: Buffer) => boolean {
  if (algorithm === 'hmac-sha256') {
    const secret = Buffer.from(key, 'base64')
    return (base, signature) =>
      signature.length === 32 &&
      timingSafeEqual(createHmac('sha256', secret).update(base).digest(), signature)
  }
  const by = { key: createPublicKey(key), dsaEncoding: 'ieee-p1363' } as const
  const hash = algorithm === 'ed25519' ? null : 'sha256'
  return (base, signature) => signature.length === 64 && verify(hash, base, by, signature)
}

function parameter({ parameters }: InnerList, name: string) {
  return parameters.find((one) => one.name === name)?.value
}

function malformed(cause: string): NotVerified {
  return { detail: 'The signature is not well-formed (RFC 9421).', cause }
}

function invalid(cause: string): NotVerified {
  return { detail: undefined, cause }
}
