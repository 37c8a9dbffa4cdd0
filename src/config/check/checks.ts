import { getOrAdd } from '../../common/maps.js'
import { canonicalPath } from '../../net/path.js'
import {
  asList,
  type DraftConfig,
  knownTier,
  type Locate,
  named,
  present,
  type Report,
  reportTwice,
  tierNames,
} from '../schema/partial-config.js'
import { type Pattern, shapeOf } from '../snapshot/router.js'
import { readRedisAddress } from '../values/redis-address.js'
import { ROUTABLE_METHODS } from '../values/scalar-http.js'
import { checkAdmin } from './admin.js'
import { checkAuth } from './auth.js'
import { checkConsumers, checkStoredKeys, checkTenants } from './consumers.js'
import { checkCosts } from './costs.js'
import { checkEdge } from './edge.js'
import { checkExtensions } from './extensions.js'
import { checkForward } from './forward.js'
import { checkIdentity } from './identity.js'
import { checkLimits } from './limits.js'
import { checkListener } from './listener.js'
import { checkResilience } from './resilience.js'
import { checkShaping, destinationsOf } from './shaping.js'
import { checkSignatures } from './signatures.js'
import { checkTierSources } from './tier-sources.js'
import { checkUpstreamTls } from './upstream-tls.js'

/** Checks a configuration beyond the schema: names that must exist, duplicates, sums that must fit. */

/**
 * Runs all checks. `locate` names a second place, as `routes[0] on line 3`, with the file if it is another one than that of
 * `from`.
 */
export function check(config: DraftConfig, error: Report, warning: Report, locate: Locate): void {
  checkAdmin(config, error, warning)
  checkListener(config, error)
  checkStore(config, error)
  checkTiers(config, error)
  checkConsumers(config, error, warning)
  checkEdge(config, error)
  checkExtensions(config, error, warning, locate)
  checkTierSources(config, error, warning, locate)
  checkServices(config, error)
  checkUpstreamTls(config, error, warning)
  checkIdentity(config, error)
  checkSignatures(config, error)
  checkRoutes(config, error)
  checkAuth(config, error)
  checkForward(config, error, warning)
  checkShaping(config, error, warning)
  checkCosts(config, error, warning)
  checkResilience(config, error)
  checkOverlaps(config, error, locate)
  checkUnused(config, warning)
  checkTenants(config, warning)
  checkStoredKeys(config, warning)
}

/** Parts of the address that all nodes of a Redis Cluster must share. */
const SHARED = ['tls', 'username', 'password'] as const

function checkStore({ store }: DraftConfig, error: Report): void {
  if (store === undefined) return
  const { redis, tls, sentinel } = store
  const texts = redis === undefined || typeof redis === 'string' ? [redis] : asList(redis)
  const addresses = texts.map((text) =>
    text === undefined ? undefined : readRedisAddress(text, () => undefined),
  )
  const [first] = addresses
  for (const [i, address] of present(addresses)) {
    if (first !== undefined && SHARED.some((key) => address[key] !== first[key])) {
      const wrong = 'differs from the first node in TLS, user or password'
      error(['store', 'redis', i], `${wrong}; give all nodes the same`)
    }
  }
  // A value that could not be read may be the one that makes the rest right.
  if (redis !== undefined && addresses.includes(undefined)) return
  if (tls !== undefined && first?.tls !== true) {
    error(['store', 'tls'], 'no address in store.redis uses TLS; write rediss://')
  }
  if (tls !== undefined && (tls.cert === undefined) !== (tls.key === undefined)) {
    error(['store', 'tls'], 'cert and key belong together; give both, or neither')
  }
  if (sentinel !== undefined && first?.sentinelPrimary === undefined) {
    error(['store', 'sentinel'], 'store.redis names no Sentinels; write redis+sentinel://, or remove this')
  }
}

function checkTiers({ tiers, default_tier: standard }: DraftConfig, error: Report): void {
  if (tiers === undefined) return
  reportTwice(tierNames(tiers), ['tiers'], error)
  knownTier(tiers, standard, ['default_tier'], error)
}

function checkServices({ services, tiers }: DraftConfig, error: Report): void {
  for (const [name, service] of Object.entries(services ?? {})) {
    if (service === undefined) continue
    const upstreams = asList(service.upstreams).map((entry) =>
      typeof entry === 'object' ? entry.url : entry,
    )
    reportTwice(upstreams, ['services', name, 'upstreams'], error)
    checkExempt(service, name, error)
    if (service.limits === undefined) continue
    const path = ['services', name, 'limits']
    for (const [tier, limits] of Object.entries(service.limits)) {
      knownTier(tiers, tier, [...path, tier], error)
      if (limits !== undefined && limits !== 'unlimited') checkLimits(limits, [...path, tier], error)
    }
    for (const tier of named(tierNames(tiers))) {
      if (Object.hasOwn(service.limits, tier)) continue
      error(path, `the tier "${tier}" has no limit; add one, or "${tier}: unlimited"`)
    }
  }
}

