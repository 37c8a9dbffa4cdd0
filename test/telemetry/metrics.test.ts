// Tests src/telemetry/export/exposition.ts
// Tests src/telemetry/metrics/{define-metric,metric-sources,process-metrics}.ts
import t from 'tap'
import type { Limit } from '../../src/config/snapshot/limit.js'
import type { MapHistory } from '../../src/fleet/replicated-map.js'
import { createMetrics, type Metrics, type MetricsOptions } from '../../src/telemetry/metrics.js'
import type { RequestRecord } from '../../src/telemetry/record/record.js'
import { exampleDecision, exampleRecord, exampleSnapshot } from '../support/gateway/snapshot.js'
import {
  hasPromtool,
  parseExposition,
  promtoolComplaints,
  sampleOf,
} from '../support/telemetry/exposition.js'

function metricsOf(changes: Partial<MetricsOptions> = {}): Metrics {
  return createMetrics({
    storeState: () => 'up',
    upstreams: () => [],
    logLinesDropped: () => 0,
    serviceName: 'tidegate',
    log: { warn() {} },
    ...changes,
  })
}

t.test('the lag behind changes counts from the latest confirmation, or from the start', async (t) => {
  const history = (what: string) => () => ({ what }) as MapHistory
  const metrics = metricsOf({
    maps: () => [
      { history: history('bans'), confirmedAt: () => Date.now() + 5000 },
      { history: history('API keys'), confirmedAt: () => 0 },
    ],
  })
  const text = await metrics.scrape()
  t.equal(sampleOf(text, 'tidegate_changes_lag_seconds', { records: 'bans' }), 0, 'a clock that was set back')
  const lag = sampleOf(text, 'tidegate_changes_lag_seconds', { records: 'API keys' })!
  t.ok(lag > 0 && lag <= performance.now() / 1000 + 1, String(lag))
})

t.test('the state of breakers, concurrency limits and overload is read at each scrape', async (t) => {
  const retries = { succeeded: 3, failed: 2, no_budget: 1 }
  let circuit: 'closed' | 'open' | undefined = 'open'
  const metrics = metricsOf({
    guards: () => [
      { service: 'payments', circuit, concurrency: { limit: 40, in_flight: 7 }, retries },
      { service: 'plain', circuit: undefined, concurrency: undefined, retries },
    ],
    overload: () => ({ event_loop: 0.5, heap: 0 }),
  })
  const text = await metrics.scrape()
  const payments = { tidegate_service: 'payments' }
  t.equal(sampleOf(text, 'tidegate_circuit_state', { ...payments, state: 'open' }), 1)
  t.equal(sampleOf(text, 'tidegate_circuit_state', { ...payments, state: 'closed' }), 0)
  t.equal(sampleOf(text, 'tidegate_circuit_state', { tidegate_service: 'plain', state: 'open' }), undefined)
  t.equal(sampleOf(text, 'tidegate_concurrency_limit', payments), 40)
  t.equal(sampleOf(text, 'tidegate_concurrency_in_flight', payments), 7)
  t.equal(sampleOf(text, 'tidegate_overload', { reason: 'event_loop' }), 0.5)
  for (const [result, count] of Object.entries(retries)) {
    t.equal(sampleOf(text, 'tidegate_upstream_retries_total', { ...payments, result }), count)
  }
  circuit = undefined
  const later = await metrics.scrape()
  t.equal(sampleOf(later, 'tidegate_circuit_state', { ...payments, state: 'open' }), undefined)
})

t.test('counts shed requests by service, tier and reason', async (t) => {
  const metrics = metricsOf()
  for (let i = 0; i < 2; i++) metrics.shed(exampleRecord(exampleSnapshot()), 'concurrency')
  metrics.shed(exampleRecord(exampleSnapshot(), { tier: 2 }), 'circuit')
  const text = await metrics.scrape()
  const shed = (tidegate_tier: string, reason: string) =>
    sampleOf(text, 'tidegate_shed_total', { tidegate_service: 'payments', tidegate_tier, reason })
  t.strictSame(
    [shed('free', 'concurrency'), shed('enterprise', 'circuit'), shed('free', 'circuit')],
    [2, 1, undefined],
  )
})

const snapshot = exampleSnapshot()
const first = {
  http_route: '/payments/*',
  http_request_method: 'GET',
  tidegate_service: 'payments',
  tidegate_tier: 'free',
}

