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
    help: 'Time from sending a request to an upstream to the end of its response.',
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
    help: 'Time that a request spent in the gateway: its duration without the time at the upstream.',
    labels: [SERVICE],
    boundsMs: OVERHEAD_MS,
  }),
  limitDecisions: counter('tidegate.limit.decisions', 'tidegate_limit_decisions_total', {
    unit: '{decision}',
    help: 'Quota decisions, by binding limit. near: allowed, with 80 % of the limit used or more.',
    labels: [SERVICE, TIER, 'limit', 'decision', 'decided_by'],
  }),
  candidateDecisions: counter('tidegate.candidate.decisions', 'tidegate_candidate_decisions_total', {
    unit: '{decision}',
    help: 'Decisions that candidate limits would have made, by binding limit. Not counted while the store is away.',
    labels: [SERVICE, TIER, 'limit', 'decision'],
  }),
  limitDuration: histogram('tidegate.limit.duration', 'tidegate_limit_duration_seconds', {
    help: 'Time that a quota decision took.',
    labels: [SERVICE],
    boundsMs: LIMIT_MS,
  }),
  failOpen: counter('tidegate.fail_open', 'tidegate_fail_open_total', {
    unit: '{request}',
    help: 'Requests that passed uncounted because the store did not decide.',
    labels: [SERVICE, 'reason'],
  }),
  shed: counter('tidegate.shed', 'tidegate_shed_total', {
    unit: '{request}',
    help: 'Requests shed because there was no room for them, before any quota was taken.',
    labels: [SERVICE, TIER, 'reason'],
  }),
  edgeDenied: counter('tidegate.edge.denied', 'tidegate_edge_denied_total', {
    unit: '{request}',
    help: 'Requests denied at the edge, before any other work, by reason.',
    labels: ['reason'],
  }),
  requestsRefused: counter('tidegate.requests.refused', 'tidegate_requests_refused_total', {
    unit: '{request}',
    help: 'Requests that the gateway answered itself or could not complete, by error code.',
    labels: ['code'],
  }),
  extensionErrors: counter('tidegate.extension.errors', 'tidegate_extension_errors_total', {
    unit: '{error}',
    help: 'Hooks of extensions that threw, took too long or returned a wrong value, by extension and hook.',
    labels: ['extension', 'hook'],
  }),
  internalErrors: counter('tidegate.internal_errors', 'tidegate_internal_errors_total', {
    unit: '{error}',
    help: 'Exceptions in the handling of a request. Each ended that request and nothing else.',
  }),
  mirrored: counter('tidegate.mirrored', 'tidegate_mirrored_total', {
    unit: '{request}',
    help: 'Requests to be mirrored to a second service, by result of the copy.',
    labels: [SERVICE, 'result'],
  }),
}
