import type { Cors } from '../../config/snapshot/cors.js'
import type { Exchange } from '../exchange/exchange.js'
import { onlyField } from '../exchange/header-list.js'

/** Handles cross-origin requests by the Fetch standard (fetch.spec.whatwg.org, "CORS protocol"). */

const METHOD = /^[A-Z]{1,32}$/
/** Matches tokens and commas. */
const NAMES = /^[A-Za-z0-9!#$%&'*+.^_`|~ ,-]{1,1024}$/

/** Returns the method that a preflight requests; undefined for any other request. */
export function preflightMethod(x: Exchange): string | undefined {
  if (x.method !== 'OPTIONS' || onlyField(x.headers.forward, 'origin') === undefined) return undefined
  const method = onlyField(x.headers.forward, 'access-control-request-method')
  return method !== undefined && METHOD.test(method) ? method : undefined
}

/** Returns the headers of a preflight response. A preflight that is not allowed gets none: the browser then stops. */
export function preflightFields(cors: Cors, x: Exchange): string[] {
  const out = ['Vary', 'Origin, Access-Control-Request-Method, Access-Control-Request-Headers']
  if (!pushOrigin(out, cors, x)) return out
  const { forward } = x.headers
  out.push(
    'Access-Control-Allow-Methods',
    cors.methods ?? onlyField(forward, 'access-control-request-method')!,
    'Access-Control-Max-Age',
    cors.maxAge,
  )
  const asked = onlyField(forward, 'access-control-request-headers')
  const allowed = cors.headers ?? (asked !== undefined && NAMES.test(asked) ? asked : undefined)
  if (allowed !== undefined) out.push('Access-Control-Allow-Headers', allowed)
  return out
}

/** Adds the headers of every other response of the route, from an upstream or the gateway. */
export function pushCors(out: string[], cors: Cors, x: Exchange): void {
  if (!cors.any) pushVary(out, 'Origin')
  if (pushOrigin(out, cors, x)) out.push('Access-Control-Expose-Headers', cors.expose)
}

/** Removes the upstream's headers: the gateway's configuration defines who may read. */
export function withoutCors(fields: readonly string[]): string[] {
  const out: string[] = []
  for (let i = 0; i < fields.length; i += 2) {
    if (!/^access-control-/i.test(fields[i]!)) out.push(fields[i]!, fields[i + 1]!)
  }
  return out
}

/** Adds a name to Vary, unless it is there already. */
export function pushVary(out: string[], name: string): void {
  for (let i = 0; i < out.length; i += 2) {
    if (out[i]!.length !== 4 || out[i]!.toLowerCase() !== 'vary') continue
    for (const one of out[i + 1]!.split(',')) {
      const varies = one.trim()
      if (varies === '*' || varies.toLowerCase() === name.toLowerCase()) return
    }
  }
  out.push('Vary', name)
}

/** Adds the allowed origin. Returns true if the page may read the response. */
function pushOrigin(out: string[], cors: Cors, x: Exchange): boolean {
  const origin = onlyField(x.headers.forward, 'origin')
  if (origin === undefined || !cors.allows(origin)) return false
  out.push('Access-Control-Allow-Origin', cors.any ? '*' : origin)
  if (cors.credentials) out.push('Access-Control-Allow-Credentials', 'true')
  return true
}