type DraftService = NonNullable<NonNullable<DraftConfig['services']>[string]>

function checkExempt({ exempt, limits }: DraftService, name: string, error: Report): void {
  if (exempt === undefined) return
  const path = ['services', name, 'exempt']
  if (limits === undefined) error(path, 'has no effect: the service has no limits; remove it')
  const { consumers, addresses } = exempt
  if (consumers?.length === 0 && addresses?.length === 0)
    error(path, 'exempts nobody; give consumers or addresses')
  reportTwice(consumers, [...path, 'consumers'], error)
  reportTwice(addresses, [...path, 'addresses'], error)
}

function checkRoutes({ routes }: DraftConfig, error: Report): void {
  for (const [i, route] of present(routes)) {
    const { path, strip_prefix: prefix } = route
    if (route.host !== undefined && route.hosts !== undefined) {
      error(['routes', i, 'host'], 'given together with hosts; keep one of the two')
    }
    for (const list of ['hosts', 'methods'] as const) reportTwice(route[list], ['routes', i, list], error)
    if (path !== undefined && prefix !== undefined && !`${path}/`.startsWith(`${prefix}/`)) {
      const fix = 'strip whole literal segments from the front of the path'
      error(['routes', i, 'strip_prefix'], `"${prefix}" is not the beginning of "${path}"; ${fix}`)
    }
    if (path !== undefined && canonicalPath(path)?.encoded === true && route.allow_encoded === false) {
      error(['routes', i, 'path'], `"${path}" matches nothing without allow_encoded; set it to true`)
    }
  }
}

/** Reports two routes that claim the same host, path and method, and routes whose methods are all taken. */
function checkOverlaps({ routes }: DraftConfig, error: Report, locate: Locate): void {
  const places = new Map<string, { index: number; pattern: Pattern }[]>()
  for (const [index, route] of present(routes)) {
    if (route.path === undefined) continue
    const hosts = route.hosts ?? (route.host === undefined ? ['*'] : [route.host])
    const pattern: Pattern = { path: route.path, hosts: named(hosts), methods: named(route.methods) }
    for (const host of new Set(pattern.hosts)) {
      const place = host + shapeOf(route.path)
      getOrAdd(places, place, () => []).push({ index, pattern })
    }
  }
  const said = new Set<string>()
  for (const sharing of places.values()) {
    for (const [k, { index, pattern }] of sharing.entries()) {
      const before = sharing.find((other, o) => o >= k || shared(other.pattern, pattern) !== undefined)
      if (before === undefined || before.index === index) continue
      const method = shared(before.pattern, pattern)
      const of = method === '' ? '' : ` for ${method}`
      const first = locate(['routes', before.index], ['routes', index])
      const message = `the same host and path as ${first}${of}; remove one, or change host, path or methods`
      if (!said.has(`${before.index} ${index}`)) error(['routes', index, 'path'], message)
      said.add(`${before.index} ${index}`)
    }
    const explicit = sharing.flatMap(({ pattern }) => pattern.methods)
    const taken = new Set(explicit.includes('GET') ? [...explicit, 'HEAD'] : explicit)
    if (!ROUTABLE_METHODS.every((method) => taken.has(method))) continue
    for (const { index, pattern } of sharing) {
      if (pattern.methods.length > 0) continue
      error(
        ['routes', index, 'path'],
        'never reached: other routes of this path take every method; remove it',
      )
    }
  }
}

/**
 * Returns a method that two routes of one place both claim: '' if both take any method, undefined if they share none.
 */
function shared(a: Pattern, b: Pattern): string | undefined {
  if (a.methods.length === 0 || b.methods.length === 0)
    return a.methods.length === b.methods.length ? '' : undefined
  return b.methods.find((method) => a.methods.includes(method))
}

function checkUnused(
  { services, routes, trusted_proxies: proxies, trusted_headers: headers }: DraftConfig,
  warning: Report,
): void {
  const used = new Set(present(routes).flatMap(([, route]) => destinationsOf(route).map(({ name }) => name)))
  for (const name of Object.keys(services ?? {})) {
    if (!used.has(name)) warning(['services', name], 'no route leads to this service; add one, or remove it')
  }
  if (asList(headers).length > 0 && asList(proxies).length === 0) {
    const wrong = 'trusted_proxies is empty, so nobody may send these'
    warning(['trusted_headers'], `${wrong}; list your proxies there`)
  }
  for (const [i, block] of present(proxies)) {
    if (typeof block !== 'string' || !block.endsWith('/0')) continue
    const wrong = `${block} lets every client choose its own address`
    warning(['trusted_proxies', i], `${wrong}; list only your proxies`)
  }
}