t.test('counts a request by route, method, status, service and tier, and its time in seconds', async (t) => {
  const metrics = metricsOf()
  metrics.record(exampleRecord(snapshot, { durationMs: 13.25 }))
  metrics.record(exampleRecord(snapshot, { durationMs: 700 }))
  metrics.record(exampleRecord(snapshot, { status: 502, error: 'upstream_refused' }))
  const text = await metrics.scrape()

  const name = 'http_server_request_duration_seconds'
  const ok = { ...first, http_response_status_code: '200' }
  t.equal(sampleOf(text, `${name}_count`, ok), 2)
  t.match(sampleOf(text, `${name}_sum`, ok), 0.71325)
  t.equal(sampleOf(text, `${name}_bucket`, { ...ok, le: '0.01' }), 0)
  t.equal(sampleOf(text, `${name}_bucket`, { ...ok, le: '0.025' }), 1)
  t.equal(sampleOf(text, `${name}_bucket`, { ...ok, le: '1' }), 2)
  t.equal(sampleOf(text, `${name}_bucket`, { ...ok, le: '+Inf' }), 2)
  const refused = { ...first, http_response_status_code: '502', error_type: 'upstream_refused' }
  t.equal(sampleOf(text, `${name}_count`, refused), 1)
  t.equal(sampleOf(text, 'tidegate_requests_refused_total', { code: 'upstream_refused' }), 1)
})

t.test('a failure counts with its type: a cut response is one, a client that left is not', async (t) => {
  const metrics = metricsOf()
  const of = (status: number, error?: RequestRecord['error']) => exampleRecord(snapshot, { status, error })
  metrics.record(of(200))
  metrics.record(of(200, 'upstream_cut'))
  metrics.record(of(200, 'client_closed'))
  metrics.record(of(101, 'upstream_failed'))
  metrics.record(of(500))
  metrics.record(of(500, 'internal'))
  metrics.record(of(429, 'quota_exceeded'))
  const text = await metrics.scrape()
  const count = (status: string, type: string) =>
    sampleOf(text, 'http_server_request_duration_seconds_count', {
      ...first,
      http_response_status_code: status,
      error_type: type,
    })
  t.equal(count('200', 'upstream_cut'), 1)
  t.equal(count('200', ''), 2, 'a client that leaves is no failure')
  t.equal(count('101', ''), 1, 'a tunnel that ends was opened')
  t.equal(count('500', '500'), 1, "the upstream's own")
  t.equal(count('500', 'internal'), 1)
  t.equal(count('429', ''), 1)
  t.equal(metrics.traffic().services[0]!.responses.server_error, 3)
})

t.test('a value on the upper bound of a bucket is in it', async (t) => {
  const metrics = metricsOf()
  metrics.record(exampleRecord(snapshot, { durationMs: 10 }))
  t.equal(
    sampleOf(await metrics.scrape(), 'http_server_request_duration_seconds_bucket', { ...first, le: '0.01' }),
    1,
  )
})

t.test('measures the time at each upstream, and the time in the gateway itself', async (t) => {
  const metrics = metricsOf()
  const [a, b] = snapshot.services[0]!.upstreams
  metrics.record(exampleRecord(snapshot, { upstream: a, upstreamMs: 12, durationMs: 12.25 }))
  metrics.record(exampleRecord(snapshot, { upstream: { ...b! }, upstreamMs: 40, durationMs: 41 }))
  metrics.record(exampleRecord(snapshot, { upstream: undefined, upstreamMs: 0, durationMs: 0.5 }))
  const marketing = snapshot.routes[2]!
  metrics.record(
    exampleRecord(snapshot, { route: marketing, upstream: marketing.service.upstreams[0], upstreamMs: 8 }),
  )
  const text = await metrics.scrape()
  const name = 'http_client_request_duration_seconds'
  const at = { tidegate_service: 'payments', server_address: '127.0.0.1' }
  t.match(sampleOf(text, `${name}_sum`, { ...at, server_port: '9001' }), 0.012)
  t.match(sampleOf(text, `${name}_sum`, { ...at, server_port: '9011' }), 0.04)
  t.match(sampleOf(text, `${name}_sum`, { server_address: 'marketing.internal', server_port: '443' }), 0.008)
  t.match(sampleOf(text, 'tidegate_overhead_seconds_sum', { tidegate_service: 'payments' }), 0.00175)
  t.equal(
    sampleOf(text, 'tidegate_overhead_seconds_bucket', { tidegate_service: 'payments', le: '0.00025' }),
    1,
  )
})

