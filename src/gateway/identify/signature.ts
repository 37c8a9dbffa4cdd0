import type { SourceOf } from '../../config/snapshot/consumers.js'
import { isBodyOf, readContentDigest } from '../../credentials/body-digest.js'
import { type SignedRequest, verifySignature } from '../../credentials/message-signature.js'
import type { SeenNonces } from '../../credentials/seen-nonces.js'
import type { Refusal } from '../../errors.js'
import { plainAuthority } from '../exchange/authority.js'
import type { Exchange } from '../exchange/exchange.js'
import { joinedField } from '../exchange/header-list.js'
import { identityHeader, plainName } from '../exchange/headers.js'
import { challengeOf, type Identified, identifyAs, unauthorized } from './identify.js'

type Signatures = SourceOf<'signature'>

const CHALLENGE = challengeOf('signature')

/**
 * Identifies the client by a signature over the request as sent (RFC 9421). The nonce is checked last, so that a client
 * without a key can neither use up the nonces of others nor fill the memory.
 *
 * @param now unix ms
 */
export function identifyBySignature(
  x: Exchange,
  source: Signatures,
  nonces: Pick<SeenNonces, 'isNew'>,
  now = Date.now(),
): Identified {
  if (source.headers.every((name) => identityHeader(x.headers, name) === undefined)) return 'absent'
  const found = verifySignature(requestOf(x), source, now)
  if (!('owner' in found)) return refuse(source, found.detail, found.cause)
  const { owner, keyid, nonce } = found
  const wrong = found.coversDigest ? takeDigest(x) : undefined
  if (wrong !== undefined) return wrong
  if (nonce !== undefined) {
    const window = source.maxAge + 2 * source.leeway
    if (!nonces.isNew(keyid, nonce, window, source.maxNonces, now))
      return refuse(source, 'The nonce was used before.', 'a nonce for the second time')
  }
  identifyAs(x, 'signature', owner, owner.tier)
  return undefined
}

/** Requires the signed body. A wrong body is detected at its end, a missing one at once. */
function takeDigest(x: Exchange): Refusal | undefined {
  const expected = readContentDigest(signedField(x, 'content-digest')!)
  if (expected === undefined) {
    return { code: 'bad_header', detail: 'Content-Digest must contain a digest by sha-256 or sha-512.' }
  }
  if (hasBody(x)) x.bodyDigest = expected
  else if (!isBodyOf(expected, NOTHING)) return { code: 'digest_mismatch', cause: 'there is no body' }
  return undefined
}

const NOTHING = Buffer.alloc(0)

const hasBody = ({ headers }: Exchange) => headers.contentLength > 0 || headers.chunked

function refuse({ accepted }: Signatures, detail = 'The signature is not valid.', cause: string): Identified {
  const refusal = unauthorized(detail, CHALLENGE)
  return {
    ...refusal,
    headers: [...refusal.headers!, 'Accept-Signature', accepted],
    cause: `signature: ${cause}`,
  }
}

const ABSOLUTE = /^https?:\/\/([^/?#]*)/i

/** Returns the request as the client sent it: behind a trusted proxy, as that proxy received it. */
function requestOf(x: Exchange): SignedRequest {
  const { method, target, headers } = x
  const scheme = headers.forwardedProto ?? (x.secured === undefined ? 'http' : 'https')
  const path = target.replace(ABSOLUTE, '')
  const mark = path.indexOf('?')
  const query = mark < 0 ? '' : path.slice(mark)
  return {
    method,
    scheme,
    authority: plainAuthority(
      headers.forwardedHost ?? headers.host ?? ABSOLUTE.exec(target)?.[1] ?? '',
      scheme,
    ),
    target,
    path: path.slice(0, path.length - query.length) || '/',
    query,
    hasBody: hasBody(x),
    field: (name) => signedField(x, name),
  }
}

/**
 * Returns a header that reaches the upstream unchanged, or that the gateway reads. For others, a client cannot know
 * what arrives.
 */
function signedField({ headers }: Exchange, name: string): string | undefined {
  if (name === 'host') return headers.host
  if (name === 'content-length') return headers.contentLength < 0 ? undefined : String(headers.contentLength)
  if (hasTwin(headers.forward, name)) return undefined
  return joinedField(headers.forward, name) ?? joinedField(headers.identity, name)
}

/** Returns true if `x_a` is present for `x-a`: a backend may take either for the signed one. */
function hasTwin(list: readonly string[], name: string): boolean {
  for (let i = 0; i < list.length; i += 2) {
    const other = list[i]!
    if (other.length !== name.length) continue
    const lower = other.toLowerCase()
    if (lower !== name && plainName(lower) === plainName(name)) return true
  }
  return false
}
