import { METHODS } from 'node:http'
import type { Refusal } from '../../errors.js'
import { plainAuthority } from '../exchange/authority.js'

/** The header of an HTTP/2 stream in HTTP/1.1 terms, so that the same code reads both. */
export interface Http2Head {
  readonly method: string
  readonly target: string
  /** Name, value, …: the authority as Host, the pieces of Cookie joined, a body of unknown length as chunked. */
  readonly fields: readonly string[]
  readonly refused: Refusal | undefined
}

const KNOWN_METHODS: ReadonlySet<string> = new Set(METHODS)

/**
 * Converts the header of an HTTP/2 request and refuses what two readers could understand differently.
 * nghttp2 has already refused: names that are invalid or not in lower case; CR, LF and NUL in values; repeated or misplaced
 * pseudo-header fields; connection-specific fields; `te` other than `trailers`; a Content-Length that is not a number.
 *
 * @param raw name, value, … as they came
 * @param bodiless the header ended the request
 */
export function readHttp2Head(raw: readonly string[], bodiless: boolean): Http2Head {
  const fields: string[] = []
  let method = ''
  let path: string | undefined
  let authority: string | undefined
  let scheme: string | undefined
  let host: string | undefined
  let cookie = -1
  let hasLength = false
  let refused: Refusal | undefined
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!
    const value = raw[i + 1]!
    switch (name) {
      case ':method':
        method = value
        break
      case ':path':
        path = value
        break
      case ':authority':
        authority = value
        break
      case ':scheme':
        scheme = value
        break
      case 'host':
        if (host !== undefined) refused ??= { code: 'bad_host' }
        host = value
        break
      case 'cookie':
        if (cookie < 0) {
          cookie = fields.length + 1
          fields.push(name, value)
        } else fields[cookie] += `; ${value}`
        break
      case 'content-length':
        hasLength = true
        fields.push(name, value)
        break
      default:
        if (!TOKEN.test(name) || FORBIDDEN.has(name))
          refused ??= { code: 'bad_request', cause: `field ${name}` }
        else if (CONTROL.test(value)) refused ??= { code: 'bad_request', cause: `value of ${name}` }
        fields.push(name, value)
    }
  }
  if (!KNOWN_METHODS.has(method)) refused ??= { code: 'bad_request', cause: 'method' }
  if (method !== 'CONNECT' && scheme !== 'http' && scheme !== 'https')
    refused ??= { code: 'bad_request', cause: 'scheme' }
  if (host !== undefined && authority !== undefined && !isSameHost(host, authority, scheme)) {
    refused ??= { code: 'bad_host', detail: TWO_HOSTS }
  }
  const named = authority ?? host
  if (named === undefined || named === '') refused ??= { code: 'bad_host' }
  else fields.unshift('host', named)
  if (!bodiless && !hasLength) fields.push('transfer-encoding', 'chunked')
  return { method, target: path ?? named ?? '', fields, refused }
}

function isSameHost(host: string, authority: string, scheme = 'http'): boolean {
  return plainAuthority(host, scheme) === plainAuthority(authority, scheme)
}

const TWO_HOSTS = ':authority and the host field name different hosts; send one of them.'
/** A field name in lower case (RFC 9113 §8.2.1). */
const TOKEN = /^[!#$%&'*+.^_`|~0-9a-z-]+$/
const CONTROL = /[\x00-\x08\x0a-\x1f\x7f]/
/** Connection-specific fields of HTTP/1.1, which HTTP/2 forbids (RFC 9113 §8.2.2). */
const FORBIDDEN: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
])