t.test("a request to an upstream counts with the upstream's status, or with its error", async (t) => {
  const metrics = metricsOf()
  const upstream = snapshot.services[0]!.upstreams[0]
  metrics.record(exampleRecord(snapshot, { upstream, upstreamMs: 1, status: 404 }))
  metrics.record(
    exampleRecord(snapshot, {
      upstream,
      upstreamMs: 1,
      status: 502,
      method: 'POST',
      error: 'upstream_refused',
    }),
  )
  const text = await metrics.scrape()
  const count = (labels: Record<string, string>) =>
    sampleOf(text, 'http_client_request_duration_seconds_count', labels)
  t.equal(count({ http_request_method: 'GET', http_response_status_code: '404', error_type: '' }), 1)
  const broken = { http_request_method: 'POST', error_type: 'upstream_refused' }
  t.equal(count({ ...broken, http_response_status_code: '' }), 1, 'the 502 is not the upstream’s')
})

t.test('counts decisions by their binding limit, and those at 80 % or more as near', async (t) => {
  const metrics = metricsOf()
  const count = (tier: number, changes: Parameters<typeof exampleDecision>[0]) =>
    metrics.record(exampleRecord(snapshot, { tier, decision: exampleDecision(changes), limitMs: 0.4 }))
  count(0, { remaining: 9 })
  count(0, { remaining: 3 })
  count(0, { remaining: 2 })
  count(0, { remaining: 1 })
  count(0, { remaining: 0 })
  count(0, { remaining: 0, allowed: false, violated: 1, retryMs: 6000 })
  count(0, { remaining: 0, allowed: false, violated: 1, retryMs: 6000, decidedBy: 'cache' })
  count(1, { remaining: 70, binding: 1 })
  count(1, { remaining: 3, binding: 0, decidedBy: 'local', reason: 'timeout' })
  metrics.record(exampleRecord(snapshot, { tier: 2, decision: undefined }))
  const text = await metrics.scrape()
  const decisions = (labels: Record<string, string>) =>
    sampleOf(text, 'tidegate_limit_decisions_total', { tidegate_service: 'payments', ...labels })
  t.equal(decisions({ tidegate_tier: 'free', limit: 'minute', decision: 'allowed', decided_by: 'store' }), 2)
  t.equal(decisions({ tidegate_tier: 'free', limit: 'minute', decision: 'near', decided_by: 'store' }), 3)
  t.equal(decisions({ tidegate_tier: 'free', limit: 'minute', decision: 'denied', decided_by: 'store' }), 1)
  t.equal(decisions({ tidegate_tier: 'free', limit: 'minute', decision: 'denied', decided_by: 'cache' }), 1)
  t.equal(decisions({ tidegate_tier: 'pro', limit: 'minute', decision: 'allowed', decided_by: 'store' }), 1)
  t.equal(decisions({ tidegate_tier: 'pro', limit: 'second', decision: 'allowed', decided_by: 'local' }), 1)
  t.equal(decisions({ tidegate_tier: 'enterprise' }), undefined, 'no decision, no count')
  t.equal(sampleOf(text, 'tidegate_limit_duration_seconds_count', { tidegate_service: 'payments' }), 9)
  t.equal(
    sampleOf(text, 'tidegate_limit_duration_seconds_bucket', {
      tidegate_service: 'payments',
      le: '0.0005',
    }),
    9,
  )
})

