import { compileAddressSet } from '../../net/addresses.js'
import { canonicalPath } from '../../net/path.js'
import type { Config } from '../schema/schema.js'
import { blocksIn } from '../values/address-file.js'
import { type ConsumerSource, compileConsumers, identityHeadersOf } from './consumers.js'
import { compileCost, type RouteCost } from './costs.js'
import { compileEdge, type EdgeRules } from './edge.js'
import { deepFreeze } from './freeze.js'
import { configHashes } from './hash.js'
import { compileIdentity, type Identity, type PublicKey, publishedKeys, toldHeaders } from './identity.js'
import { limitsOf } from './limit.js'
import { type Policy, policyOf } from './policy.js'
import { compilePriorities, compileResilience, NO_RESILIENCE, type ResilienceSettings } from './resilience.js'
import { compileAuth, type RouteAuth } from './route-auth.js'
import { compileRouter } from './router.js'
import { compileShape, type Shape } from './shaping.js'
import { compileSplit, countingService, type Split } from './split.js'
import { compileUpstreams, NO_UPSTREAMS, type UpstreamSettings } from './upstream-settings.js'

export {
  type CertificateId,
  type ConsumerSource,
  identityHeadersOf,
  type KeyOwner,
  SIGNATURE_HEADERS,
} from './consumers.js'
export type { Identity, IdentityToken } from './identity.js'
export {
  type Algorithm,
  type AmountChange,
  type Calendar,
  type Level,
  type Limit,
  shareOf,
  standing,
} from './limit.js'
export { forTenant, type Part, type Policy, policyOf } from './policy.js'
export type { BreakerSettings, ConcurrencySettings, RetrySettings } from './resilience.js'
export type { SignatureKey, SignatureSettings } from './signatures.js'
export type { Transport, UpstreamTls } from './transport.js'
export { addressOf, type Balance, type HealthCheck, type Upstream } from './upstream-settings.js'

/**
 * Compiled, frozen configuration. A request captures it once and keeps it to the end. A reload makes another one.
 * Everything that requests would otherwise compute again is computed here, once.
 */
export interface Snapshot {
  /** First 12 hex digits of the SHA-256 of the configuration with its secrets resolved. */
  readonly hash: string
  /** The same hash without what may differ between equivalent gateways. */
  readonly sharedHash: string
  /** When the configuration was loaded, in unix ms. */
  readonly loadedAt: number
  readonly config: Config
  readonly tiers: readonly string[]
  /**
   * Priority class by tier: 0 for the class that is shed first, without gaps. Tiers of equal priority share a class.
   */
  readonly priorities: readonly number[]
  /** Number of classes. */
  readonly classes: number
  /** Index into `tiers`. */
  readonly defaultTier: number
  readonly consumers: readonly ConsumerSource[]
  /** Lower-case names of every header from which a consumer or tier could be read, with `_` written as `-`. */
  readonly identityHeaders: ReadonlySet<string>
  /** Lower-case names of the headers that upstreams trust because only the gateway writes them. */
  readonly toldHeaders: ReadonlySet<string>
  /** Keys with which upstreams verify the gateway's tokens. */
  readonly publicKeys: readonly PublicKey[]
  /** Returns true if an address (from `socket.remoteAddress` or X-Forwarded-For) is a trusted proxy. */
  readonly isTrustedProxy: (address: string) => boolean
  /** Rules for clients that are turned away before anything else. */
  readonly edge: EdgeRules
  readonly services: readonly Service[]
  readonly routes: readonly Route[]
  /**
   * The most specific route for a method, a lower-case host without port, and the `key` of a canonical path (see
   * `net/path.ts`). `undefined`: no route has this path; an array: only these methods do.
   */
  readonly match: (method: string, host: string, path: string) => Route | readonly string[] | undefined
}

export type OnFailure = 'open' | 'local' | 'closed'

export interface Service extends UpstreamSettings, ResilienceSettings {
  readonly index: number
  readonly name: string
  readonly onFailure: OnFailure
  /** By tier index. `undefined`: unlimited, the store is not asked. */
  readonly policies: readonly (Policy | undefined)[]
  /** Whether callers are told that a decision was made without the store. */
  readonly showDecidedBy: boolean
  /** Set while its requests are answered with 503. */
  readonly maintenance: Maintenance | undefined
  /** What its upstreams are told of who is calling. */
  readonly identity: Identity | undefined
}

