import { quarter } from '../../shares.js'
import type { Config } from '../schema/schema.js'
import type { OutlierSettings } from '../schema/upstreams.js'
import { readUpstream } from '../values/parse-url.js'
import { statusesOf } from '../values/status-codes.js'
import { compileTransport, type Transport } from './transport.js'

/** One address of a service. */
export interface Upstream extends Transport {
  /** `http://host:port` or `https://host:port`, normalised. */
  readonly origin: string
  /** Value of the Host header for the upstream, if the route does not preserve the client's. */
  readonly host: string
  /** Path prefix in the upstream's URL without a trailing slash, usually empty. */
  readonly basePath: string
  readonly weight: number
  /** Longest wait for a connection including its TLS handshake, in ms: the longest of the routes that lead here. */
  readonly connectMs: number
}

/** Returns the address that identifies an upstream of a service in the admin API and in metrics. */
export function addressOf({ origin, basePath }: Upstream): string {
  return origin + basePath
}

export type Balance =
  | { readonly kind: 'round_robin' | 'least_requests' | 'hash_consumer' }
  | {
      readonly kind: 'hash_header'
      /** Header name in lower case. */
      readonly header: string
    }

/** Settings of active health checks. All times are in ms. */
export interface HealthCheck {
  /** Request path, with its query. */
  readonly path: string
  readonly interval: number
  readonly timeout: number
  readonly healthyAfter: number
  readonly unhealthyAfter: number
  readonly statuses: ReadonlySet<number>
}

/** Settings for balancing a service's requests among its upstreams. All times are in ms. */
export interface UpstreamSettings {
  readonly upstreams: readonly Upstream[]
  readonly balance: Balance
  /** Length of the slow start; 0 for none. */
  readonly slowStart: number
  /** Maximum number of connections to each upstream. */
  readonly maxConnections: number
  readonly maxTunnels: number
  readonly maxTunnelsPerClient: number
  readonly maxWaiting: number
  readonly maxWait: number
  readonly health: HealthCheck | undefined
  readonly outliers: OutlierSettings | undefined
}

/** Settings of a route that answers by itself. */
export const NO_UPSTREAMS: UpstreamSettings = {
  upstreams: [],
  balance: { kind: 'round_robin' },
  slowStart: 0,
  maxConnections: 1,
  maxTunnels: 1,
  maxTunnelsPerClient: 1,
  maxWaiting: 0,
  maxWait: 1,
  health: undefined,
  outliers: undefined,
}

type ServiceConfig = Config['services'][string]

export function compileUpstreams(service: ServiceConfig, connectMs: number): UpstreamSettings {
  return {
    upstreams: service.upstreams.map((entry): Upstream => {
      const { url, weight } = typeof entry === 'string' ? { url: entry, weight: 1 } : entry
      const address = readUpstream(url, () => undefined)!
      const transport = compileTransport(address.origin, service)
      return { ...address, ...transport, weight, key: `${transport.key} ${connectMs}`, connectMs }
    }),
    balance: balanceOf(service.balance),
    slowStart: service.slow_start,
    maxConnections: service.max_connections,
    maxTunnels: service.max_tunnels,
    maxTunnelsPerClient: tunnelsPerClient(service),
    maxWaiting: service.max_waiting,
    maxWait: service.max_wait,
    health: healthOf(service.health),
    outliers: service.outliers.enabled ? service.outliers : undefined,
  }
}

function tunnelsPerClient({ max_tunnels, max_tunnels_per_client: most }: ServiceConfig): number {
  return most === 0 ? max_tunnels : (most ?? quarter(max_tunnels))
}

function balanceOf(balance: ServiceConfig['balance']): Balance {
  if (typeof balance === 'string') return { kind: balance }
  const { hash } = balance
  return hash === 'consumer' ? { kind: 'hash_consumer' } : { kind: 'hash_header', header: hash.header }
}

function healthOf(health: ServiceConfig['health']): HealthCheck | undefined {
  if (health === undefined) return undefined
  const { path, interval, timeout, statuses } = health
  return {
    path,
    interval,
    timeout,
    healthyAfter: health.healthy_after,
    unhealthyAfter: health.unhealthy_after,
    statuses: new Set(statuses.flatMap(statusesOf)),
  }
}
