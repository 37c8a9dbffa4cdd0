import { counter, histogram, SERVICE, TIER } from './define-metric.js'

/**
 * Bounds in ms: those that OpenTelemetry recommends for HTTP, and more for requests that never left the gateway or wait
 * for a slow backend.
 */
const REQUEST_MS = Float64Array.of(
  0.5,
  1,
  2.5,
  5,
  10,
  25,
  50,
  75,
  100,
  250,
  500,
  750,
  1000,
  2500,
  5000,
  7500,
  10_000,
  30_000,
)
/** Bounds in ms: the gateway's own share is well below 1 ms. */
const OVERHEAD_MS = Float64Array.of(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 1000)
/** Bounds in ms: the store's timeout is 100, and a decision without it comes at most 20 later. */
const LIMIT_MS = Float64Array.of(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 120, 250)

/** Metrics of requests and of the decisions about them. The recorder counts them. */
export const REQUEST_METRICS = {
  serverDuration: histogram('http.server.request.duration', 'http_server_request_duration_seconds', {
    help: 'Time from accepting a request to the end of its response.',
    labels: ['http.route', 'http.request.method', 'http.response.status_code', SERVICE, TIER, 'error.type'],
    boundsMs: REQUEST_MS,
  }),
  clientDuration: histogram('http.client.request.duration', 'http_client_request_duration_seconds', {
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
  }),
  overhead: histogram('tidegate.overhead', 'tidegate_overhead_seconds', {
    help: 'Time a request spent in the gateway: the whole less the upstream.',
    labels: [SERVICE],
    boundsMs: OVERHEAD_MS,
  }),
  limitDecisions: counter('tidegate.limit.decisions', 'tidegate_limit_decisions_total', {
    unit: '{decision}',
    help: 'Quota decisions by the limit that was binding; near is allowed with 80 % of it used, or more.',
    labels: [SERVICE, TIER, 'limit', 'decision', 'decided_by'],
  }),
  candidateDecisions: counter('tidegate.candidate.decisions', 'tidegate_candidate_decisions_total', {
    unit: '{decision}',
    help: 'What candidate limits would have decided, by the one that was binding. Not counted while the store is away.',
    labels: [SERVICE, TIER, 'limit', 'decision'],
  }),
  limitDuration: histogram('tidegate.limit.duration', 'tidegate_limit_duration_seconds', {
    help: 'Time that a quota decision took.',
    labels: [SERVICE],
    boundsMs: LIMIT_MS,
  }),
  failOpen: counter('tidegate.fail_open', 'tidegate_fail_open_total', {
    unit: '{request}',
    help: 'Requests let pass uncounted because the store did not decide.',
    labels: [SERVICE, 'reason'],
  }),
  shed: counter('tidegate.shed', 'tidegate_shed_total', {
    unit: '{request}',
    help: 'Requests turned away for want of room, before any quota was taken.',
    labels: [SERVICE, TIER, 'reason'],
  }),
  edgeDenied: counter('tidegate.edge.denied', 'tidegate_edge_denied_total', {
    unit: '{request}',
    help: 'Requests turned away at the edge, before anything else was done, by reason.',
    labels: ['reason'],
  }),
  requestsRefused: counter('tidegate.requests.refused', 'tidegate_requests_refused_total', {
    unit: '{request}',
    help: 'Requests that the gateway answered itself or could not complete, by error code.',
    labels: ['code'],
  }),
  internalErrors: counter('tidegate.internal_errors', 'tidegate_internal_errors_total', {
    unit: '{error}',
    help: 'Exceptions in the handling of one request, which ended that request and nothing else.',
  }),
  mirrored: counter('tidegate.mirrored', 'tidegate_mirrored_total', {
    unit: '{request}',
    help: 'Requests of which a copy was due for a second service, by what became of the copy.',
    labels: [SERVICE, 'result'],
  }),
}
