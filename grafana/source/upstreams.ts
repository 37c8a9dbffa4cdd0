import type { Dashboard } from './dashboard.js'
import { halfAnd99, max, ofNode, ofService, ofTier, rate, sum } from './query.js'

const HEALTHY = 'tidegate_upstream_healthy'
const SECONDS = 'http_client_request_duration_seconds'
const ADDRESS = 'tidegate_service, server_address, server_port'
const NAME = '{{tidegate_service}} {{server_address}}:{{server_port}}'

export const UPSTREAMS: Dashboard = {
  uid: 'tidegate-upstreams',
  title: 'Tidegate: upstreams',
  text: 'Which upstreams serve, which are left out, slow or full, and which requests are shed. `tidegate upstreams` says why one is out.',
  choose: ['service', 'tier'],
  rows: [
    {
      title: 'Now',
      panels: [
        {
          kind: 'stat',
          title: 'Left out',
          text: 'Upstreams that get no requests from at least one gateway: drained, ejected, failing their checks, or unreachable. `tidegate upstreams` says which.',
          thresholds: { orange: 1 },
          queries: {
            'left out': `count(min by (tidegate_service, upstream) (${ofService(HEALTHY)}) == 0) or vector(0)`,
          },
        },
        {
          kind: 'stat',
          title: 'Services with none left',
          text: 'Services without a usable upstream on some gateway: their requests fail there. Act at once.',
          thresholds: { red: 1 },
          queries: {
            services: `count(max by (instance, tidegate_service) (${ofService(HEALTHY)}) == 0) or vector(0)`,
          },
        },
        {
          kind: 'stat',
          title: 'In flight',
          text: 'Requests and tunnels in flight at upstreams: traffic times latency. It grows when they become slow.',
          unit: 'short',
          queries: { 'in flight': sum(ofService('tidegate_upstream_requests_in_flight')) },
        },
        {
          kind: 'stat',
          title: 'Waiting',
          text: 'Requests that wait for a connection to an upstream. Above zero for long: max_connections is too low for the latency, or too few upstreams serve.',
          unit: 'short',
          thresholds: { orange: 1, red: 100 },
          queries: { waiting: sum(ofService('tidegate_upstream_requests_waiting')) },
        },
        {
          kind: 'stat',
          title: 'Open circuits',
          text: 'Services whose requests get 503 at once, because they failed or were slow too often. The gateway tries them again by itself.',
          thresholds: { red: 1 },
          queries: {
            open: `count(${max(ofService('tidegate_circuit_state', 'state="open"'), 'tidegate_service')} == 1) or vector(0)`,
          },
        },
        {
          kind: 'stat',
          title: 'Shed',
          text: 'Requests per second that were shed for lack of room, before any quota was taken. "Shed, by reason" says what was full.',
          unit: 'reqps',
          thresholds: { orange: 0.01, red: 10 },
          queries: { shed: `${sum(rate(ofTier('tidegate_shed_total')))} or vector(0)` },
        },
      ],
    },
    {
      title: 'Health',
      panels: [
        {
          kind: 'timeline',
          title: 'Upstreams',
          text: 'left out: at least one gateway gives it no requests. On and off: it fails under load, or its check is too strict.',
          width: 12,
          names: { 0: ['left out', 'red'], 1: ['serves', 'green'] },
          queries: {
            '{{tidegate_service}} {{upstream}}': `min by (tidegate_service, upstream) (${ofService(HEALTHY)})`,
          },
        },
        {
          kind: 'timeline',
          title: 'Circuits',
          text: 'open: answered with 503 at once. half open: a few requests try whether the service is well. Only of services with a circuit_breaker.',
          width: 12,
          nothing: 'no circuit breakers',
          names: { 0: ['closed', 'green'], 1: ['half open', 'yellow'], 2: ['open', 'red'] },
          queries: {
            '{{tidegate_service}}': `clamp_max(${max(
              ofService('tidegate_circuit_state', 'state="half_open"'),
              'tidegate_service',
            )} + 2 * ${max(ofService('tidegate_circuit_state', 'state="open"'), 'tidegate_service')}, 2)`,
          },
        },
        {
          kind: 'lines',
          title: 'Failed checks and ejections',
          text: 'Failed health checks, and ejections because requests failed. Ejections without failed checks: the upstream answers its check, but not its traffic.',
          unit: 'cps',
          width: 12,
          queries: {
            '{{tidegate_service}} {{upstream}} check failed': sum(
              rate(ofService('tidegate_upstream_health_checks_total', 'result="failed"')),
              'tidegate_service, upstream',
            ),
            '{{tidegate_service}} {{upstream}} ejected': sum(
              rate(ofService('tidegate_upstream_ejections_total')),
              'tidegate_service, upstream',
            ),
          },
        },
        {
          kind: 'stacked',
          title: 'Errors towards upstreams, by code',
          text: 'Of all services. upstream_refused: nothing listens. upstream_failed: it breaks off before it answers. upstream_cut: in the middle of its response. upstream_timeout: too slow for the route. no_upstream: all are drained. docs/errors.md has a row for each.',
          unit: 'reqps',
          width: 12,
          queries: {
            '{{code}}': `${sum(
              rate(
                ofNode(
                  'tidegate_requests_refused_total',
                  'code=~"upstream_.+|no_upstream|overloaded|circuit_open"',
                ),
              ),
              'code',
            )} > 0`,
          },
        },
      ],
    },
    {
      title: 'Load',
      panels: [
        {
          kind: 'stacked',
          title: 'Requests by upstream',
          text: 'Requests per second by upstream. Retries count, so the sum can be more than what came in.',
          unit: 'reqps',
          queries: { [NAME]: sum(rate(ofService(`${SECONDS}_count`)), ADDRESS) },
        },
        {
          kind: 'lines',
          title: 'Time by upstream: p50 and p99',
          text: 'From sending a request to the end of its response. If one upstream is slow, look at that machine; if all of a service are, at what they share, such as a database.',
          unit: 's',
          thresholds: { orange: 1, red: 5 },
          queries: halfAnd99(NAME, ofService(`${SECONDS}_bucket`), ADDRESS),
        },
        {
          kind: 'lines',
          title: 'In flight, and waiting',
          text: 'Requests at each upstream, and requests that wait for one. If they wait while in flight stands still, max_connections is reached.',
          unit: 'short',
          colors: { waiting$: 'red' },
          queries: {
            '{{tidegate_service}} {{upstream}}': sum(
              ofService('tidegate_upstream_requests_in_flight'),
              'tidegate_service, upstream',
            ),
            '{{tidegate_service}} waiting': sum(
              ofService('tidegate_upstream_requests_waiting'),
              'tidegate_service',
            ),
          },
        },
        {
          kind: 'stacked',
          title: 'Retries',
          text: 'succeeded: the client noticed nothing. failed: every attempt failed. no_budget: not retried, because a tenth of the traffic already was. That is an outage, not a hiccup.',
          unit: 'reqps',
          colors: { succeeded$: 'green', failed$: 'red', no_budget$: 'purple' },
          queries: {
            '{{tidegate_service}} {{result}}': sum(
              rate(ofService('tidegate_upstream_retries_total')),
              'tidegate_service, result',
            ),
          },
        },
        {
          kind: 'lines',
          title: 'Concurrency: limit, and in use',
          text: 'Limit of concurrent requests that the gateway found, and how many there are. A falling limit means that the service became slow. Only services with concurrency.',
          unit: 'short',
          nothing: 'no concurrency limits',
          colors: { limit$: 'orange' },
          queries: {
            '{{tidegate_service}} limit': sum(ofService('tidegate_concurrency_limit'), 'tidegate_service'),
            '{{tidegate_service}} in use': sum(
              ofService('tidegate_concurrency_in_flight'),
              'tidegate_service',
            ),
          },
        },
        {
          kind: 'stacked',
          title: 'Shed, by reason and tier',
          text: 'circuit: the breaker is open. concurrency: the service is full. event_loop, heap: the gateway is full; add gateways. The lowest tier is shed first.',
          unit: 'reqps',
          nothing: 'none',
          queries: {
            '{{tidegate_service}} {{tidegate_tier}} {{reason}}': sum(
              rate(ofTier('tidegate_shed_total')),
              'tidegate_service, tidegate_tier, reason',
            ),
          },
        },
        {
          kind: 'stacked',
          title: 'Mirrored copies',
          text: 'Copies for a second service, by result. busy: too many copies were in flight, so this one was left out. Clients notice nothing.',
          unit: 'reqps',
          width: 24,
          height: 6,
          nothing: 'no mirrors',
          queries: {
            '{{tidegate_service}} {{result}}': sum(
              rate(ofService('tidegate_mirrored_total')),
              'tidegate_service, result',
            ),
          },
        },
      ],
    },
  ],
}
