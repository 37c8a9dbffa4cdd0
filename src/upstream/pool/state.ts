import type { Names } from './dns.js'
import { type Endpoint, type EndpointState, settle, shareOf } from './endpoint.js'

/** State of one upstream of one service for an operator: plain data, as `GET /upstreams` returns it. */
export interface UpstreamState {
  readonly service: string
  /** Address as configured, `http://host:port/base`. */
  readonly address: string
  readonly state: EndpointState
  /** Reason for a state other than serving. */
  readonly why: string | null
  /** ISO 8601. */
  readonly since: string
  readonly weight: number
  readonly in_flight: number
  /** Open WebSockets. */
  readonly tunnels: number
  readonly max_connections: number
  /** Requests that wait for any upstream of the service. */
  readonly waiting: number
  /** Ejections since the process started. */
  readonly ejections: number
  readonly last_check: {
    readonly at: string
    readonly passed: boolean
    readonly ms: number
    readonly detail: string
  } | null
  /** Resolved addresses of its name; null if there is no name to resolve. */
  readonly resolved: readonly string[] | null
  /** Error of the latest lookup of the name; `resolved` then has the addresses of the last successful one. */
  readonly dns_error: string | null
}

/** Data for the metrics of an upstream. */
export interface UpstreamReading {
  readonly service: string
  readonly upstream: string
  /** True if it gets requests. */
  readonly healthy: boolean
  /** Requests in flight, tunnels included. */
  readonly inFlight: number
  readonly ejections: number
  readonly checksPassed: number
  readonly checksFailed: number
}

export function readingOf(endpoint: Endpoint): UpstreamReading {
  const { group, address, state, tunnels, ejections, checksPassed, checksFailed } = endpoint
  const healthy = state === 'serving' || state === 'slow_start'
  const inFlight = endpoint.inFlight + tunnels
  const service = group.service.name
  return { service, upstream: address, healthy, inFlight, ejections, checksPassed, checksFailed }
}

/** @param now ms of the clock that the endpoint's times are from */
export function describeEndpoint(
  endpoint: Endpoint,
  now: number,
  names: Pick<Names, 'state'>,
): UpstreamState {
  settle(endpoint, now)
  const { group, lastCheck, name } = endpoint
  const resolution = name === undefined ? undefined : names.state(name)
  return {
    service: group.service.name,
    address: endpoint.address,
    state: endpoint.state,
    why: whyOf(endpoint, now),
    since: new Date(Date.now() - (now - endpoint.since)).toISOString(),
    weight: endpoint.upstream.weight,
    in_flight: endpoint.inFlight,
    tunnels: endpoint.tunnels,
    max_connections: endpoint.connections,
    waiting: group.queue.length,
    ejections: endpoint.ejections,
    last_check:
      lastCheck === undefined
        ? null
        : {
            at: new Date(lastCheck.at).toISOString(),
            passed: lastCheck.passed,
            ms: Math.round(lastCheck.ms * 10) / 10,
            detail: lastCheck.detail,
          },
    resolved: name === undefined ? null : (resolution?.addresses ?? []),
    dns_error: resolution?.error ?? null,
  }
}

function whyOf(endpoint: Endpoint, now: number): string | null {
  switch (endpoint.state) {
    case 'serving':
      return null
    case 'slow_start':
      return `${Math.round((shareOf(endpoint, now) / endpoint.upstream.weight) * 100)} % of its weight`
    case 'drained':
      return 'by hand'
    case 'ejected':
      return `${endpoint.trouble}; back in ${Math.ceil((endpoint.ejectedUntil - now) / 1000)} s`
    case 'unhealthy':
      return endpoint.failing
        ? `checks fail: ${endpoint.lastCheck?.detail ?? 'no answer'}`
        : `no connection: ${endpoint.trouble}`
  }
}

/**
 * Finds the upstream with this address, or, if there is just one, with this host and port. A default port may be
 * written.
 */
export function findEndpoint(endpoints: readonly Endpoint[], text: string): Endpoint | undefined {
  const exact = endpoints.find(({ address }) => address === text)
  if (exact !== undefined) return exact
  const whole = text.includes('://')
  const found = endpoints.filter(({ address, upstream: { origin, host } }) => {
    const url = whole ? text : `${origin.slice(0, origin.indexOf(':'))}://${text}`
    if (!URL.canParse(url)) return false
    const { href, host: named, pathname } = new URL(url)
    return whole ? href === address || href === `${address}/` : named === host && pathname === '/'
  })
  return found.length === 1 ? found[0] : undefined
}
