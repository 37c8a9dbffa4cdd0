import type { RouteHooks } from '../../extension/route-hooks.js'
import { UNIX_PEER } from '../../net/address-key.js'
import { compileAddressSet } from '../../net/addresses.js'
import { canonicalPath } from '../../net/path.js'
import type { Config } from '../schema/schema.js'
import { blocksIn } from '../values/address-file.js'
import { type ConsumerSource, compileConsumers } from './consumers.js'
import { compileCost, type RouteCost } from './costs.js'
import { compileEdge, type EdgeRules } from './edge.js'
import { compileExempt, type IsExempt } from './exempt.js'
import { type CompiledExtension, compileExtensions, compileHooks, type InstanceHooks } from './extensions.js'
import { sentToServices, setByServices } from './forward.js'
import { deepFreeze } from './freeze.js'
import { configHashes } from './hash.js'
import {
  compileIdentity,
  type Identity,
  identityHeaderNames,
  type PublicKey,
  publishedKeys,
} from './identity.js'
import { limitsOf } from './limit.js'
import { type Policy, policyOf } from './policy.js'
import { compilePriorities, compileResilience, NO_RESILIENCE, type ResilienceSettings } from './resilience.js'
import { compileAuth, type RouteAuth } from './route-auth.js'
import { compileRouter } from './router.js'
import { compileShape, type Shape } from './shaping.js'
import { compileSplit, countingService, type Split } from './split.js'
import { compileUpstreams, NO_UPSTREAMS, type UpstreamSettings } from './upstream-settings.js'

/**
 * Compiled, frozen configuration. A request captures it once and keeps it to the end. A reload makes another one.
 * Everything that requests would otherwise compute again is computed here, once.
 */
export interface Snapshot {
  /** Hash that operators compare: the same on equivalent gateways. */
  readonly hash: string
  /** Hash of the whole configuration. */
  readonly fingerprint: string
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
  /** Lower-case names of the headers that routes send to the services that decide on their requests. */
  readonly sentHeaders: ReadonlySet<string>
  /** Keys with which upstreams verify the gateway's tokens. */
  readonly publicKeys: readonly PublicKey[]
  /** Returns true if an address (from `socket.remoteAddress` or X-Forwarded-For), or `UNIX_PEER`, is a trusted proxy. */
  readonly isTrustedProxy: (address: string) => boolean
  /** Rules for clients that are turned away before anything else. */
  readonly edge: EdgeRules
  /** Extensions by name. */
  readonly extensions: ReadonlyMap<string, CompiledExtension>
  readonly services: readonly Service[]
  readonly routes: readonly Route[]
  /**
   * Returns the most specific route for a method, a lower-case host without port, and the `key` of a canonical path
   * (see `net/path.ts`). `undefined`: no route has this path. An array: only these methods match.
   */
  readonly match: (method: string, host: string, path: string) => Route | readonly string[] | undefined
}

export type OnFailure = Config['store']['on_failure']

export interface Service extends UpstreamSettings, ResilienceSettings {
  readonly index: number
  readonly name: string
  readonly onFailure: OnFailure
  /** Policies by tier index. `undefined` for unlimited: the store is not asked. */
  readonly policies: readonly (Policy | undefined)[]
  /** Returns true for callers that are not counted. Undefined: there are none. */
  readonly exempt: IsExempt | undefined
  /** True if clients are told that a decision was made without the store. */
  readonly showDecidedBy: boolean
  /** Set while its requests are answered with 503. */
  readonly maintenance: Maintenance | undefined
  /** Settings for what its upstreams learn about the client. */
  readonly identity: Identity | undefined
}

export interface Maintenance {
  /** Whole seconds. */
  readonly retryAfter: string
  readonly detail: string | undefined
}

export interface Route extends RouteCost {
  /** Position in the file. The routes that splits choose from come after the last one. */
  readonly index: number
  /** Label `http_route`: the configured path, with the host in front if the route names one. */
  readonly label: string
  readonly path: string
  readonly hosts: readonly string[]
  /** Methods; empty for every method except CONNECT and TRACE. */
  readonly methods: readonly string[]
  /** Service that requests go to. For a split the first one, until a request has been assigned to a member. */
  readonly service: Service
  /** Service whose limits count. */
  readonly quotaOf: Service
  /** Split among several services, if any. */
  readonly split: Split<Route> | undefined
  /** Required credentials; undefined if any that the sources accept will do. */
  readonly auth: RouteAuth | undefined
  /** Hooks of extensions; undefined for most routes. */
  readonly hooks: RouteHooks | undefined
  /** Changes to messages, or the route's own response; undefined for most routes. */
  readonly shape: Shape | undefined
  /** Service that gets copies, and the percentage of requests. */
  readonly mirror: { readonly service: Service; readonly share: number } | undefined
  /** Removed from the front of the canonical path before forwarding. Never ends in a slash. */
  readonly stripPrefix: string
  /** True if the prefix is added back to paths that the upstream names in its responses. */
  readonly rewriteLocation: boolean
  /** True if `%2F`, `%5C`, `;` and doubly encoded characters are allowed in the path. Otherwise they get 400. */
  readonly allowEncoded: boolean
  /** True if the upstream gets the client's Host instead of its own. */
  readonly preserveHost: boolean
  /** Maximum body size, in bytes. */
  readonly bodyLimit: number
  readonly accessLog: boolean
  /** Timeouts in ms; 0 for none. */
  readonly timeouts: RouteConfig['timeouts']
  readonly websocket: RouteConfig['websocket']
}

