import type { Route } from '../../config/snapshot/snapshot.js'
import type { Refusal } from '../../errors.js'
import { canonicalPath, otherReadings } from '../../net/path.js'
import { hostName, plainAuthority } from '../exchange/authority.js'
import type { Exchange } from '../exchange/exchange.js'
import { preflightMethod } from '../transform/cors.js'

/** Longest request target, in characters. Longer ones are 414. */
export const MAX_TARGET = 8192

const ABSOLUTE = /^(https?):\/\/([^/?#]*)(.*)$/i

/**
 * Finds the route. Target and Host are brought to one form here. Everything later, including the upstream's request, uses
 * that form alone.
 */
export function matchRoute(x: Exchange): Refusal | undefined {
  if (x.method === 'TRACE' || x.method === 'CONNECT')
    return { code: 'method_not_allowed', headers: ['Allow', ''], detail: NEVER }
  if (x.target.length > MAX_TARGET) return { code: 'uri_too_long' }
  let target = x.target
  let authority = x.headers.host
  if (target.charCodeAt(0) !== 0x2f) {
    // Absolute form. Its authority would replace Host (RFC 9112 §3.2.2). A request with two different ones hopes that some
    // reader takes the other one. Any other form (`*`, `host:port`) has no path.
    const absolute = ABSOLUTE.exec(target)
    if (absolute === null) return { code: 'bad_target', detail: NO_PATH }
    const [, scheme = '', named = '', rest = ''] = absolute
    if (authority !== undefined && !isSameHost(authority, named, scheme.toLowerCase())) {
      return { code: 'bad_host', detail: TWO_HOSTS }
    }
    authority = named
    target = rest === '' ? '/' : rest
    if (target.charCodeAt(0) === 0x3f) target = `/${target}`
  }
  if (authority !== undefined) {
    const host = hostName(authority)
    if (host === undefined) return { code: 'bad_host' }
    x.host = host
  }
  const mark = target.indexOf('?')
  const query = mark < 0 ? '' : readQuery(target, mark)
  if (query === undefined) return { code: 'bad_target', detail: BAD_QUERY }
  x.query = query
  const canonical = canonicalPath(mark < 0 ? target : target.slice(0, mark))
  if (canonical === undefined) return { code: 'bad_target' }
  x.path = canonical.path

  const asked = preflighted(x, canonical.key)
  const own = x.snapshot.match(x.method, x.host, canonical.key)
  const found = asked?.shape?.cors === undefined ? own : asked
  if (found === undefined) return { code: 'no_route' }
  if (isMethodList(found)) return { code: 'method_not_allowed', headers: ['Allow', found.join(', ')] }
  // Another route would let a page send a request that the route of that method does not mention.
  if (asked !== undefined && asked !== found && found.shape?.cors !== undefined)
    return { code: 'method_not_allowed', headers: ['Allow', asked.methods.join(', ')], detail: NO_PREFLIGHT }
  x.route = found
  if (canonical.encoded && !found.allowEncoded) return { code: 'bad_target', detail: ENCODED }
  if (found.allowEncoded) x.alsoRead = othersOf(x, canonical.key, found)
  else if (isOtherRoute(x, canonical.key, found)) return { code: 'bad_target', detail: ENCODED }
  // The key matched, but the path is spelled so that the prefix cannot be cut off as text.
  if (!canonical.path.startsWith(found.stripPrefix)) return { code: 'bad_target', detail: ESCAPED_PREFIX }
  return undefined
}

/** Returns the route that a browser asks about before it sends a request. */
function preflighted(x: Exchange, key: string): Route | undefined {
  if (x.method !== 'OPTIONS') return undefined
  const method = preflightMethod(x)
  const found = method === undefined ? undefined : x.snapshot.match(method, x.host, key)
  return found === undefined || isMethodList(found) ? undefined : found
}

/**
 * Returns whether the path would belong to another route for a backend that decodes it before it looks for the query. A
 * proxy in between may do the same.
 */
function isOtherRoute(x: Exchange, key: string, found: Route): boolean {
  if (!key.includes('%')) return false
  const end = key.search(/%3F|%23/)
  if (end < 0) return false
  const other = x.snapshot.match(x.method, x.host, key.slice(0, end))
  return other !== undefined && !isMethodList(other) && other !== found
}

/** Returns the routes to which the path would belong for a backend that reads it in another way. */
function othersOf(x: Exchange, key: string, found: Route): readonly Route[] | undefined {
  let others: Route[] | undefined
  for (const reading of otherReadings(key)) {
    const other = x.snapshot.match(x.method, x.host, reading)
    if (other === undefined || isMethodList(other) || other === found) continue
    others ??= []
    others.push(other)
  }
  return others
}

const NEVER = 'The gateway never forwards TRACE or CONNECT.'
const ENCODED =
  'The path contains a semicolon or an escaped slash, backslash, percent sign, question mark or #, and could be read as another path; send it in its plain form.'
const ESCAPED_PREFIX = 'The path escapes characters that need no escape; send it in its plain form.'
const NO_PATH = 'The request target is neither a path nor an http:// or https:// address; send it as a path.'
const TWO_HOSTS = 'The request target and the Host header name different hosts; send the same in both.'
const NO_PREFLIGHT = 'The preflight asks for a method whose route has no CORS.'
const BAD_QUERY = 'The query contains a space, a control character or a #; escape it.'

function isMethodList(found: object): found is readonly string[] {
  return Array.isArray(found)
}

/** Characters that RFC 3986 does not allow in a query, but that browsers send. In a path, `canonicalPath` escapes them. */
const UNESCAPED = /["<>\\^`{|}]/g

/**
 * Returns the query with its `?`, with those characters escaped; undefined if a reader could take a part of it for the end
 * of the target.
 */
function readQuery(target: string, mark: number): string | undefined {
  let plain = true
  for (let i = mark; i < target.length; i++) {
    const code = target.charCodeAt(i)
    if (code <= 0x20 || code === 0x7f || code === 0x23) return undefined
    if (ESCAPED[code] === 1) plain = false
  }
  const query = target.slice(mark)
  return plain ? query : query.replace(UNESCAPED, escapeOctet)
}

const ESCAPED = new Uint8Array(128)
for (const char of '"<>\\^`{|}') ESCAPED[char.charCodeAt(0)] = 1

function escapeOctet(char: string): string {
  return `%${char.charCodeAt(0).toString(16).toUpperCase()}`
}

function isSameHost(one: string, other: string, scheme: string): boolean {
  return plainAuthority(one, scheme) === plainAuthority(other, scheme)
}