t.test('counts decisions of candidate limits apart from real ones', async (t) => {
  const [payments] = snapshot.services
  const live = payments!.policies[0]!
  const of = (name: string, burst: number): Limit => ({ ...live.limits[0]!, name, burst })
  const candidate = { ...live, limits: [of('tried', 10), of('other', 100)] }
  const service = { ...payments!, policies: [{ ...live, candidate }] }
  const route = { ...snapshot.routes[0]!, service, quotaOf: service }
  const trying = { ...snapshot, services: [service], routes: [route] }
  const metrics = metricsOf()
  const count = (changes: Parameters<typeof exampleDecision>[0], tier = 0) =>
    metrics.candidate(exampleRecord(trying, { route, tier }), exampleDecision(changes))
  count({ remaining: 9 })
  count({ remaining: 1 })
  count({ allowed: false, violated: 1, remaining: 0 })
  count({ allowed: false, violated: 1, remaining: 0 })
  count({ remaining: 19, binding: 1 })
  count({ remaining: 19 }, 1)
  metrics.record(exampleRecord(trying, { route, decision: exampleDecision() }))
  const text = await metrics.scrape()
  const candidates = (labels: Record<string, string>) =>
    sampleOf(text, 'tidegate_candidate_decisions_total', {
      tidegate_service: 'payments',
      tidegate_tier: 'free',
      ...labels,
    })
  t.equal(candidates({ limit: 'tried', decision: 'allowed' }), 1)
  t.equal(candidates({ limit: 'tried', decision: 'near' }), 1)
  t.equal(candidates({ limit: 'tried', decision: 'denied' }), 2)
  t.equal(candidates({ limit: 'other', decision: 'near' }), 1, 'by its burst')
  t.equal(candidates({ tidegate_tier: 'pro' }), undefined, 'a tier without')
  const decisions = parseExposition(text).series.filter(
    ({ name }) => name === 'tidegate_limit_decisions_total',
  )
  t.same(
    decisions.map(({ labels, value }) => [labels.limit, value]),
    [['minute', 1]],
    'and nothing of it among the decisions',
  )
})

t.test('counts requests that passed uncounted by reason, without naming a limit', async (t) => {
  const metrics = metricsOf()
  for (const reason of ['timeout', 'breaker', 'breaker'] as const) {
    metrics.record(
      exampleRecord(snapshot, { decision: exampleDecision({ decidedBy: 'open', reason, remaining: 0 }) }),
    )
  }
  metrics.record(
    exampleRecord(snapshot, {
      decision: exampleDecision({ decidedBy: 'closed', reason: 'error', allowed: false }),
    }),
  )
  const text = await metrics.scrape()
  const open = (reason: string) =>
    sampleOf(text, 'tidegate_fail_open_total', { tidegate_service: 'payments', reason })
  t.same([open('timeout'), open('error'), open('breaker')], [1, 0, 2], 'a refused request did not pass')
  const none = { tidegate_service: 'payments', limit: 'none' }
  t.equal(
    sampleOf(text, 'tidegate_limit_decisions_total', { ...none, decision: 'allowed', decided_by: 'open' }),
    3,
  )
  t.equal(
    sampleOf(text, 'tidegate_limit_decisions_total', { ...none, decision: 'denied', decided_by: 'closed' }),
    1,
  )
})

t.test('counts requests refused before routing without a route', async (t) => {
  const metrics = metricsOf()
  metrics.record(
    exampleRecord(snapshot, {
      route: undefined,
      tier: -1,
      consumer: undefined,
      decision: undefined,
      upstream: undefined,
      upstreamMs: 0,
      status: 431,
      error: 'headers_too_large',
      method: '',
    }),
  )
  const text = await metrics.scrape()
  const labels = {
    http_route: '',
    http_request_method: '_OTHER',
    http_response_status_code: '431',
    tidegate_service: 'none',
    tidegate_tier: 'none',
  }
  t.equal(sampleOf(text, 'http_server_request_duration_seconds_count', labels), 1)
  t.equal(sampleOf(text, 'tidegate_requests_refused_total', { code: 'headers_too_large' }), 1)
})

t.test('shows registered status codes as they are, and any other as its class', async (t) => {
  const metrics = metricsOf()
  for (const status of [100, 218, 219, 499, 520, 799, 999, 0, 1000, Number.NaN, 200.5]) {
    metrics.record(exampleRecord(snapshot, { status }))
  }
  const { series } = parseExposition(await metrics.scrape())
  const counts = series.filter(({ name }) => name === 'http_server_request_duration_seconds_count')
  const seen = Object.fromEntries(
    counts.map(({ labels, value }) => [labels.http_response_status_code, value]),
  )
  t.same(seen, { 100: 1, '2xx': 2, 499: 1, '5xx': 1, '7xx': 1, '9xx': 1, other: 4 })
})

t.test('an invalid duration does no lasting harm', async (t) => {
  const metrics = metricsOf()
  metrics.record(exampleRecord(snapshot, { durationMs: Number.NaN, upstreamMs: 5, limitMs: -1 }))
  metrics.record(exampleRecord(snapshot, { durationMs: 1000, upstreamMs: 1000 }))
  const text = await metrics.scrape()
  t.equal(sampleOf(text, 'http_server_request_duration_seconds_sum', first), 1)
  t.equal(sampleOf(text, 'tidegate_overhead_seconds_sum', { tidegate_service: 'payments' }), 0)
})

