import type { Config } from '../schema/schema.js'
import { compileTransport } from './transport.js'
import type { Upstream } from './upstream-settings.js'

/** Compiled settings of a service that decides on requests. All times are in ms. */
export interface ForwardCheck {
  /** Host and port, for logs and metrics. */
  readonly name: string
  /** Where its connections lead. */
  readonly upstream: Upstream
  /** Path and query. */
  readonly path: string
  /** Lower-case names of the headers that it gets. */
  readonly headers: readonly string[]
  /** Lower-case names of the headers of its response that upstreams get. */
  readonly upstreamHeaders: readonly string[]
  /** Lower-case names of the headers of its response that describe the consumer; undefined where it only decides. */
  readonly identity: ForwardIdentity | undefined
  readonly allowedFor: number
  readonly deniedFor: number
  /** Parts of a request (`AuthRequest`) by which its response is remembered; undefined: all. */
  readonly by: readonly number[] | undefined
  readonly timeout: number
  /** True if requests pass while the service fails. */
  readonly open: boolean
  /** The same for equal settings: a reload that does not change them forgets nothing. */
  readonly key: string
}

interface ForwardIdentity {
  readonly id: string
  readonly tier: string | undefined
  readonly tenant: string | undefined
}

/** Words of `cache.by` that are not headers. */
export const PARTS = ['method', 'host', 'path', 'address'] as const
/** Number of parts of a request before its headers: those, scheme and X-Forwarded-For. */
export const BEFORE_HEADERS = PARTS.length + 2

export const DEFAULT_HEADERS = ['authorization', 'cookie'] as const

type OfConsumers = Extract<Config['consumers'][number], { forward: unknown }>['forward']
type OfRoute = NonNullable<NonNullable<Config['routes'][number]['auth']>['forward']>

export function compileForward(settings: OfConsumers | OfRoute): ForwardCheck {
  const { url, headers = DEFAULT_HEADERS, upstream_headers: upstreamHeaders = [], timeout = 1_000 } = settings
  const { origin, host, pathname, search } = new URL(url)
  const { id, tier, tenant } = settings
  const { for: allowedFor, denied_for: deniedFor, by } = settings.cache ?? { for: 10_000, denied_for: 1_000 }
  const transport = compileTransport(origin, { tls: settings.tls, protocol: 'http1' })
  const compiled = {
    name: host,
    upstream: { ...transport, origin, host, basePath: '', weight: 1, connectMs: timeout },
    path: pathname + search,
    headers,
    upstreamHeaders,
    identity: id === undefined ? undefined : { id, tier, tenant },
    allowedFor,
    deniedFor: Math.min(allowedFor, deniedFor),
    by: by?.map((name) => [...PARTS, '', '', ...headers].indexOf(name)),
    timeout,
    open: settings.on_failure === 'allow',
  }
  return { ...compiled, key: JSON.stringify(compiled) }
}

function allForwards({ consumers, routes }: Config): (OfConsumers | OfRoute)[] {
  return [
    ...consumers.flatMap((source) => ('forward' in source ? [source.forward] : [])),
    ...routes.flatMap(({ auth }) => auth?.forward ?? []),
  ]
}

/** Returns the lower-case names of the headers that routes send to services. */
export function sentToServices({ routes }: Config): readonly string[] {
  return routes.flatMap(({ auth }) =>
    auth?.forward === undefined ? [] : (auth.forward.headers ?? DEFAULT_HEADERS),
  )
}

/**
 * Returns the lower-case names of the headers that only services may set. Those that clients send to services, too, are
 * replaced where a service has decided.
 */
export function setByServices(config: Config): string[] {
  const all = allForwards(config)
  const sent = new Set<string>([...DEFAULT_HEADERS, ...all.flatMap(({ headers = [] }) => headers)])
  return all
    .flatMap(({ id, tier, tenant, upstream_headers: set = [] }) => [...set, id, tier, tenant])
    .filter((name): name is string => name !== undefined && !sent.has(name))
}
