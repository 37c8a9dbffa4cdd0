import type { Names } from './dns.js'
import { type Endpoint, settle, shareOf } from './endpoint.js'
import type { CheckResult } from './health-check.js'

/** State of one upstream of one service for an operator: plain data, as `GET /upstreams` returns it. */
export type UpstreamState = Readonly<ReturnType<typeof describeEndpoint>>

/** Data for the metrics of an upstream. */
export type UpstreamReading = Readonly<ReturnType<typeof readingOf>>

export function readingOf(endpoint: Endpoint) {
  const { group, address, state, tunnels, ejections, checksPassed, checksFailed } = endpoint
  return {
    service: group.service.name,
    upstream: address,
    /** True if it gets requests. */
    healthy: state === 'serving' || state === 'slow_start',
    /** Requests in flight, tunnels included. */
    inFlight: endpoint.inFlight + tunnels,
    ejections,
    checksPassed,
    checksFailed,
  }
}

/** @param now ms of the clock that the endpoint's times are from */
export function describeEndpoint(endpoint: Endpoint, now: number, names: Pick<Names, 'state'>) {
  settle(endpoint, now)
  const { group, lastCheck, name } = endpoint
  const resolution = name === undefined ? undefined : names.state(name)
  return {
    service: group.service.name,
    /** Address as configured, `http://host:port/base`. */
    address: endpoint.address,
    state: endpoint.state,
    /** Reason for a state other than serving. */
    why: whyOf(endpoint, now),
    /** ISO 8601. */
    since: new Date(Date.now() - (now - endpoint.since)).toISOString(),
    weight: endpoint.upstream.weight,
    in_flight: endpoint.inFlight,
    /** Open WebSockets. */
    tunnels: endpoint.tunnels,
    max_connections: endpoint.connections,
    /** Requests that wait for any upstream of the service. */
    waiting: group.queue.length,
    /** Ejections since the process started. */
    ejections: endpoint.ejections,
    last_check: lastCheck === undefined ? null : readable(lastCheck),
    /** Resolved addresses of its name; null if there is no name to resolve. */
    resolved: name === undefined ? null : (resolution?.addresses ?? []),
    /** Error of the latest lookup of the name; `resolved` then has the addresses of the last successful one. */
    dns_error: resolution?.error ?? null,
  }
}

function readable({ at, passed, ms, detail }: CheckResult) {
  return { at: new Date(at).toISOString(), passed, ms: Math.round(ms * 10) / 10, detail }
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
