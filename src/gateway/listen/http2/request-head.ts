import { METHODS } from 'node:http'
import type { Refusal } from '../../../errors.js'
import { plainAuthority } from '../../exchange/authority.js'

/** The header of an HTTP/2 request in HTTP/1.1 terms, so that the same code reads both. */
export interface Http2Head {
  readonly method: string
  readonly target: string
  /** Name, value, …: the authority as Host, the pieces of Cookie joined, a body of unknown length as chunked. */
  readonly fields: readonly string[]
  /** Content-Length; -1 if there is none. */
  readonly length: number
  readonly refused: Refusal | undefined
}

const KNOWN_METHODS: ReadonlySet<string> = new Set(METHODS)

/**
 * Converts the header of an HTTP/2 request and refuses what two readers could understand differently.
 *
 * @param raw name, value, … as they came. Each is well-formed by itself (RFC 9113 §8.2.1)
 * @param bodiless the header ended the request
 * @returns undefined for a malformed request, which is a stream error (RFC 9113 §8.1.1)
 */
export function readHttp2Head(raw: readonly string[], bodiless: boolean): Http2Head | undefined {
  // Host comes first, whether it was `:authority` or `host`.
  const fields: string[] = ['host', '']
  let method: string | undefined
  let path: string | undefined
  let authority: string | undefined
  let scheme: string | undefined
  let host: string | undefined
  let cookie = -1
  let length = -1
  let refused: Refusal | undefined
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!
    const value = raw[i + 1]!
    if (name.charCodeAt(0) === COLON) {
      // Behind a regular field, or repeated, or unknown (RFC 9113 §8.3).
      if (fields.length > 2 || host !== undefined || value === '') return undefined
      if (name === ':method' && method === undefined) method = value
      else if (name === ':path' && path === undefined) path = value
      else if (name === ':authority' && authority === undefined) authority = value
      else if (name === ':scheme' && scheme === undefined) scheme = value
      else return undefined
      continue
    }
    switch (name) {
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
        if (length >= 0 || !DIGITS.test(value)) return undefined
        length = Number(value)
        fields.push(name, value)
        break
      // The connection-specific fields of HTTP/1.1 (RFC 9113 §8.2.2).
      case 'connection':
      case 'keep-alive':
      case 'proxy-connection':
      case 'transfer-encoding':
      case 'upgrade':
        return undefined
      case 'te':
        if (value.toLowerCase() !== 'trailers') return undefined
        fields.push(name, value)
        break
      default:
        fields.push(name, value)
    }
  }
  if (method === undefined) return undefined
  if (method === 'CONNECT') {
    if (scheme !== undefined || path !== undefined || authority === undefined) return undefined
  } else if (scheme === undefined || path === undefined || !isTarget(path, method)) return undefined
  if (bodiless && length > 0) return undefined
  if (!KNOWN_METHODS.has(method)) refused ??= { code: 'bad_request', cause: 'method' }
  if (method !== 'CONNECT' && scheme !== 'http' && scheme !== 'https')
    refused ??= { code: 'bad_request', cause: 'scheme' }
  if (host !== undefined && authority !== undefined && !isSameHost(host, authority, scheme)) {
    refused ??= { code: 'bad_host', detail: TWO_HOSTS }
  }
  const named = authority ?? host ?? ''
  if (named === '') {
    refused ??= { code: 'bad_host' }
    fields.splice(0, 2)
  } else fields[1] = named
  if (!bodiless && length < 0) fields.push('transfer-encoding', 'chunked')
  return { method, target: path ?? named, fields, length, refused }
}

/** A path, or `*` for OPTIONS (RFC 9113 §8.3.1). Some upstreams take U+0085 or U+00A0 in a request line for a blank. */
function isTarget(path: string, method: string): boolean {
  return PATH.test(path) || (path === '*' && method === 'OPTIONS')
}

function isSameHost(host: string, authority: string, scheme = 'http'): boolean {
  return host === authority || plainAuthority(host, scheme) === plainAuthority(authority, scheme)
}

const TWO_HOSTS = ':authority and the host field name different hosts; send one of them.'
const COLON = 0x3a
const DIGITS = /^\d+$/
const PATH = /^\/[!-~]*$/
