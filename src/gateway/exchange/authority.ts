import { isIPv6 } from 'node:net'

// Labels separated by dots, optionally with the root's dot at the end; or an IPv6 literal. No userinfo, no escapes.
const AUTHORITY = /^(?:[a-z0-9][a-z0-9_-]*(?:\.[a-z0-9_-]+)*\.?|\[([0-9a-f:.]{2,45})\])(?::([0-9]{0,5}))?$/i
const MAX_HOST = 254

let lastAuthority = ''
let lastHost: string | undefined

/**
 * Returns the lower-case host of an authority without its port, or undefined for an invalid one (RFC 3986 §3.2.2): an
 * empty label, a port above 65535, an invalid address. Caches the last one, because most requests have the same.
 */
export function hostName(authority: string): string | undefined {
  if (authority === lastAuthority) return lastHost
  lastAuthority = authority
  lastHost = readHostName(authority)
  return lastHost
}

function readHostName(authority: string): string | undefined {
  const match = AUTHORITY.exec(authority)
  if (match === null) return undefined
  const [, address, port] = match
  if (Number(port ?? 0) > 65_535) return undefined
  if (address !== undefined && !isIPv6(address)) return undefined
  const host = (port === undefined ? authority : authority.slice(0, -port.length - 1)).toLowerCase()
  if (host.length > MAX_HOST) return undefined
  // The root's dot: `example.com.` is `example.com`.
  return host.endsWith('.') ? host.slice(0, -1) : host
}

/** Normalises an authority for comparison: lower case, without the default port of its scheme. */
export function plainAuthority(authority: string, scheme: string): string {
  const usual = scheme === 'https' ? ':443' : ':80'
  const lower = authority.toLowerCase()
  if (lower.endsWith(usual)) return lower.slice(0, -usual.length)
  return lower.endsWith(':') ? lower.slice(0, -1) : lower
}