t.test('5,000 different paths, methods, hosts and consumers add no series', async (t) => {
  const metrics = metricsOf()
  const kinds = [
    { route: snapshot.routes[0], status: 200 },
    { route: snapshot.routes[2], status: 404, upstream: snapshot.services[1]!.upstreams[0] },
    {
      route: undefined,
      tier: -1,
      decision: undefined,
      upstream: undefined,
      status: 404,
      error: 'no_route' as const,
    },
  ]
  for (const method of ['GET', 'BREW']) {
    for (const kind of kinds) metrics.record(exampleRecord(snapshot, { method, ...kind }))
  }
  const before = parseExposition(await metrics.scrape()).series
  for (let i = 0; i < 5000; i++) {
    metrics.record(
      exampleRecord(snapshot, {
        ...kinds[i % kinds.length],
        requestId: `id-${i}`,
        method: `M${i}`,
        target: `/payments/${i}?q=${i}`,
        host: `h${i}.example.com`,
        consumer: `consumer-${i}`,
        clientIp: `192.0.2.${i % 256}`,
        cause: `cause ${i}`,
      }),
    )
  }
  const text = await metrics.scrape()
  const after = parseExposition(text).series
  const own = (series: typeof after) => series.filter(({ name }) => /^(?:http|tidegate)_/.test(name)).length
  t.equal(own(after), own(before), `${own(before)} series before and after`)
  t.ok(own(before) > 50, 'and there are some')
  t.notMatch(text, /consumer-\d|h\d+\.example|M\d|cause \d/, 'nothing that a caller sent is shown')
})

t.test('a reload resets no counter, not even while requests of both snapshots are recorded', async (t) => {
  const metrics = metricsOf()
  const next = exampleSnapshot({ hash: 'ba9876543210', loadedAt: 1_770_000_000_500 })
  metrics.loaded(snapshot)
  for (let i = 0; i < 10; i++) metrics.record(exampleRecord(i % 2 === 0 ? snapshot : next))
  metrics.reloaded('applied', next)
  for (let i = 0; i < 5; i++) metrics.record(exampleRecord(next))
  const text = await metrics.scrape()
  t.equal(sampleOf(text, 'http_server_request_duration_seconds_count', first), 15)
  t.equal(sampleOf(text, 'tidegate_config_info'), 1)
  t.equal(sampleOf(text, 'tidegate_config_info', { hash: 'ba9876543210' }), 1)
  t.equal(sampleOf(text, 'tidegate_config_loaded_timestamp_seconds'), 1_770_000_000.5)
})

t.test('counts reloads by result, and a rejected one changes nothing else', async (t) => {
  const metrics = metricsOf()
  metrics.loaded(snapshot)
  const reloads = async () => {
    const text = await metrics.scrape()
    return ['applied', 'rejected', 'unchanged'].map((result) =>
      sampleOf(text, 'tidegate_config_reloads_total', { result }),
    )
  }
  t.same(await reloads(), [0, 0, 0], 'the first load is none')
  const good = async () => sampleOf(await metrics.scrape(), 'tidegate_config_last_reload_successful')
  t.equal(await good(), 1)
  metrics.reloaded('rejected', snapshot)
  metrics.reloaded('rejected', snapshot)
  t.equal(await good(), 0, 'as long as the file stays as it is')
  metrics.reloaded('unchanged', snapshot)
  t.equal(await good(), 1, 'the file is the last good one again')
  t.same(await reloads(), [0, 2, 1])
  t.equal(sampleOf(await metrics.scrape(), 'tidegate_config_info', { hash: snapshot.hash }), 1)
})

t.test('certificate reloads start at 0, so that the first one shows as an increase', async (t) => {
  const metrics = metricsOf()
  const rejected = async () =>
    sampleOf(await metrics.scrape(), 'tidegate_tls_reloads_total', { result: 'rejected' })
  t.equal(await rejected(), 0)
  metrics.certificatesReloaded('rejected')
  t.equal(await rejected(), 1)
})

