import {
  asList,
  type DraftConfig,
  identityHeaders,
  type Path,
  present,
  type Report,
  repeated,
  reportTwice,
} from '../schema/partial-config.js'
import { TOLD_HEADERS } from '../snapshot/identity.js'
import { suggest } from '../values/nearest-name.js'
import { missingIn, repeatedIn } from '../values/rewrite.js'

type DraftRoute = NonNullable<NonNullable<DraftConfig['routes']>[number]>

/** Checks what a route changes in messages, and where it leads, beyond the schema. */
export function checkShaping(config: DraftConfig, error: Report, warning: Report): void {
  const identity = identityHeaders(config)
  const told = toldBy(config)
  for (const [i, route] of present(config.routes)) {
    checkDestination(config, route, ['routes', i], error)
    checkRewrite(route, ['routes', i], error)
    checkHeaders(route, identity, told, ['routes', i], error)
    checkCors(route, ['routes', i], error)
  }
  checkUncounted(config, warning)
}

/** Returns every service that a route leads to, with the key that names it. */
export function destinationsOf(route: DraftRoute): { name: string; path: Path }[] {
  const found: { name: string; path: Path }[] = []
  if (route.service !== undefined) found.push({ name: route.service, path: ['service'] })
  for (const [k, share] of present(route.split)) {
    if (share.service !== undefined) found.push({ name: share.service, path: ['split', k, 'service'] })
  }
  if (route.mirror?.service !== undefined) {
    found.push({ name: route.mirror.service, path: ['mirror', 'service'] })
  }
  return found
}

const DESTINATIONS = ['service', 'split', 'respond'] as const
/** Keys that have no meaning on a route that forwards nothing. */
const FORWARDING = ['strip_prefix', 'rewrite', 'mirror', 'refund_on', 'cost_header', 'preserve_host'] as const

function checkDestination({ services }: DraftConfig, route: DraftRoute, place: Path, error: Report): void {
  const [first, second] = DESTINATIONS.filter((key) => Object.hasOwn(route, key))
  if (first === undefined) {
    error(place, '"service" is missing; name one, or give split or respond')
  } else if (second !== undefined) {
    error([...place, second], `given together with ${first}; keep one of the two`)
  }
  if (services !== undefined) {
    for (const { name, path } of destinationsOf(route)) {
      if (Object.hasOwn(services, name)) continue
      const known = suggest(name, Object.keys(services), 'services')
      error([...place, ...path], `no service is named "${name}"; ${known}`)
    }
  }
  if (route.sticky !== undefined && !Object.hasOwn(route, 'split')) {
    error([...place, 'sticky'], 'given without split; remove it')
  }
  const shares = asList(route.split)
  const names = shares.map((share) => share?.service)
  for (const k of repeated(names))
    error([...place, 'split', k, 'service'], `"${names[k]}" is listed twice; add up its weights`)
  if (shares.length > 0 && shares.every((share) => share?.weight === 0)) {
    error([...place, 'split'], 'every weight is 0, so no service gets requests; raise one')
  }
  if (route.mirror?.service !== undefined && [route.service, ...names].includes(route.mirror.service)) {
    error([...place, 'mirror', 'service'], 'the route already leads there; name another service')
  }
  if (!Object.hasOwn(route, 'respond')) return
  for (const key of FORWARDING) {
    if (Object.hasOwn(route, key) && route[key] !== false) {
      error([...place, key], 'has no effect next to respond, which forwards nothing; remove it')
    }
  }
  if (route.compress?.enabled === true) {
    error(
      [...place, 'compress'],
      'has no effect next to respond, whose response is never compressed; remove it',
    )
  }
  if (route.websocket?.enabled === true) {
    error([...place, 'websocket'], 'has no effect next to respond, which forwards nothing; remove it')
  }
  const { status, body } = route.respond ?? {}
  if ((status === 204 || status === 304) && body !== undefined) {
    error([...place, 'respond', 'body'], `a ${status} has no body; remove it, or take another status`)
  }
}

function checkRewrite({ path, rewrite, strip_prefix: prefix }: DraftRoute, place: Path, error: Report): void {
  if (rewrite === undefined) return
  if (prefix !== undefined) {
    error([...place, 'rewrite'], 'given together with strip_prefix; keep one of the two')
  }
  if (path === undefined) return
  const missing = missingIn(path, rewrite)
  if (missing !== undefined) {
    error([...place, 'rewrite'], `"${missing}" is not in "${path}"; use only parts of the route's path`)
  }
  const twice = repeatedIn(path, rewrite)
  if (twice !== undefined) {
    error([...place, 'rewrite'], `"${twice}" is in "${path}" twice; give the two different names`)
  }
}

/** Headers that describe the transport or the origin of a message. The gateway writes them itself. */
const TRANSPORT = new Set(
  `connection content-length expect forwarded host keep-alive proxy-authenticate proxy-authorization
   proxy-connection http2-settings te trailer transfer-encoding upgrade via x-real-ip x-request-id x-tidegate-mirror`.split(
    /\s+/,
  ),
)
const PREFIXES = ['x-forwarded-', 'sec-websocket-']
const QUOTA = /^(?:ratelimit|ratelimit-policy|x-ratelimit-(?:limit|remaining|reset)|retry-after)$/
/**
 * Headers that override the method or path of a request. The gateway applied its limits to the original ones, so a
 * backend must not see others.
 */
export const OVERRIDES: ReadonlySet<string> = new Set([
  'x-original-url',
  'x-rewrite-url',
  'x-http-method-override',
  'x-http-method',
  'x-method-override',
])

