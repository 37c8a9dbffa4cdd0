import { isIP, isIPv6 } from 'node:net'
import { canonicalPath } from '../../net/path.js'

/** Reads hosts, URLs and paths of the file. Each reader reports through `fail` what is wrong and what to do. */

export type Fail = (wrong: string, fix: string) => undefined

const LABEL = '[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?'
const HOST = new RegExp(`^(?:\\*\\.)?${LABEL}(?:\\.${LABEL})*$`)

/** Reads a host of a route: lower-case, without port; `*.example.com` for every name below `example.com`. */
export function readHost(text: string, fail: Fail): string | undefined {
  const host = text.toLowerCase()
  if (host.length <= 253 && HOST.test(host)) return host
  if (host.startsWith('[') && host.endsWith(']') && isIPv6(host.slice(1, -1))) return host
  if (/:[0-9]+$/.test(host)) return fail('has a port', 'write the host alone: routes do not look at the port')
  if (/[^\x00-\x7f]/.test(host))
    return fail('is not ASCII', 'write it as it goes over the wire, beginning xn--')
  return fail('is not a host', 'write one such as api.example.com or *.example.com')
}

/** Reads the name of a server as a certificate contains it: no wildcard, no address. */
export function readDnsName(text: string, fail: Fail): string | undefined {
  const name = text.toLowerCase()
  if (name.length <= 253 && HOST.test(name) && !name.startsWith('*') && isIP(name) === 0) return name
  return fail('is not the name of a server', 'write one such as payments.internal')
}

export interface UpstreamAddress {
  readonly origin: string
  readonly host: string
  readonly basePath: string
}

const UPSTREAM = /^https?:\/\/(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?(\/[^?#]*)?$/

export function readUpstream(text: string, fail: Fail): UpstreamAddress | undefined {
  const fix = 'write one such as http://10.0.0.5:9001 or http://payments.internal/base'
  if (text.includes('@'))
    return fail('contains credentials', 'an upstream takes none in its address; remove them')
  const match = UPSTREAM.exec(text)
  if (match === null || !URL.canParse(text)) return fail('is not the address of an upstream', fix)
  const raw = match[1] ?? '/'
  const base = canonicalPath(raw)
  if (base === undefined || base.encoded || base.key !== raw) {
    return fail('has an unusual base path', 'write it without dot segments, double slashes and escapes')
  }
  const url = new URL(text)
  const { path } = base
  return { origin: url.origin, host: url.host, basePath: path.endsWith('/') ? path.slice(0, -1) : path }
}

export function readHttpUrl(text: string, fail: Fail): string | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url !== undefined && /^https?:$/.test(url.protocol) && url.hostname !== '') return text
  return fail(
    'is not an http:// or https:// address',
    'write one such as https://collector.internal:4318/path',
  )
}

const ORIGIN = /^[a-z][a-z0-9+.-]*:\/\/(?:\*\.)?(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?$/

/** Reads an origin as a browser sends it (RFC 6454 §6.1), `*` for any, or `*.` before a domain for all below it. */
export function readOrigin(text: string, fail: Fail): string | undefined {
  if (text === '*' || text === 'null') return text
  const fix = 'write one such as https://app.example.com or https://*.example.com, without a path'
  const origin = text.toLowerCase()
  if (!ORIGIN.test(origin)) return fail('is not an origin', fix)
  // Browsers omit the default port.
  if (/^http:.*:80$|^https:.*:443$/.test(origin)) {
    return fail('names the default port, which browsers leave out', `write ${origin.replace(/:[0-9]+$/, '')}`)
  }
  return origin
}

/** Reads a route's path: literal segments, `:name` for one segment, `*` as the last segment for any rest. */
export function readRoutePath(text: string, fail: Fail): string | undefined {
  if (readPlainPath(text, fail) === undefined) return undefined
  const segments = text.slice(1).split('/')
  for (const [i, segment] of segments.entries()) {
    if (segment.includes('*') && (segment !== '*' || i !== segments.length - 1)) {
      return fail('has a "*" that is not its whole last segment', 'write a wildcard route as /payments/*')
    }
    if (segment.startsWith(':') && !/^:[A-Za-z_][A-Za-z0-9_]{0,62}$/.test(segment)) {
      return fail('has a parameter that is not a whole segment', 'write one as /users/:id/orders')
    }
  }
  return text
}

export function readStripPrefix(text: string, fail: Fail): string | undefined {
  if (readPlainPath(text, fail) === undefined) return undefined
  if (/[*]|\/:/.test(text))
    return fail('contains a wildcard or a parameter', 'only literal segments can be stripped')
  return text.endsWith('/') ? text.slice(0, -1) : text
}

/** Reads a path of the edge rules, in the form that requests are compared with. */
export function readEdgePath(text: string, fail: Fail): string | undefined {
  if (readPlainPath(text, fail) === undefined) return undefined
  const end = text.endsWith('*') ? '*' : ''
  const bare = end === '' ? text : text.slice(0, -1)
  if (bare.includes('*')) return fail('has a "*" that is not its end', 'write one such as /wp-*')
  return (canonicalPath(bare)?.key ?? bare).toLowerCase() + end
}

function readPlainPath(text: string, fail: Fail): string | undefined {
  if (!text.startsWith('/')) return fail('does not begin with a slash', 'write a path such as /payments/*')
  if (text.length > 1024) return fail('is longer than 1024 characters', 'write a shorter path')
  if (/[?#]/.test(text)) return fail('contains a query or fragment', 'routes match the path alone; remove it')
  const canonical = canonicalPath(text)
  if (canonical === undefined) {
    return fail(
      'is a path that the gateway never accepts in requests',
      'write it without dot segments, backslashes, spaces, control and non-ASCII characters, and with whole %XX escapes',
    )
  }
  if (/%(2A|3A)/i.test(text)) {
    return fail('contains an escaped "*" or ":"', 'a route cannot name these by themselves; use a parameter')
  }
  if (canonical.key !== text) return fail('is not in its plain form', `write ${canonical.key}`)
  return text
}