t.test('reads the state of the store, the upstreams and the log at each scrape', async (t) => {
  let state: 'up' | 'degraded' = 'up'
  let upstreams = [
    { ...IDLE, upstream: 'http://127.0.0.1:9001', inFlight: 3, ejections: 1 },
    { ...IDLE, upstream: 'http://127.0.0.1:9011', healthy: false, checksPassed: 4, checksFailed: 2 },
  ]
  let dropped = 0
  const metrics = metricsOf({
    storeState: () => state,
    upstreams: () => upstreams,
    waiting: () => [['payments', 5]],
    logLinesDropped: () => dropped,
  })
  const before = await metrics.scrape()
  t.equal(sampleOf(before, 'tidegate_store_state', { state: 'up' }), 1)
  t.equal(sampleOf(before, 'tidegate_store_state', { state: 'degraded' }), 0)
  t.equal(sampleOf(before, 'tidegate_upstream_healthy', { upstream: 'http://127.0.0.1:9001' }), 1)
  t.equal(sampleOf(before, 'tidegate_upstream_healthy', { upstream: 'http://127.0.0.1:9011' }), 0)
  t.equal(sampleOf(before, 'tidegate_upstream_requests_in_flight', { upstream: 'http://127.0.0.1:9001' }), 3)
  t.equal(sampleOf(before, 'tidegate_upstream_requests_waiting', { tidegate_service: 'payments' }), 5)
  t.equal(sampleOf(before, 'tidegate_upstream_ejections_total', { upstream: 'http://127.0.0.1:9001' }), 1)
  t.equal(sampleOf(before, 'tidegate_upstream_health_checks_total', { result: 'passed' }), 4)
  t.equal(sampleOf(before, 'tidegate_upstream_health_checks_total', { result: 'failed' }), 2)
  t.equal(sampleOf(before, 'tidegate_log_lines_dropped_total'), 0)
  state = 'degraded'
  upstreams = [{ ...IDLE, upstream: 'http://127.0.0.1:9011' }]
  dropped = 7
  const after = await metrics.scrape()
  t.equal(sampleOf(after, 'tidegate_store_state', { state: 'up' }), 0)
  t.equal(sampleOf(after, 'tidegate_store_state', { state: 'degraded' }), 1)
  t.equal(sampleOf(after, 'tidegate_upstream_healthy', { upstream: 'http://127.0.0.1:9001' }), undefined)
  t.equal(sampleOf(after, 'tidegate_upstream_healthy', { upstream: 'http://127.0.0.1:9011' }), 1)
  t.equal(sampleOf(after, 'tidegate_log_lines_dropped_total'), 7)
})

const IDLE = {
  service: 'payments',
  upstream: 'http://127.0.0.1:9001',
  healthy: true,
  inFlight: 0,
  ejections: 0,
  checksPassed: 0,
  checksFailed: 0,
}

async function fullScrape(): Promise<string> {
  const metrics = metricsOf({
    upstreams: () => [IDLE],
  })
  metrics.loaded(snapshot)
  metrics.record(exampleRecord(snapshot))
  metrics.record(
    exampleRecord(snapshot, { decision: exampleDecision({ decidedBy: 'open', reason: 'error' }) }),
  )
  return metrics.scrape()
}

t.test('a strict parser accepts the output, which includes the metrics of the process', async (t) => {
  const text = await fullScrape()
  const { types, series } = parseExposition(text)
  t.equal(types.get('http_server_request_duration_seconds'), 'histogram')
  t.equal(types.get('tidegate_limit_decisions_total'), 'counter')
  t.equal(types.get('tidegate_store_state'), 'gauge')
  t.ok(types.has('nodejs_eventloop_lag_p99_seconds'))
  t.ok(types.has('process_resident_memory_bytes'))
  t.notMatch(text, /otel_scope|target_info/)
  for (const { name, labels, value } of series) {
    if (name.endsWith('_bucket') && labels.le === '+Inf') {
      const { le: _, ...others } = labels
      t.equal(
        sampleOf(text, name.replace('_bucket', '_count'), others),
        value,
        `${name}: the last bucket is the count`,
      )
    }
  }
})

const promtoolTest = hasPromtool
  ? 'promtool check metrics has nothing to say about it'
  : 'promtool is not installed (Debian: apt-get install prometheus), so only the reader above has judged the exposition'
t.test(promtoolTest, async (t) => {
  const text = await fullScrape()
  if (hasPromtool) t.equal(promtoolComplaints(text), '')
  else t.doesNotThrow(() => parseExposition(text))
})
