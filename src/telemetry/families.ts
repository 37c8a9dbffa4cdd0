import type { Snapshot } from '../config/snapshot.js'
import { type Cell, createFamily, type Definition, type Family } from './cells.js'

/** Ms: from a request that never left the gateway to one that waits for a slow backend. */
const REQUEST_MS = Float64Array.of(
  0.5,
  1,
  2.5,
  5,
  10,
  25,
  50,
  100,
  250,
  500,
  1000,
  2500,
  5000,
  10_000,
  30_000,
)
/** Ms: the gateway's own share is well below one. */
const OVERHEAD_MS = Float64Array.of(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 1000)
/** Ms: the store's time limit is 100 and a decision without it comes 20 later at most. */
const LIMIT_MS = Float64Array.of(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 120, 250)

const SERVICE = 'tidegate.service'
const TIER = 'tidegate.tier'

/** Every metric of Tidegate's own: `docs/metrics.md` is held against this table. */
const DEFINITIONS = {
  serverDuration: {
    otlp: 'http.server.request.duration',
    prometheus: 'http_server_request_duration_seconds',
    kind: 'histogram',
    unit: 's',
    help: 'Time from accepting a request to the end of its response.',
    labels: ['http.route', 'http.request.method', 'http.response.status_code', SERVICE, TIER],
    boundsMs: REQUEST_MS,
  },
  clientDuration: {
    otlp: 'http.client.request.duration',
    prometheus: 'http_client_request_duration_seconds',
    kind: 'histogram',
    unit: 's',
    help: 'Time from handing a request to an upstream to the end of its response.',
    labels: [
      SERVICE,
      'server.address',
      'server.port',
      'http.request.method',
      'http.response.status_code',
      'error.type',
    ],
    boundsMs: REQUEST_MS,
  },
  overhead: {
    otlp: 'tidegate.overhead',
    prometheus: 'tidegate_overhead_seconds',
    kind: 'histogram',
    unit: 's',
    help: 'Time a request spent in the gateway: the whole less the upstream.',
    labels: [SERVICE],
    boundsMs: OVERHEAD_MS,
  },
  limitDecisions: {
    otlp: 'tidegate.limit.decisions',
    prometheus: 'tidegate_limit_decisions_total',
    kind: 'counter',
    unit: '{decision}',
    help: 'Quota decisions by the limit that was binding; near is allowed with 80 % of it used, or more.',
    labels: [SERVICE, TIER, 'limit', 'decision', 'decided_by'],
  },
  candidateDecisions: {
    otlp: 'tidegate.candidate.decisions',
    prometheus: 'tidegate_candidate_decisions_total',
    kind: 'counter',
    unit: '{decision}',
    help: 'What candidate limits would have decided, by the one that was binding. Not counted while the store is away.',
    labels: [SERVICE, TIER, 'limit', 'decision'],
  },
  limitDuration: {
    otlp: 'tidegate.limit.duration',
    prometheus: 'tidegate_limit_duration_seconds',
    kind: 'histogram',
    unit: 's',
    help: 'Time that a quota decision took.',
    labels: [SERVICE],
    boundsMs: LIMIT_MS,
  },
  failOpen: {
    otlp: 'tidegate.fail_open',
    prometheus: 'tidegate_fail_open_total',
    kind: 'counter',
    unit: '{request}',
    help: 'Requests let pass uncounted because the store did not decide.',
    labels: [SERVICE, 'reason'],
  },
  shed: {
    otlp: 'tidegate.shed',
    prometheus: 'tidegate_shed_total',
    kind: 'counter',
    unit: '{request}',
    help: 'Requests turned away for want of room, before any quota was taken.',
    labels: [SERVICE, TIER, 'reason'],
  },
  overload: {
    otlp: 'tidegate.overload',
    prometheus: 'tidegate_overload',
    kind: 'gauge',
    unit: '',
    help: 'How much of the traffic is shed because the gateway cannot keep up, from 0 to 1.',
    labels: ['reason'],
    across: 'max',
  },
  circuitState: {
    otlp: 'tidegate.circuit.state',
    prometheus: 'tidegate_circuit_state',
    kind: 'gauge',
    unit: '',
    help: '1 for the state that the circuit breaker of a service is in now: closed, open or half_open.',
    labels: [SERVICE, 'state'],
    across: 'max',
  },
  concurrencyLimit: {
    otlp: 'tidegate.concurrency.limit',
    prometheus: 'tidegate_concurrency_limit',
    kind: 'gauge',
    unit: '{request}',
    help: 'How many requests may wait for the responses of a service at once, as found now.',
    labels: [SERVICE],
  },
  concurrencyInFlight: {
    otlp: 'tidegate.concurrency.in_flight',
    prometheus: 'tidegate_concurrency_in_flight',
    kind: 'gauge',
    unit: '{request}',
    help: 'How many wait now.',
    labels: [SERVICE],
  },
  upstreamRetries: {
    otlp: 'tidegate.upstream.retries',
    prometheus: 'tidegate_upstream_retries_total',
    kind: 'counter',
    unit: '{request}',
    help: 'Requests that were tried again, by what came of it; no_budget: that were not, though they could have been.',
    labels: [SERVICE, 'result'],
  },
  requestsRefused: {
    otlp: 'tidegate.requests.refused',
    prometheus: 'tidegate_requests_refused_total',
    kind: 'counter',
    unit: '{request}',
    help: 'Requests that the gateway answered itself or could not complete, by error code.',
    labels: ['code'],
  },
  mirrored: {
    otlp: 'tidegate.mirrored',
    prometheus: 'tidegate_mirrored_total',
    kind: 'counter',
    unit: '{request}',
    help: 'Requests of which a copy was due for a second service, by what became of the copy.',
    labels: [SERVICE, 'result'],
  },
  storeState: {
    otlp: 'tidegate.store.state',
    prometheus: 'tidegate_store_state',
    kind: 'gauge',
    unit: '',
    help: '1 for the state that the store is in now: up, or degraded while decisions are made without it.',
    across: 'max',
    labels: ['state'],
  },
  upstreamHealthy: {
    otlp: 'tidegate.upstream.healthy',
    prometheus: 'tidegate_upstream_healthy',
    kind: 'gauge',
    unit: '',
    help: 'Whether an upstream is given requests (1) or left out (0).',
    across: 'min',
    labels: [SERVICE, 'upstream'],
  },
  upstreamInFlight: {
    otlp: 'tidegate.upstream.requests_in_flight',
    prometheus: 'tidegate_upstream_requests_in_flight',
    kind: 'gauge',
    unit: '{request}',
    help: 'Requests and tunnels that are with an upstream now.',
    labels: [SERVICE, 'upstream'],
  },
  upstreamWaiting: {
    otlp: 'tidegate.upstream.requests_waiting',
    prometheus: 'tidegate_upstream_requests_waiting',
    kind: 'gauge',
    unit: '{request}',
    help: 'Requests that wait until an upstream of the service has a connection to spare.',
    labels: [SERVICE],
  },
  upstreamEjections: {
    otlp: 'tidegate.upstream.ejections',
    prometheus: 'tidegate_upstream_ejections_total',
    kind: 'counter',
    unit: '{ejection}',
    help: 'How often an upstream was left out for a while because its requests failed.',
    labels: [SERVICE, 'upstream'],
  },
  upstreamChecks: {
    otlp: 'tidegate.upstream.health_checks',
    prometheus: 'tidegate_upstream_health_checks_total',
    kind: 'counter',
    unit: '{check}',
    help: 'Checks of health of an upstream, by result.',
    labels: [SERVICE, 'upstream', 'result'],
  },
  connections: {
    otlp: 'tidegate.connections',
    prometheus: 'tidegate_connections',
    kind: 'gauge',
    unit: '{connection}',
    help: 'Connections of clients that are open now.',
    labels: [],
  },
  connectionsRejected: {
    otlp: 'tidegate.connections.rejected',
    prometheus: 'tidegate_connections_rejected_total',
    kind: 'counter',
    unit: '{connection}',
    help: 'Connections of clients closed before their first request, by reason.',
    labels: ['reason'],
  },
  http2Connections: {
    otlp: 'tidegate.http2.connections',
    prometheus: 'tidegate_http2_connections',
    kind: 'gauge',
    unit: '{connection}',
    help: 'Connections of clients over HTTP/2 that are open now.',
    labels: [],
  },
  http2Aborted: {
    otlp: 'tidegate.http2.aborted',
    prometheus: 'tidegate_http2_aborted_total',
    kind: 'counter',
    unit: '{connection}',
    help: 'Connections over HTTP/2 that the gateway closed for abuse, by reason.',
    labels: ['reason'],
  },
  certificateExpiry: {
    otlp: 'tidegate.tls.certificate_expiry_timestamp',
    prometheus: 'tidegate_tls_certificate_expiry_timestamp_seconds',
    kind: 'gauge',
    unit: 's',
    help: 'Unix time at which a certificate that is served expires.',
    across: 'min',
    labels: ['certificate'],
  },
  tlsReloads: {
    otlp: 'tidegate.tls.reloads',
    prometheus: 'tidegate_tls_reloads_total',
    kind: 'counter',
    unit: '{reload}',
    help: 'Attempts to read the certificates again, by result.',
    labels: ['result'],
  },
  configReloads: {
    otlp: 'tidegate.config.reloads',
    prometheus: 'tidegate_config_reloads_total',
    kind: 'counter',
    unit: '{reload}',
    help: 'Attempts to load the configuration again, by result.',
    across: 'primary',
    labels: ['result'],
  },
  configGood: {
    otlp: 'tidegate.config.last_reload_successful',
    prometheus: 'tidegate_config_last_reload_successful',
    kind: 'gauge',
    unit: '',
    help: '1 while the configuration in force is what the file said when it was read last, 0 while that was rejected.',
    across: 'primary',
    labels: [],
  },
  configInfo: {
    otlp: 'tidegate.config.info',
    prometheus: 'tidegate_config_info',
    kind: 'gauge',
    unit: '',
    help: '1, with the hash of the configuration in force.',
    across: 'primary',
    labels: ['hash'],
  },
  configLoaded: {
    otlp: 'tidegate.config.loaded_timestamp',
    prometheus: 'tidegate_config_loaded_timestamp_seconds',
    kind: 'gauge',
    unit: 's',
    help: 'Unix time at which the configuration in force was loaded.',
    across: 'primary',
    labels: [],
  },
  workers: {
    otlp: 'tidegate.workers',
    prometheus: 'tidegate_workers',
    kind: 'gauge',
    unit: '{process}',
    help: 'Worker processes by state: starting, serving or draining.',
    across: 'primary',
    labels: ['state'],
  },
  workerExits: {
    otlp: 'tidegate.worker.exits',
    prometheus: 'tidegate_worker_exits_total',
    kind: 'counter',
    unit: '{process}',
    help: 'Worker processes that ended: after a drain, or failed, for any other reason.',
    across: 'primary',
    labels: ['result'],
  },
  logLinesDropped: {
    otlp: 'tidegate.log.lines_dropped',
    prometheus: 'tidegate_log_lines_dropped_total',
    kind: 'counter',
    unit: '{line}',
    help: 'Log lines lost because their destination was stuck, full or closed.',
    labels: [],
  },
  spansExported: {
    otlp: 'tidegate.spans.exported',
    prometheus: 'tidegate_spans_exported_total',
    kind: 'counter',
    unit: '{span}',
    help: 'Spans that the collector has taken.',
    labels: [],
  },
  spansDropped: {
    otlp: 'tidegate.spans.dropped',
    prometheus: 'tidegate_spans_dropped_total',
    kind: 'counter',
    unit: '{span}',
    help: 'Spans that were lost, by reason; rate: requests that were not recorded because there were so many.',
    labels: ['reason'],
  },
  logLinesLeftOut: {
    otlp: 'tidegate.log.lines_left_out',
    prometheus: 'tidegate_log_lines_left_out_total',
    kind: 'counter',
    unit: '{line}',
    help: 'Access log lines that were not to be written, by reason.',
    labels: ['reason'],
  },
  otlpFailures: {
    otlp: 'tidegate.otlp.export_failures',
    prometheus: 'tidegate_otlp_export_failures_total',
    kind: 'counter',
    unit: '{export}',
    help: 'Pushes to the OTLP endpoint that failed. Of metrics the next one carries the same totals; spans are lost.',
    labels: ['signal'],
  },
} as const satisfies Record<string, Definition>

export type Families = { readonly [K in keyof typeof DEFINITIONS]: Family }

/** @param exponential whether histograms are recorded as exponential ones, too */
export function createFamilies(exponential = false): Families {
  const entries = Object.entries(DEFINITIONS).map(([key, definition]) => [
    key,
    createFamily(definition, exponential),
  ])
  return Object.fromEntries(entries) as Families
}

/** Which configuration is in force, since when, and whether the file said so when it was read last. */
export function showConfig(families: Families, { hash, loadedAt }: Snapshot, good = true): void {
  families.configGood.set(good ? 1 : 0)
  families.configInfo.clear()
  families.configInfo.set(1, hash)
  families.configLoaded.set(loadedAt / 1000)
}

/** All results of a reload from the start on: a count that begins with its first one hides that one from `increase()`. */
export function reloadCells({ configReloads }: Families): Record<'applied' | 'rejected' | 'unchanged', Cell> {
  return {
    applied: configReloads.cell('applied'),
    rejected: configReloads.cell('rejected'),
    unchanged: configReloads.cell('unchanged'),
  }
}