/** Shared empty list: there may be tens of thousands of routes. */
const NONE: readonly string[] = []

/**
 * Compiles a valid configuration. Pure: the same config gives the same snapshot, except for `loadedAt`.
 *
 * @param hashes the config's `configHashes`, if they are known already
 * @param instances hooks of its extensions, by their names. Without them, no hook runs
 */
export function compileSnapshot(
  config: Config,
  loadedAt: number,
  hashes = configHashes(config),
  instances: ReadonlyMap<string, InstanceHooks> = new Map(),
): Snapshot {
  const tiers = config.tiers.map(({ name }) => name)
  const tierIndex = (name: string) => tiers.indexOf(name)
  const services = Object.entries(config.services).map(([name, service], index) =>
    compileService(index, name, service, config),
  )
  const byName = new Map(services.map((service) => [service.name, service]))
  // Service of routes that forward nothing: without name, upstreams and limits.
  const nobody = noService(services.length, tiers.length)
  const serviceOf = (name: string | undefined) => (name === undefined ? nobody : byName.get(name)!)
  let last = config.routes.length
  const isTrustedAddress = compileAddressSet(
    config.trusted_proxies.flatMap((one) => (typeof one === 'string' ? [one] : [...blocksIn(one.file)])),
  )
  const trustsUnix = config.trusted_proxies.includes(UNIX_PEER)
  const isTrustedProxy = trustsUnix
    ? (address: string) => address === UNIX_PEER || isTrustedAddress(address)
    : isTrustedAddress
  const extensions = compileExtensions(config, instances)
  const consumers = compileConsumers(config, tierIndex, isTrustedProxy, extensions)
  const hooksOf = (route: RouteConfig, service: string | undefined) =>
    compileHooks([...(config.services[service ?? '']?.use ?? []), ...(route.use ?? [])], extensions)
  const routes = config.routes.map((route, index) =>
    compileRoute(index, route, consumers, serviceOf, hooksOf, () => last++),
  )
  return deepFreeze({
    ...hashes,
    loadedAt,
    config,
    tiers,
    ...compilePriorities(config.tiers),
    defaultTier: config.default_tier === undefined ? 0 : tierIndex(config.default_tier),
    consumers,
    identityHeaders: new Set(
      consumers.flatMap(({ headers }) => headers).map((name) => name.replaceAll('_', '-')),
    ),
    toldHeaders: new Set([...identityHeaderNames(config), ...setByServices(config)]),
    sentHeaders: new Set(sentToServices(config)),
    publicKeys: publishedKeys(config),
    isTrustedProxy,
    edge: compileEdge(config.edge),
    extensions,
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
    exempt: compileExempt(service.exempt),
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
    exempt: undefined,
    showDecidedBy: false,
    maintenance: undefined,
    identity: undefined,
  }
}

function compileMaintenance(settings: ServiceConfig['maintenance']): Maintenance | undefined {
  if (settings?.enabled !== true) return undefined
  return { retryAfter: String(Math.ceil(settings.retry_after / 1000)), detail: settings.detail }
}

/**
 * Returns the longest connect timeout of a service's routes. Requests share connections, so a route with a shorter
 * timeout watches the time itself.
 */
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
  hooksOf: (route: RouteConfig, service: string | undefined) => RouteHooks | undefined,
  nextIndex: () => number,
): Route {
  const service = serviceOf(countingService(route))
  const { mirror } = route
  const hosts = route.hosts ?? (route.host === undefined ? NONE : [route.host])
  const { cost, costFrom, refundOn, costHeader } = compileCost(route)
  // Written out: V8 makes a separate shape for each spread object, and the objects that every request reads must share
  // one.
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
    hooks: hooksOf(route, route.service),
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
    (name) => ({
      ...compiled,
      index: nextIndex(),
      service: serviceOf(name),
      hooks: hooksOf(route, name),
    }),
  )
  return compiled
}
