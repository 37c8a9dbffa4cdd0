import type { Dashboard } from './dashboard.js'
import { DENIED, max, ofNode, ofService, ofTier, quantile, rate, share, sum } from './query.js'

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
          text: 'Requests a second that came in, whatever became of them. A fall to nothing while callers complain: look in front of the gateway, at the load balancer and its health checks.',
          unit: 'reqps',
          width: 4,
          nothing: 'no traffic',
          queries: [{ expr: sum(rate(ofTier(REQUESTS))), legend: 'requests' }],
        },
        {
          kind: 'stat',
          title: 'Failed',
          text: 'Share of requests answered with 5xx, by the gateway or by an upstream, or cut in the middle of the response. Above 1 %: "Errors by code" below says whose they are; the upstreams dashboard, which one.',
          unit: 'percentunit',
          decimals: 2,
          min: 0,
          width: 4,
          thresholds: { orange: 0.001, red: 0.01 },
          nothing: 'no traffic',
          to: 'tidegate-upstreams',
          queries: [
            { expr: share(rate(ofTier(REQUESTS, FAILED)), rate(ofTier(REQUESTS))), legend: 'failed' },
          ],
        },
        {
          kind: 'stat',
          title: 'Limited (429)',
          text: 'Share of quota decisions that were denials. A jump is one consumer that went wild, or a limit that was lowered: `tidegate top` names who, the limits dashboard which limit.',
          unit: 'percentunit',
          decimals: 2,
          min: 0,
          width: 4,
          thresholds: { orange: 0.1, red: 0.5 },
          nothing: 'no traffic',
          to: 'tidegate-limits',
          queries: [
            {
              expr: share(rate(ofTier(DECISIONS, DENIED)), rate(ofTier(DECISIONS))),
              legend: 'denied',
            },
          ],
        },
        {
          kind: 'stat',
          title: 'Slowest 1 %',
          text: 'Time that the slowest 1 % of requests take at least. Compare it with the overhead beside it: what is not the gateway is the upstream.',
          unit: 's',
          width: 4,
          thresholds: { orange: 1, red: 5 },
          nothing: 'no traffic',
          queries: [{ expr: quantile(0.99, ofTier(SECONDS)), legend: 'p99' }],
        },
        {
          kind: 'stat',
          title: 'Overhead, slowest 1 %',
          text: 'What the gateway itself adds, the wait for the store included. Above 10 ms: look at the store on the degraded dashboard, then at the event loop on the process dashboard.',
          unit: 's',
          width: 4,
          thresholds: { orange: 0.01, red: 0.05 },
          nothing: 'no traffic',
          to: 'tidegate-degraded',
          queries: [{ expr: quantile(0.99, ofService(OVERHEAD)), legend: 'p99' }],
        },
        {
          kind: 'stat',
          title: 'Store',
          text: 'Whether every gateway counts in the store. "degraded": at least one decides without it, by on_failure of each service.',
          unit: 'none',
          width: 4,
          names: { 0: ['up', 'green'], 1: ['degraded', 'red'] },
          nothing: 'no gateway',
          to: 'tidegate-degraded',
          queries: [{ expr: max(ofNode('tidegate_store_state', 'state="degraded"')), legend: 'store' }],
        },
        {
          kind: 'table',
          title: 'Alerts that fire',
          text: 'What docs/runbook has a page for, by the name of the alert. Needs alerts.yml in Prometheus.',
          unit: 'none',
          width: 24,
          height: 6,
          nothing: 'none',
          queries: [
            { expr: 'ALERTS{alertname=~"Tidegate.+", alertstate="firing", job=~"$job"}', legend: 'firing' },
          ],
        },
      ],
    },
    {
      title: 'Traffic',
      panels: [
        {
          kind: 'stacked',
          title: 'Requests by service',
          text: 'Who is asked how much. `none`: refused before there was a service, such as 404 and 401.',
          unit: 'reqps',
          width: 8,
          queries: [
            {
              expr: sum(rate(ofTier(REQUESTS)), 'tidegate_service'),
              legend: '{{tidegate_service}}',
            },
          ],
        },
        {
          kind: 'stacked',
          title: 'Requests by status',
          text: 'What callers get. 429: limits; 499: callers that left, mostly because it took too long; 502 to 504: upstreams, or no room.',
          unit: 'reqps',
          width: 8,
          colors: {
            '^2..$': 'green',
            '^3..$': 'blue',
            '^4(?!29)..$': 'yellow',
            '^429$': 'orange',
            '^5..$': 'red',
          },
          queries: [
            {
              expr: sum(rate(ofTier(REQUESTS)), 'http_response_status_code'),
              legend: '{{http_response_status_code}}',
            },
          ],
        },
        {
          kind: 'stacked',
          title: 'Requests by tier',
          text: 'Which plan the traffic is on. Much more of the lowest tier than usual: somebody without a key, or with a lost one.',
          unit: 'reqps',
          width: 8,
          queries: [{ expr: sum(rate(ofTier(REQUESTS)), 'tidegate_tier'), legend: '{{tidegate_tier}}' }],
        },
        {
          kind: 'lines',
          title: 'Busiest routes',
          text: 'The ten routes that are asked most, with their methods.',
          unit: 'reqps',
          width: 24,
          queries: [
            {
              expr: `topk(10, ${sum(rate(ofTier(REQUESTS)), 'http_request_method, http_route')})`,
              legend: '{{http_request_method}} {{http_route}}',
            },
          ],
        },
      ],
    },
    {
      title: 'Errors',
      panels: [
        {
          kind: 'lines',
          title: 'Failed, by service',
          text: 'Share of requests to each service that failed: 5xx, or cut in the middle of the response. One service alone: its upstreams. All at once: the gateway, or what all of them share.',
          unit: 'percentunit',
          min: 0,
          width: 8,
          thresholds: { red: 0.01 },
          queries: [
            {
              expr: share(rate(ofTier(REQUESTS, FAILED)), rate(ofTier(REQUESTS)), 'tidegate_service'),
              legend: '{{tidegate_service}}',
            },
          ],
        },
        {
          kind: 'stacked',
          title: 'Errors by code',
          text: 'What the gateway answered itself or could not complete, of all services; docs/errors.md has a row for each code. An upstream that answers 500 is none of these.',
          unit: 'reqps',
          width: 8,
          queries: [
            {
              expr: `${sum(rate(ofNode('tidegate_requests_refused_total')), 'code')} > 0`,
              legend: '{{code}}',
            },
          ],
        },
        {
          kind: 'lines',
          title: 'Error budget burn, last hour',
          text: 'How many times faster than a month allows the budget of 0.1 % is used up: at 14.4 a fiftieth of it goes in an hour, and TidegateErrorBudgetBurn fires. Needs alerts.yml in Prometheus.',
          unit: 'none',
          min: 0,
          width: 8,
          thresholds: { orange: 1, red: 14.4 },
          queries: [
            {
              expr: 'max by (tidegate_service) (tidegate:errors:ratio_rate1h{job=~"$job", tidegate_service=~"$service"}) / 0.001',
              legend: '{{tidegate_service}}',
            },
          ],
        },
      ],
    },
    {
      title: 'Latency',
      panels: [
        {
          kind: 'heatmap',
          title: 'How long requests take',
          text: 'From accepting a request to the end of its response. Two bands are two kinds of request; a band that moves up is a backend that became slow.',
          unit: 's',
          width: 8,
          queries: [{ expr: sum(rate(ofTier(SECONDS)), 'le'), legend: '{{le}}' }],
        },
        {
          kind: 'lines',
          title: 'Requests by service: half, and 99 %',
          text: 'Half of the requests, and 99 % of them, take no longer than this. The upstreams dashboard has the same without the gateway.',
          unit: 's',
          width: 8,
          to: 'tidegate-upstreams',
          queries: [0.5, 0.99].map((q) => ({
            expr: quantile(q, ofTier(SECONDS), 'tidegate_service'),
            legend: `{{tidegate_service}} p${q * 100}`,
          })),
        },
        {
          kind: 'lines',
          title: 'Requests by tier: 99 %',
          text: '99 % of the requests of a tier take no longer than this. Higher for paying tiers than for free: they ask for heavier things, or from farther away.',
          unit: 's',
          width: 8,
          queries: [{ expr: quantile(0.99, ofTier(SECONDS), 'tidegate_tier'), legend: '{{tidegate_tier}}' }],
        },
        {
          kind: 'lines',
          title: 'Overhead by service: half, and 99 %',
          text: 'What the gateway itself adds, the wait for the store included. It should stay below 5 ms: if not, the store (degraded dashboard) or the event loop (process dashboard) is slow.',
          unit: 's',
          width: 12,
          thresholds: { red: 0.05 },
          queries: [0.5, 0.99].map((q) => ({
            expr: quantile(q, ofService(OVERHEAD), 'tidegate_service'),
            legend: `{{tidegate_service}} p${q * 100}`,
          })),
        },
        {
          kind: 'lines',
          title: 'Requests by gateway',
          text: 'How the load balancer spreads them. One that gets nothing is out of it: see its /readyz.',
          unit: 'reqps',
          width: 12,
          queries: [{ expr: sum(rate(ofTier(REQUESTS)), 'instance'), legend: '{{instance}}' }],
        },
      ],
    },
  ],
}
