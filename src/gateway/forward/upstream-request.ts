import type { IncomingMessage } from 'node:http'
import type { Identity } from '../../config/snapshot/identity.js'
import type { Service } from '../../config/snapshot/snapshot.js'
import type { Upstream } from '../../config/snapshot/upstream-settings.js'
import { rewritten } from '../../config/values/rewrite.js'
import { plainAddress } from '../../net/address-key.js'
import type { Exchange } from '../exchange/exchange.js'
import { identityHeader } from '../exchange/headers.js'
import { type FieldChange, withChange, withoutTwins } from '../exchange/hook-state.js'
import { hideUnchecked, pushAuthFields } from '../transform/auth-fields.js'
import { applyRules } from '../transform/header-rules.js'
import { pushIdentity } from '../transform/identity-headers.js'

/** How this gateway names itself in Via (RFC 9110 §7.6.3). */
export const VIA = '1.1 tidegate'

/** Returns path and query for the upstream: the canonical path that was matched, rewritten or without the route's prefix. */
export function upstreamPath(x: Exchange, upstream: Upstream): string {
  const { stripPrefix, shape } = x.route!
  if (shape?.rewrite !== undefined) return upstream.basePath + rewritten(shape.rewrite, x.path) + x.query
  let path = x.path
  if (stripPrefix.length > 0) {
    path = path.slice(stripPrefix.length)
    if (path.charCodeAt(0) !== 0x2f) path = `/${path}`
  }
  return upstream.basePath + path + x.query
}

/**
 * Builds the header for the upstream: the client's end-to-end fields, the verified identity, and what a proxy must add.
 * X-Forwarded-* starts afresh unless the peer is a trusted proxy.
 */
export function upstreamHeaders(
  x: Exchange,
  { identity }: Service,
  upstream: Upstream,
  req: IncomingMessage,
): string[] {
  const { headers } = x
  const route = x.route!
  const rules = route.shape?.request
  const out = rules === undefined ? headers.forward.slice() : applyRules(rules, headers.forward, x)
  const host = headers.host ?? ''
  const peer = plainAddress(x.peer)
  out.push('Host', route.preserveHost && host !== '' ? host : upstream.host)
  if (x.authBy !== undefined && x.authPass === undefined)
    hideUnchecked(out, x, (name) => goesOn(name, x, identity))
  if (headers.identity.length > 0) pushVerifiedIdentity(out, x, identity)
  if (x.authPass !== undefined) pushAuthFields(out, x, (name) => goesOn(name, x, identity))
  if (identity !== undefined) pushIdentity(out, x, identity)
  out.push(
    'X-Forwarded-For',
    headers.forwardedFor === undefined ? peer : `${headers.forwardedFor}, ${peer}`,
    'X-Forwarded-Proto',
    headers.forwardedProto ?? (x.secured === undefined ? 'http' : 'https'),
  )
  const forwardedHost = headers.forwardedHost ?? host
  if (forwardedHost !== '') out.push('X-Forwarded-Host', forwardedHost)
  const via = viaOf(req)
  out.push('Via', headers.via === undefined ? via : `${headers.via}, ${via}`, 'X-Request-Id', x.requestId)
  const all = route.hooks?.onResponse?.some(({ body }) => body !== undefined) ? withChange(out, WHOLE) : out
  if (x.hooks === undefined) return all
  const { read, upstream: change } = x.hooks
  const checked = headers.odd && read !== undefined ? withoutTwins(all, read) : all
  return change === undefined ? checked : withChange(checked, change)
}

/** Change to the header of a request whose response hooks read: they want all of it, and not encoded. */
const WHOLE: FieldChange = {
  drop: new Set(['accept-encoding', 'range', 'if-range']),
  put: ['Accept-Encoding', 'identity'],
}

/** Returns the Via entry for the version in which the client spoke (RFC 9110 §7.6.3). */
function viaOf({ httpVersionMajor, httpVersionMinor }: IncomingMessage): string {
  if (httpVersionMajor === 2) return '2.0 tidegate'
  return httpVersionMinor === 0 ? '1.0 tidegate' : VIA
}

/**
 * Adds the credential that identified this caller, with the tenant next to it, and no other. Nobody has checked a second
 * credential of the client, but the backend would assume that the gateway had.
 */
function pushVerifiedIdentity(out: string[], x: Exchange, identity: Identity | undefined): void {
  for (const source of x.snapshot.consumers) {
    if (source.kind !== x.identifiedBy || source.kind === 'forward') continue
    const [credential] = source.headers
    if (credential === undefined || identityHeader(x.headers, credential) === undefined) continue
    for (const name of source.headers) {
      const isTenant = source.kind === 'header' && name === source.tenant
      const value = isTenant ? x.tenant : identityHeader(x.headers, name)
      if (value !== undefined && goesOn(name, x, identity)) out.push(name, value)
    }
    return
  }
}

/** Returns whether the field goes on: neither removed by the route nor rewritten by the gateway. */
function goesOn(name: string, x: Exchange, identity: Identity | undefined): boolean {
  return x.route!.shape?.request?.drop.has(name) !== true && identity?.fields.has(name) !== true
}
