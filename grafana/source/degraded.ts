import type { Dashboard } from './dashboard.js'
import { halfAnd99, increase, max, ofNode, ofService, quantile, rate, share, sum } from './query.js'

const DECISIONS = 'tidegate_limit_decisions_total'
const FAIL_OPEN = 'tidegate_fail_open_total'
const SECONDS = 'tidegate_limit_duration_seconds'
const DEGRADED = ofNode('tidegate_store_state', 'state="degraded"')
const COUNTED = 'decided_by=~"store|cache"'
const LOCAL = 'decided_by="local"'

export const DEGRADED_BOARD: Dashboard = {
  uid: 'tidegate-degraded',
  title: 'Tidegate: degraded',
  text: 'How quickly Redis answers, which gateways decide without it, and what passes uncounted meanwhile.',
  choose: ['service'],
  rows: [
    {
      title: 'Now, and in this time',
      panels: [
        {
          kind: 'stat',
          title: 'Store',
          text: 'up: every gateway counts in the store. degraded: "State of the store" shows which one does not. If all do not, look at Redis; if one does not, at its network.',
          names: { 0: ['up', 'green'], 1: ['degraded', 'red'] },
          nothing: 'no gateway',
          queries: { store: max(DEGRADED) },
        },
        {
          kind: 'stat',
          title: 'Degraded, share of the time',
          text: 'Of the gateway that was degraded longest, how much of the time that is shown.',
          unit: 'percentunit',
          decimals: 2,
          min: 0,
          width: 5,
          thresholds: { orange: 0.0001, red: 0.01 },
          queries: { degraded: max(`avg_over_time(${DEGRADED}[$__range])`) },
        },
        {
          kind: 'stat',
          title: 'Let through uncounted in this time',
          text: 'Requests that passed without a quota, because the store did not decide and the service says on_failure: open. Exact. If that must not be, let the service say local or closed.',
          unit: 'short',
          decimals: 0,
          width: 5,
          thresholds: { orange: 1, red: 1000 },
          nothing: 'none',
          queries: { 'let through': sum(increase(ofService(FAIL_OPEN))) },
        },
        {
          kind: 'stat',
          title: 'Beyond a limit, of these (estimate)',
          text: 'How many of those would have been denied: as large a share as the store denied in the rest of this time, service by service. Choose a time that begins before the outage.',
          unit: 'short',
          decimals: 0,
          width: 5,
          thresholds: { orange: 1, red: 1000 },
          nothing: 'none',
          queries: {
            'beyond a limit': sum(
              `${sum(increase(ofService(FAIL_OPEN)), 'tidegate_service')} * ${share(
                increase(ofService(DECISIONS, 'decision="denied"', COUNTED)),
                increase(ofService(DECISIONS, COUNTED)),
                'tidegate_service',
              )}`,
            ),
          },
        },
        {
          kind: 'stat',
          title: 'Decision, p99',
          text: 'The p99 of the time that a decision takes. At 100 ms (store.timeout) the gateway stops waiting. Redis itself answers in less than 1 ms: above 20 ms look at its CPU, its slow log, the network.',
          unit: 's',
          width: 5,
          thresholds: { orange: 0.02, red: 0.1 },
          nothing: 'no traffic',
          queries: { p99: quantile(0.99, ofService(`${SECONDS}_bucket`)) },
        },
      ],
    },
    {
      title: 'Without the store',
      panels: [
        {
          kind: 'timeline',
          title: 'State of the store, by gateway',
          text: 'All gateways at once: Redis is away. One: the network between it and Redis. On and off: Redis is sometimes too slow for store.timeout.',
          width: 12,
          names: { 0: ['up', 'green'], 1: ['degraded', 'red'] },
          queries: { '{{instance}}': max(DEGRADED, 'instance') },
        },
        {
          kind: 'stacked',
          title: 'Let through uncounted, by reason',
          text: 'timeout: Redis took longer than store.timeout. error: it refused, or the connection broke. breaker: it was not asked, because it had failed before; that is most of a long outage.',
          unit: 'reqps',
          width: 12,
          colors: { timeout$: 'orange', error$: 'red', breaker$: 'purple' },
          queries: {
            '{{tidegate_service}} {{reason}}': sum(rate(ofService(FAIL_OPEN)), 'tidegate_service, reason'),
          },
        },
        {
          kind: 'timeline',
          title: 'Records that the store has lost',
          text: 'Records that the store has lost while nobody has decided what holds: the gateways serve what they knew, from memory alone. Decide by tidegate store.',
          width: 24,
          names: { 0: ['kept', 'green'], 1: ['forgotten', 'red'] },
          nothing: 'no Redis',
          queries: { '{{records}}': max(ofNode('tidegate_store_forgotten'), 'records') },
        },
        {
          kind: 'lines',
          title: 'Behind changes',
          text: 'Time since a gateway last knew that it has all changes of tiers, boosts, bans and API keys. About a second is usual. While the store is away it grows on every gateway; on one gateway alone, a ban or a revoked key may not hold there.',
          unit: 's',
          width: 24,
          nothing: 'no Redis',
          queries: {
            '{{instance}} {{records}}': max(ofNode('tidegate_changes_lag_seconds'), 'instance, records'),
          },
        },
        {
          kind: 'stacked',
          title: 'Records looked up in the store',
          text: 'With more than 500,000 tier assignments, API keys, or boosts and overrides a gateway looks up those of consumers that it has not seen lately. failed: the store did not answer, and a consumer got the tier that comes next, or the limits of its tier. refused: too many at once, which is a flood of strangers.',
          unit: 'ops',
          width: 24,
          colors: { failed$: 'red', refused$: 'orange' },
          nothing: 'none: the gateways hold all records',
          queries: {
            '{{records}} {{result}}': sum(rate(ofNode('tidegate_store_lookups_total')), 'records, result'),
          },
        },
        {
          kind: 'stacked',
          title: 'Decisions without the store',
          text: 'local: counted in each gateway within its share. open: let through. closed: answered with 503. Anything but nothing here is an outage, short or long.',
          unit: 'reqps',
          colors: { '^local': 'yellow', '^open': 'red', '^closed': 'purple' },
          nothing: 'none: the store decides',
          queries: {
            '{{decided_by}} {{decision}}': sum(
              rate(ofService(DECISIONS, 'decided_by=~"local|open|closed"')),
              'decided_by, decision',
            ),
          },
        },
        {
          kind: 'lines',
          title: 'Local decisions: denied, share by service',
          text: 'What each gateway denies by its own count. Much more than before the outage: the traffic is not spread evenly, so one gateway uses up its share while others do not.',
          unit: 'percentunit',
          min: 0,
          max: 1,
          nothing: 'no local decisions',
          queries: {
            '{{tidegate_service}}': share(
              rate(ofService(DECISIONS, LOCAL, 'decision="denied"')),
              rate(ofService(DECISIONS, LOCAL)),
              'tidegate_service',
            ),
          },
        },
        {
          kind: 'lines',
          title: 'Refused because the store is away',
          text: '503 store_unavailable, of services that say on_failure: closed. All their limited traffic fails while this is above nothing.',
          unit: 'reqps',
          queries: {
            '{{instance}}': sum(
              rate(ofNode('tidegate_requests_refused_total', 'code="store_unavailable"')),
              'instance',
            ),
          },
        },
      ],
    },
    {
      title: 'How quickly the store decides',
      panels: [
        {
          kind: 'heatmap',
          title: 'How long decisions take',
          text: 'A band that grows upwards is Redis or the network becoming slow; a second band at 100 ms is store.timeout running out.',
          unit: 's',
          queries: { '{{le}}': sum(rate(ofService(`${SECONDS}_bucket`)), 'le') },
        },
        {
          kind: 'lines',
          title: 'Decisions by gateway: p50 and p99',
          text: 'One gateway alone: its event loop (process dashboard), or its way to Redis.',
          unit: 's',
          thresholds: { orange: 0.02, red: 0.1 },
          queries: halfAnd99('{{instance}}', ofService(`${SECONDS}_bucket`), 'instance'),
        },
        {
          kind: 'lines',
          title: 'Slower than 25 ms, share by service',
          text: 'Redis decides in well below a millisecond. When this grows, failing open is next: relieve Redis now.',
          unit: 'percentunit',
          min: 0,
          thresholds: { red: 0.01 },
          queries: {
            '{{tidegate_service}}': `1 - ${share(
              rate(ofService(`${SECONDS}_bucket`, 'le="0.025"')),
              rate(ofService(`${SECONDS}_count`)),
              'tidegate_service',
            )}`,
          },
        },
      ],
    },
  ],
}
