import type { Snapshot } from '../../config/snapshot/snapshot.js'
import type { Refusal } from '../../errors.js'
import { fieldOf, placeOf, removeField } from './header-list.js'
import { Field, fieldTable, isClaim } from './header-table.js'

const NONE: readonly string[] = []

/**
 * Headers of a request as the stages need them, read in one pass over the raw list. Node's own `headers` object joins
 * and drops repeated headers, but the gateway must see a repeated Host or credential.
 */
export type RequestHeaders = Readonly<HeadersRead>

class HeadersRead {
  /** All headers as the client sent them: name, value, … Nothing in it is trusted. */
  sent = NONE
  /** End-to-end headers for the upstream as a flat name, value list, without those that the gateway sets itself. */
  forward = NONE
  /** True if a name in `forward` is the twin of another name to a CGI-style backend: it has `_` or the like. */
  odd = false
  host: string | undefined
  /** Content-Length; -1 if there is none. */
  contentLength = -1
  chunked = false
  expectContinue = false
  /** All X-Forwarded-For headers, joined; only from a trusted proxy. */
  forwardedFor: string | undefined
  forwardedProto: string | undefined
  forwardedHost: string | undefined
  via: string | undefined
  requestId: string | undefined
  /** Headers that can identify a consumer, flat: lower-case name, value. They only reach the upstream once verified. */
  identity = NONE
  /** Lower-case protocol of an Upgrade header that the Connection header names. */
  upgrade: string | undefined
  /** As received, perhaps invalid. It is in `forward`, too. Empty if repeated. */
  traceparent: string | undefined
  /** All headers of this name, joined. They are in `forward`, too. */
  tracestate: string | undefined
  /** First User-Agent. It is in `forward`, too. */
  userAgent: string | undefined
  /**
   * Headers of a CDN about the client, flat: lower-case name, value; only from a trusted proxy. They are in `forward`,
   * too.
   */
  cdn = NONE
}

/** Headers of a request whose own could not be read. */
export const NO_HEADERS: RequestHeaders = Object.freeze(new HeadersRead())

/** Returns a header of the identity list, or undefined. */
export function identityHeader(headers: RequestHeaders, name: string): string | undefined {
  return fieldOf(headers.identity, name)
}

const ODD = /[^a-z0-9-]/
const EACH_ODD = /[^a-z0-9-]/g

/**
 * Normalises a lower-case name with `-`, as CGI-style backends do: to them `x_user_id` and `x.user.id` are `x-user-id`.
 * Which characters they confuse with `-` differs: `_` in all, `.` in PHP, too, and in some (lighttpd) all but letters
 * and digits.
 */
export function plainName(name: string): string {
  return ODD.test(name) ? name.replace(EACH_ODD, '-') : name
}

const REQUEST_ID = /^[\w.-]{1,64}$/

/**
 * Reads `rawHeaders` (name, value, …) once.
 *
 * @param trusted true if the peer is a trusted proxy: only then are X-Forwarded-* and Forwarded trusted and kept
 * @returns a refusal for a header that two readers could understand differently, or that tries to hide or forge an
 *   identity
 */
