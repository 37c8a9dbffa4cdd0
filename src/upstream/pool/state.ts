import type { Endpoint, EndpointState } from './endpoint.js'

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
  const { service, address, state, tunnels, ejections, checksPassed, checksFailed } = endpoint
  const healthy = state === 'serving' || state === 'slow_start'
  const inFlight = endpoint.inFlight + tunnels
  return { service, upstream: address, healthy, inFlight, ejections, checksPassed, checksFailed }
}

export function describeEndpoint(
  endpoint: Endpoint,
  more: {
    readonly waiting: number
    readonly share: number
    /** `now()`, and the same moment in Unix ms. */
    readonly now: number
    readonly unixNow: number
    readonly name: { readonly addresses: readonly string[]; readonly error: string | undefined } | undefined
  },
): UpstreamState {
  const { lastCheck } = endpoint
  return {
    service: endpoint.service,
    address: endpoint.address,
    state: endpoint.state,
    why: whyOf(endpoint, more.share, more.now),
    since: new Date(more.unixNow - (more.now - endpoint.since)).toISOString(),
    weight: endpoint.upstream.weight,
    in_flight: endpoint.inFlight,
    tunnels: endpoint.tunnels,
    max_connections: endpoint.connections,
    waiting: more.waiting,
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
    resolved: endpoint.name === undefined ? null : (more.name?.addresses ?? []),
    dns_error: more.name?.error ?? null,
  }
}

function whyOf(endpoint: Endpoint, share: number, now: number): string | null {
  switch (endpoint.state) {
    case 'serving':
      return null
    case 'slow_start':
      return `${Math.round((share / endpoint.upstream.weight) * 100)} % of its weight`
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
