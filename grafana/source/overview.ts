import type { Dashboard } from './dashboard.js'
import { DENIED, halfAnd99, max, ofNode, ofService, ofTier, quantile, rate, share, sum } from './query.js'

const REQUESTS = 'http_server_request_duration_seconds_count'
const SECONDS = 'http_server_request_duration_seconds_bucket'
const DECISIONS = 'tidegate_limit_decisions_total'
const OVERHEAD = 'tidegate_overhead_seconds_bucket'
const FAILED = 'error_type!=""'

export const OVERVIEW: Dashboard = {
  uid: 'tidegate-overview',
  title: 'Tidegate: overview',
  text: 'How much traffic, how much of it fails or is limited, and how long it takes. Start here.',
  choose: ['service', 'tier'],
  rows: [
    {
      title: 'Now',
      panels: [
        {
          kind: 'stat',
          title: 'Requests',
          text: 'Requests per second, whatever their outcome. If it falls to zero while callers complain, look in front of the gateway: at the load balancer and its health checks.',
          unit: 'reqps',
          nothing: 'no traffic',
          queries: { requests: sum(rate(ofTier(REQUESTS))) },
        },
        {
          kind: 'stat',
          title: 'Failed',
          text: 'Share of requests that got 5xx, from the gateway or an upstream, or whose response was cut. Above 1 %: "Errors by code" below says who failed, and the upstreams dashboard says which upstream.',
          unit: 'percentunit',
          decimals: 2,
          min: 0,
          thresholds: { orange: 0.001, red: 0.01 },
          nothing: 'no traffic',
          to: 'tidegate-upstreams',
          queries: { failed: share(rate(ofTier(REQUESTS, FAILED)), rate(ofTier(REQUESTS))) },
        },
        {
          kind: 'stat',
          title: 'Limited (429)',
          text: 'Share of quota decisions that were denials. A jump means that one consumer sends too much, or that a limit was lowered. `tidegate top` names the consumer, the limits dashboard the limit.',
          unit: 'percentunit',
          decimals: 2,
          min: 0,
          thresholds: { orange: 0.1, red: 0.5 },
          nothing: 'no traffic',
          to: 'tidegate-limits',
          queries: { denied: share(rate(ofTier(DECISIONS, DENIED)), rate(ofTier(DECISIONS))) },
        },
        {
          kind: 'stat',
          title: 'p99',
          text: 'The p99 of the duration of requests. Compare it with the overhead beside it: the rest is the upstream.',
          unit: 's',
          thresholds: { orange: 1, red: 5 },
          nothing: 'no traffic',
          queries: { p99: quantile(0.99, ofTier(SECONDS)) },
        },
        {
          kind: 'stat',
          title: 'Overhead, p99',
          text: 'Time that the gateway adds, including the wait for the store. Above 10 ms: look at the store on the degraded dashboard, then at the event loop on the process dashboard.',
          unit: 's',
          thresholds: { orange: 0.01, red: 0.05 },
          nothing: 'no traffic',
          to: 'tidegate-degraded',
          queries: { p99: quantile(0.99, ofService(OVERHEAD)) },
        },
        {
          kind: 'stat',
          title: 'Store',
          text: 'up: every gateway counts in the store. degraded: at least one decides without it, by on_failure of each service.',
          names: { 0: ['up', 'green'], 1: ['degraded', 'red'] },
          nothing: 'no gateway',
          to: 'tidegate-degraded',
          queries: { store: max(ofNode('tidegate_store_state', 'state="degraded"')) },
        },
        {
          kind: 'table',
          title: 'Alerts that fire',
          text: 'docs/runbook has a page for each alert, by its name. Needs alerts.yml in Prometheus.',
          width: 24,
          height: 6,
          nothing: 'none',
          queries: { firing: 'ALERTS{alertname=~"Tidegate.+", alertstate="firing", job=~"$job"}' },
        },
      ],
    },
    {
      title: 'Traffic',
      panels: [
        {
          kind: 'stacked',
          title: 'Requests by service',
          text: 'Requests per second by service. `none`: refused before a service was chosen, such as 404 and 401.',
          unit: 'reqps',
          queries: { '{{tidegate_service}}': sum(rate(ofTier(REQUESTS)), 'tidegate_service') },
        },
        {
          kind: 'stacked',
          title: 'Requests by status',
          text: 'Status of responses. 429: limits. 499: the client left, mostly because the response took too long. 502 to 504: upstreams, or no room.',
          unit: 'reqps',
          colors: {
            '^2..$': 'green',
            '^3..$': 'blue',
            '^4(?!29)..$': 'yellow',
            '^429$': 'orange',
            '^5..$': 'red',
          },
          queries: {
            '{{http_response_status_code}}': sum(rate(ofTier(REQUESTS)), 'http_response_status_code'),
          },
        },
        {
          kind: 'stacked',
          title: 'Requests by tier',
          text: 'Requests per second by tier. Much more of the lowest tier than usual: a client sends no key, or an invalid one.',
          unit: 'reqps',
          queries: { '{{tidegate_tier}}': sum(rate(ofTier(REQUESTS)), 'tidegate_tier') },
        },
        {
          kind: 'lines',
          title: 'Busiest routes',
          text: 'The ten routes with the most requests, by method.',
          unit: 'reqps',
          width: 24,
          queries: {
            '{{http_request_method}} {{http_route}}': `topk(10, ${sum(rate(ofTier(REQUESTS)), 'http_request_method, http_route')})`,
          },
        },
      ],
    },
    {
      title: 'Errors',
      panels: [
        {
          kind: 'lines',
          title: 'Failed, by service',
          text: 'Share of requests to each service that failed: 5xx, or cut in the middle of the response. If one service fails, look at its upstreams. If all fail at once, look at the gateway, or at what they share.',
          unit: 'percentunit',
          min: 0,
          thresholds: { red: 0.01 },
          queries: {
            '{{tidegate_service}}': share(
              rate(ofTier(REQUESTS, FAILED)),
              rate(ofTier(REQUESTS)),
              'tidegate_service',
            ),
          },
        },
        {
          kind: 'stacked',
          title: 'Errors by code',
          text: 'Requests that the gateway answered itself or could not complete, over all services. docs/errors.md has a row for each code. A 500 of an upstream is not among them.',
          unit: 'reqps',
          queries: { '{{code}}': `${sum(rate(ofNode('tidegate_requests_refused_total')), 'code')} > 0` },
        },
        {
          kind: 'lines',
          title: 'Error budget burn, last hour',
          text: 'How many times faster than planned the error budget of the month (0.1 %) is spent. At 14.4, an hour spends a fiftieth of it, and TidegateErrorBudgetBurn fires. Needs alerts.yml in Prometheus.',
          min: 0,
          thresholds: { orange: 1, red: 14.4 },
          queries: {
            '{{tidegate_service}}':
              'max by (tidegate_service) (tidegate:errors:ratio_rate1h{job=~"$job", tidegate_service=~"$service"}) / 0.001',
          },
        },
      ],
    },
    {
      title: 'Latency',
      panels: [
        {
          kind: 'heatmap',
          title: 'How long requests take',
          text: 'From accepting a request to the end of its response. Two bands are two kinds of request. A band that moves up is a backend that became slow.',
          unit: 's',
          queries: { '{{le}}': sum(rate(ofTier(SECONDS)), 'le') },
        },
        {
          kind: 'lines',
          title: 'Requests by service: p50 and p99',
          text: 'Duration of requests. The upstreams dashboard shows the same without the gateway.',
          unit: 's',
          to: 'tidegate-upstreams',
          queries: halfAnd99('{{tidegate_service}}', ofTier(SECONDS), 'tidegate_service'),
        },
        {
          kind: 'lines',
          title: 'Requests by tier: p99',
          text: 'Duration of requests. Higher for paying tiers than for free: their requests are heavier, or come from farther away.',
          unit: 's',
          queries: { '{{tidegate_tier}}': quantile(0.99, ofTier(SECONDS), 'tidegate_tier') },
        },
        {
          kind: 'lines',
          title: 'Overhead by service: p50 and p99',
          text: 'Time that the gateway adds, including the wait for the store. It should stay below 5 ms: if not, the store (degraded dashboard) or the event loop (process dashboard) is slow.',
          unit: 's',
          width: 12,
          thresholds: { red: 0.05 },
          queries: halfAnd99('{{tidegate_service}}', ofService(OVERHEAD), 'tidegate_service'),
        },
        {
          kind: 'lines',
          title: 'Requests by gateway',
          text: 'Requests per second by gateway. A gateway without requests is out of the load balancer: see its /readyz.',
          unit: 'reqps',
          width: 12,
          queries: { '{{instance}}': sum(rate(ofTier(REQUESTS)), 'instance') },
        },
      ],
    },
  ],
}