export function readHeaders(
  raw: readonly string[],
  snapshot: Snapshot,
  trusted: boolean,
): RequestHeaders | Refusal {
  if (raw.length > snapshot.config.server.max_headers * 2) return { code: 'headers_too_large' }
  const table = fieldTable(snapshot)
  const read = new HeadersRead()
  read.sent = raw
  const forward: string[] = []
  read.forward = forward
  let identity: string[] | undefined
  let cdn: string[] | undefined
  let hosts = 0
  let connection: string | undefined
  for (let i = 0; i < raw.length; i += 2) {
    const wireName = raw[i]!
    const value = raw[i + 1]!
    const name = wireName.toLowerCase()
    const field = table.get(name)
    if (field === undefined) {
      const plain = plainName(name)
      if (plain !== name) {
        // A twin of a header that the gateway vouches for must not pass.
        if (table.has(plain) || isClaim(plain) || plain.startsWith('x-forwarded-')) continue
        read.odd = true
      } else if (isClaim(name) || (!trusted && name.startsWith('x-forwarded-'))) {
        continue
      }
      forward.push(wireName, value)
      continue
    }
    switch (field) {
      case Field.Drop:
      case Field.Told:
        break
      case Field.Plain:
        forward.push(wireName, value)
        break
      case Field.Host:
        read.host = value
        hosts++
        break
      case Field.Connection:
        connection = connection === undefined ? value : `${connection},${value}`
        break
      case Field.ContentLength:
        // Node has refused repeated, signed and overlong values. The number is forwarded, never the text.
        read.contentLength = Number(value)
        if (!Number.isSafeInteger(read.contentLength)) return { code: 'bad_request', cause: 'content-length' }
        break
      case Field.TransferEncoding:
        if (read.chunked || value.toLowerCase() !== 'chunked') {
          return {
            code: 'bad_request',
            detail: 'The only accepted Transfer-Encoding is chunked, and only once.',
          }
        }
        read.chunked = true
        break
      case Field.Expect:
        if (value.toLowerCase() !== '100-continue') return { code: 'expectation_failed' }
        read.expectContinue = true
        break
      case Field.Upgrade:
        read.upgrade = value.toLowerCase()
        break
      case Field.Via:
        read.via = read.via === undefined ? value : `${read.via}, ${value}`
        break
      case Field.RequestId:
        if (REQUEST_ID.test(value)) read.requestId = value
        break
      case Field.ForwardedFor:
        if (trusted)
          read.forwardedFor = read.forwardedFor === undefined ? value : `${read.forwardedFor},${value}`
        break
      case Field.ForwardedProto:
        if (trusted) read.forwardedProto = value
        break
      case Field.ForwardedHost:
        if (trusted) read.forwardedHost = value
        break
      case Field.Provenance:
        if (trusted) forward.push(wireName, value)
        break
      case Field.Identity:
        identity ??= []
        if (identity.includes(name)) {
          return { code: 'bad_header', detail: `The header ${name} may be sent only once.` }
        }
        identity.push(name, value)
        break
      case Field.Signature: {
        identity ??= []
        const before = placeOf(identity, name)
        if (before < 0) identity.push(name, value)
        else identity[before + 1] += `, ${value}`
        break
      }
      case Field.TraceParent:
        read.traceparent = read.traceparent === undefined ? value : ''
        forward.push(wireName, value)
        break
      case Field.TraceState:
        read.tracestate = read.tracestate === undefined ? value : `${read.tracestate},${value}`
        forward.push(wireName, value)
        break
      case Field.UserAgent:
        read.userAgent ??= value
        forward.push(wireName, value)
        break
      case Field.Cdn:
        if (!trusted) break
        cdn ??= []
        // The gateway cannot tell which of two the CDN wrote.
        if (fieldOf(cdn, name) !== undefined) {
          return { code: 'bad_header', detail: `The header ${name} may be sent only once.` }
        }
        cdn.push(name, value)
        forward.push(wireName, value)
        break
    }
  }
  if (hosts > 1) return { code: 'bad_host' }
  if (read.chunked && read.contentLength >= 0)
    return { code: 'bad_request', cause: 'content-length and chunked' }
  if (connection !== undefined && !isUsualConnection(connection)) {
    for (const token of connection.toLowerCase().split(',')) {
      const name = token.trim()
      const field = table.get(name)
      if (
        field === Field.Identity ||
        field === Field.Signature ||
        field === Field.Told ||
        field === Field.Provenance ||
        field === Field.Cdn ||
        name.startsWith('x-forwarded-')
      ) {
        return { code: 'bad_header', detail: `The Connection header may not name ${name}.` }
      }
      if (field === Field.TraceParent) read.traceparent = undefined
      removeField(forward, name)
      // Upgrade only counts if Connection names it (RFC 9110 §7.8).
    }
  }
  if (identity !== undefined) read.identity = identity
  if (cdn !== undefined) read.cdn = cdn
  return read
}

/**
 * Checks the rules of the version: only HTTP/1.0 and 1.1 are supported, 1.1 needs a Host (RFC 9112 §3.2), and chunks
 * before 1.1 indicate two readers who disagree (§6.1).
 */
export function checkVersion(major: number, minor: number, headers: RequestHeaders): Refusal | undefined {
  if (major !== 1) return { code: 'http_version' }
  if (minor > 0) return headers.host === undefined ? { code: 'bad_host' } : undefined
  return headers.chunked
    ? { code: 'bad_request', detail: 'HTTP/1.0 has no Transfer-Encoding; send a Content-Length.' }
    : undefined
}

function isUsualConnection(value: string): boolean {
  return value === 'keep-alive' || value === 'close' || value === 'Keep-Alive' || value === 'Upgrade'
}