export interface Maintenance {
  /** Whole seconds. */
  readonly retryAfter: string
  readonly detail: string | undefined
}

export interface Route extends RouteCost {
  /** Place in the file. Behind the last one come the routes that splits choose from. */
  readonly index: number
  /** The label `http_route`: the path as configured, with the host in front when the route names one. */
  readonly label: string
  readonly path: string
  readonly hosts: readonly string[]
  /** Empty: every method but CONNECT and TRACE. */
  readonly methods: readonly string[]
  /** Who serves: of a split the first one, until a request has been given to one of them. */
  readonly service: Service
  /** Whose limits count. */
  readonly quotaOf: Service
  /** Where one of several services serves. */
  readonly split: Split<Route> | undefined
  /** What it asks of its callers; undefined: whatever the sources know will do. */
  readonly auth: RouteAuth | undefined
  /** What is changed on the way, or answered here; undefined for most routes. */
  readonly shape: Shape | undefined
  /** The service that gets copies, and how many percent of the requests. */
  readonly mirror: { readonly service: Service; readonly share: number } | undefined
  /** Removed from the front of the canonical path before forwarding; never ends in a slash. */
  readonly stripPrefix: string
  /** Whether paths that the upstream names in its responses get it back. */
  readonly rewriteLocation: boolean
  /** Whether `%2F`, `%5C`, `;` and doubly encoded characters may stand in the path; else they are 400. */
  readonly allowEncoded: boolean
  /** Whether the upstream sees the client's Host instead of its own. */
  readonly preserveHost: boolean
  /** Bytes. */
  readonly bodyLimit: number
  readonly accessLog: boolean
  readonly timeouts: {
    /** Ms, 0 = none: the whole exchange, from the first byte of the request to the last of the response. */
    readonly total: number
    /** Ms, 0 = none: until the last byte of the request. */
    readonly request: number
    /** Ms until there is a connection to an upstream. */
    readonly connect: number
    /** Ms from the request's last byte to the response's header. */
    readonly headers: number
    /** Ms without a byte in either direction while a body is under way. */
    readonly idle: number
  }
  readonly websocket: {
    readonly enabled: boolean
    /** Ms until the upstream has answered the handshake. */
    readonly handshake: number
    /** Ms without a byte in either direction. */
    readonly idle: number
  }
}

/** One for all: there may be tens of thousands of routes. */
const NONE: readonly string[] = []

/**
 * Compiles a valid configuration. Pure: the same config gives the same snapshot but for `loadedAt`.
 *
 * @param hashes its `configHashes`, where those are known already
 */
export function compileSnapshot(config: Config, loadedAt: number, hashes = configHashes(config)): Snapshot {
  const tiers = config.tiers.map(({ name }) => name)
  const tierIndex = (name: string) => tiers.indexOf(name)
  const services = Object.entries(config.services).map(([name, service], index) =>
    compileService(index, name, service, config),
  )
  const byName = new Map(services.map((service) => [service.name, service]))
  // Where nothing is forwarded: of no name, no upstream and no limit.
  const nobody = noService(services.length, tiers.length)
  const serviceOf = (name: string | undefined) => (name === undefined ? nobody : byName.get(name)!)
  let last = config.routes.length
  const isTrustedProxy = compileAddressSet(
    config.trusted_proxies.flatMap((one) => (typeof one === 'string' ? [one] : [...blocksIn(one.file)])),
  )
  const consumers = compileConsumers(config, tierIndex, isTrustedProxy)
  const routes = config.routes.map((route, index) =>
    compileRoute(index, route, consumers, serviceOf, () => last++),
  )
  return deepFreeze({
    hash: hashes.own,
    sharedHash: hashes.shared,
    loadedAt,
    config,
    tiers,
    ...compilePriorities(config.tiers),
    defaultTier: config.default_tier === undefined ? 0 : tierIndex(config.default_tier),
    consumers,
    identityHeaders: new Set(consumers.flatMap(identityHeadersOf).map((name) => name.replaceAll('_', '-'))),
    toldHeaders: toldHeaders(config),
    publicKeys: publishedKeys(config),
    isTrustedProxy,
    edge: compileEdge(config.edge),
    services,
    routes,
    match: compileRouter(routes),
  })
}

