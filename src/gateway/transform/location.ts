import { plainAuthority } from '../exchange/authority.js'
import type { Exchange } from '../exchange/exchange.js'

/** Maps paths of an upstream to paths of the gateway. */
interface Mapping {
  /** Prefix of a path on the upstream. */
  readonly base: string
  /** Prefix of the same path for the client. */
  readonly prefix: string
}

/**
 * Maps an upstream's own paths to those that its clients use, in `Location`, `Content-Location`, and the path of a
 * cookie. Behind `strip_prefix: /shop`, the upstream's `/login` is `/shop/login`. Other targets stay unchanged, and so
 * do those that have the prefix already.
 *
 * @param fields headers of the response, changed in place
 */
export function mapLocations(fields: string[], x: Exchange): void {
  if (!mapsLocations(x)) return
  const mapping = { base: x.upstream!.basePath, prefix: x.route!.stripPrefix }
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]!
    if (name.length !== 8 && name.length !== 10 && name.length !== 16) continue
    switch (name.toLowerCase()) {
      case 'location':
      case 'content-location':
        fields[i + 1] = mapTarget(fields[i + 1]!, mapping, x)
        break
      case 'set-cookie':
        fields[i + 1] = mapCookie(fields[i + 1]!, mapping)
        break
    }
  }
}

/** Lower-case headers that `mapLocations` may change. */
export const MAPPED_FIELDS = ['location', 'content-location', 'set-cookie']

/** Returns whether paths of the upstream differ from those of the route. */
export function mapsLocations({ route, upstream }: Exchange): boolean {
  return route!.rewriteLocation && (route!.stripPrefix !== '' || upstream!.basePath !== '')
}

const TARGET = /^(?:(https?):)?\/\/([^/?#]*)(.*)$/i

function mapTarget(target: string, mapping: Mapping, x: Exchange): string {
  const absolute = TARGET.exec(target)
  if (absolute === null) return target.startsWith('/') ? (mapPath(target, mapping) ?? target) : target
  const [, scheme, authority = '', rest = ''] = absolute
  const { host, origin } = x.upstream!
  const own = (scheme ?? origin.slice(0, origin.indexOf(':'))).toLowerCase()
  const mapped = mapPath(rest === '' ? '/' : rest, mapping)
  if (mapped === undefined) return target
  const named = plainAuthority(authority, own)
  // The client cannot use the upstream's address. The gateway's own stays unchanged.
  if (named === plainAuthority(host, own)) return mapped
  const asked = x.route!.preserveHost ? x.headers.host : undefined
  if (asked === undefined || named !== plainAuthority(asked, own)) return target
  return target.slice(0, target.length - rest.length) + mapped
}

/**
 * Maps a path.
 *
 * @param target a path, optionally with a query and a fragment
 * @returns undefined if the path is not one of the route's
 */
function mapPath(target: string, { base, prefix }: Mapping): string | undefined {
  const end = target.search(/[?#]/)
  const path = end < 0 ? target : target.slice(0, end)
  if (!isBelow(path, base) || (base === '' && isBelow(path, prefix))) return undefined
  const inner = target.slice(base.length)
  return prefix + (inner.startsWith('/') ? inner : `/${inner}`)
}

const PATH = /(;[\t ]*path[\t ]*=[\t ]*)(\/[^;]*)/gi

function mapCookie(cookie: string, { base, prefix }: Mapping): string {
  // A browser accepts such a cookie only with the path `/`.
  if (/^[\t ]*__host-/i.test(cookie)) return cookie
  return cookie.replace(PATH, (all: string, start: string, written: string) => {
    const path = written.trimEnd()
    // A cookie for more than the part of the upstream that the gateway shows is for all of that part.
    if (path === '/' || (base !== '' && isBelow(base, path.replace(/\/$/, ''))))
      return start + (prefix === '' ? '/' : prefix)
    const mapped = mapPath(path, { base, prefix })
    return mapped === undefined ? all : start + mapped
  })
}

/** Returns true if a path equals the other one or is below it. Every path is below the empty one. */
function isBelow(path: string, other: string): boolean {
  return other === '' || path === other || path.startsWith(`${other}/`)
}