export function isOfTransport(name: string): boolean {
  return TRANSPORT.has(name) || PREFIXES.some((prefix) => name.startsWith(prefix))
}

type Told = (name: string, route: DraftRoute) => boolean

/** Returns a function that tells the headers of a route that its upstreams trust because only the gateway writes them. */
function toldBy({ services }: DraftConfig): Told {
  const names = new Set<string>(TOLD_HEADERS)
  const withToken = new Set<string>()
  for (const [name, service] of Object.entries(services ?? {})) {
    const header = service?.identity?.jwt?.header
    // Clients send Authorization, too. It only counts where a token of the gateway replaces it.
    if (header === 'authorization') withToken.add(name)
    else if (header !== undefined) names.add(header)
  }
  return (name, route) =>
    names.has(name) ||
    (name === 'authorization' && destinationsOf(route).some((to) => withToken.has(to.name)))
}

/** Variables that are unknown if a request is answered before the gateway identifies the client. */
const UNKNOWN = new Set(['consumer', 'tier', 'service', 'client_ip'])

function checkHeaders(
  route: DraftRoute,
  identity: ReadonlySet<string | undefined>,
  told: Told,
  place: Path,
  error: Report,
): void {
  const { headers, respond, cors, compress } = route
  const wrongWith = (name: string, side: 'request' | 'response', removes: boolean): string | undefined => {
    if (isOfTransport(name)) return 'belongs to the transport or to proxies; remove it'
    if (side === 'request' && OVERRIDES.has(name))
      return 'gives a backend another path or method; use rewrite'
    if (side === 'request' && told(name, route))
      return 'is set only by the gateway (identity of a service); remove it'
    if (side === 'request' && identity.has(name) && !removes)
      return 'identifies the consumer, and only a verified one is forwarded; remove it'
    if (side === 'response' && compress?.enabled === true && name === 'content-encoding')
      return 'is set by compress; remove it'
    if (side === 'response' && QUOTA.test(name)) return 'tells what the limiter decided; remove it'
    if (side === 'response' && cors !== undefined && name.startsWith('access-control-'))
      return 'is set by cors; remove it'
    return undefined
  }
  for (const side of ['request', 'response'] as const) {
    const changes = headers?.[side]
    if (changes === undefined) continue
    const at = [...place, 'headers', side]
    if (respond !== undefined && side === 'request') {
      error(at, 'has no effect next to respond, which forwards nothing; remove it')
    }
    for (const key of ['set', 'add'] as const) {
      for (const name of Object.keys(changes[key] ?? {})) {
        const wrong = wrongWith(name.toLowerCase(), side, false)
        if (wrong !== undefined) error([...at, key, name], `"${name}" ${wrong}`)
      }
    }
    const set = new Set<string>()
    for (const name of Object.keys(changes.set ?? {})) {
      const lower = name.toLowerCase()
      if (set.has(lower)) error([...at, 'set', name], `"${name}" is set above; keep one of the two`)
      set.add(lower)
    }
    for (const [k, name] of asList(changes.remove).entries()) {
      if (name === undefined) continue
      const wrong = wrongWith(name, side, true)
      if (wrong !== undefined) error([...at, 'remove', k], `"${name}" ${wrong}`)
      else if (set.has(name)) error([...at, 'remove', k], `"${name}" is set above; keep one of the two`)
    }
  }
  for (const [name, value] of Object.entries(respond?.headers ?? {})) {
    const unknown = asList(value?.pieces).find((piece, k) => k % 2 === 1 && UNKNOWN.has(piece!))
    if (unknown !== undefined) {
      const wrong = `names \${${unknown}}, which is unknown: a fixed response needs no credential`
      error([...place, 'respond', 'headers', name], `${wrong}; remove it`)
    }
    const wrong = wrongWith(name.toLowerCase(), 'response', false)
    if (wrong !== undefined && name.toLowerCase() !== 'retry-after') {
      error([...place, 'respond', 'headers', name], `"${name}" ${wrong}`)
    }
  }
}

function checkCors({ cors }: DraftRoute, place: Path, error: Report): void {
  const origins = asList(cors?.origins)
  reportTwice(cors?.origins, [...place, 'cors', 'origins'], error)
  if (origins.includes('*') && origins.length > 1) {
    error([...place, 'cors', 'origins'], '"*" allows every origin; remove the others, or "*"')
  }
  const open = origins.find((origin) => origin === '*' || origin === 'null')
  if (cors?.credentials === true && open !== undefined) {
    const wrong = `with the origin "${open}", any page could act for its visitors`
    error([...place, 'cors', 'credentials'], `${wrong}; name the origins, or remove credentials`)
  }
}

/** Warns about limits of a service that gets all its requests by splits in which another service's limits count. */
function checkUncounted({ services, routes }: DraftConfig, warning: Report): void {
  const counted = new Set(asList(routes).map((route) => route?.service ?? asList(route?.split)[0]?.service))
  const others = new Set(
    asList(routes).flatMap((route) => [
      ...asList(route?.split).map((share) => share?.service),
      route?.mirror?.service,
    ]),
  )
  for (const [name, service] of Object.entries(services ?? {})) {
    if (service?.limits === undefined || counted.has(name) || !others.has(name)) continue
    const wrong = 'unused: in a split the limits of the first service count, and mirrored copies have none'
    warning(['services', name, 'limits'], `${wrong}; remove them`)
  }
}