type ServiceConfig = Config['services'][string]
type RouteConfig = Config['routes'][number]

function compileService(index: number, name: string, service: ServiceConfig, config: Config): Service {
  const refunds = config.routes.some(
    (route) =>
      countingService(route) === name && (route.refund_on !== undefined || route.cost_header !== undefined),
  )
  return {
    index,
    name,
    ...compileUpstreams(service, longestConnect(name, config)),
    onFailure: service.on_failure ?? config.store.on_failure,
    policies: config.tiers.map(({ name: tier }) => {
      const limits = service.limits?.[tier]
      return limits === undefined || limits === 'unlimited' ? undefined : compilePolicy(limits, refunds)
    }),
    showDecidedBy: service.show_decided_by,
    maintenance: compileMaintenance(service.maintenance),
    identity: compileIdentity(name, service),
    ...compileResilience(service),
  }
}

function noService(index: number, tiers: number): Service {
  const policies = new Array<undefined>(tiers).fill(undefined)
  return {
    ...NO_UPSTREAMS,
    ...NO_RESILIENCE,
    index,
    name: 'none',
    onFailure: 'open',
    policies,
    showDecidedBy: false,
    maintenance: undefined,
    identity: undefined,
  }
}

function compileMaintenance(settings: ServiceConfig['maintenance']): Maintenance | undefined {
  if (settings?.enabled !== true) return undefined
  return { retryAfter: String(Math.ceil(settings.retry_after / 1000)), detail: settings.detail }
}

/** Of the routes of a service. A connection is made for whoever comes first; a route that waits less watches by itself. */
function longestConnect(name: string, { routes }: Config): number {
  const all = routes
    .filter(({ service, split, mirror }) =>
      [service, mirror?.service, ...(split ?? []).map((share) => share.service)].includes(name),
    )
    .map(({ timeouts }) => timeouts.connect)
  return all.length === 0 ? 2_000 : Math.max(...all)
}

function compilePolicy(
  settings: Exclude<NonNullable<ServiceConfig['limits']>[string], 'unlimited'>,
  refunds: boolean,
): Policy {
  const live = settings.filter(({ candidate }) => !candidate).flatMap(limitsOf)
  const tried = settings.filter(({ candidate }) => candidate).flatMap(limitsOf)
  const candidate =
    tried.length === 0 ? undefined : policyOf(tried, { refunds, candidate: undefined, prefix: 'candidate:' })
  return policyOf(live, { refunds, candidate })
}

function compileRoute(
  index: number,
  route: RouteConfig,
  consumers: readonly ConsumerSource[],
  serviceOf: (name: string | undefined) => Service,
  nextIndex: () => number,
): Route {
  const service = serviceOf(countingService(route))
  const { mirror } = route
  const hosts = route.hosts ?? (route.host === undefined ? NONE : [route.host])
  const { cost, costFrom, refundOn, costHeader } = compileCost(route)
  // Written out: of an object that is spread V8 makes a shape for each, and what every request reads must have one.
  const compiled: Omit<Route, 'split'> & { split: Route['split'] } = {
    index,
    label: hosts.join(',') + route.path,
    path: route.path,
    hosts,
    methods: route.methods ?? NONE,
    service,
    quotaOf: service,
    split: undefined,
    auth: compileAuth(route, consumers),
    shape: compileShape(route),
    mirror: mirror === undefined ? undefined : { service: serviceOf(mirror.service), share: mirror.share },
    rewriteLocation: route.rewrite_location && route.rewrite === undefined,
    stripPrefix: route.strip_prefix === undefined ? '' : canonicalPath(route.strip_prefix)!.path,
    cost,
    costFrom,
    refundOn,
    costHeader,
    allowEncoded: route.allow_encoded,
    preserveHost: route.preserve_host,
    bodyLimit: route.body_limit,
    accessLog: route.access_log,
    timeouts: route.timeouts,
    websocket: route.websocket,
  }
  compiled.split = compileSplit(
    route,
    (name) => serviceOf(name).maintenance !== undefined,
    (name) => ({ ...compiled, index: nextIndex(), service: serviceOf(name) }),
  )
  return compiled
}
