import {
  type Attributes,
  type HrTime,
  type SpanContext,
  SpanKind,
  type SpanStatus,
  SpanStatusCode,
} from '@opentelemetry/api'
import type { Resource } from '@opentelemetry/resources'
import type { ReadableSpan } from '@opentelemetry/sdk-trace'
import { getOrAdd } from '../../common/maps.js'
import type { Snapshot } from '../../config/snapshot/snapshot.js'
import type { Upstream } from '../../config/snapshot/upstream-settings.js'
import { readRedisAddress } from '../../config/values/redis-address.js'
import { ERRORS } from '../../errors.js'
import type { Decision } from '../../limiter/limiter.js'
import { isNear, METHODS } from '../metrics/recorder.js'
import { perSnapshot } from '../record/per-snapshot.js'
import type { RequestRecord } from '../record/record.js'
import { type Call, newSpanId, type RecordedHook, type Recording } from '../record/recording.js'
import { pathOf } from '../record/target.js'
import type { TraceContext } from '../record/trace-context.js'

/**
 * Makes spans from the recorded data of a request, by OTel's semantic conventions for HTTP, gRPC and databases. They
 * contain no query, no credential and no header except `User-Agent`.
 */
export type SpanMaker = ReturnType<typeof createSpanMaker>

/** Longest text of a client in a span, in UTF-16 units. */
const MAX_TEXT = 1024

export function createSpanMaker(resource: Resource) {
  const scope = { name: 'tidegate' }
  const storeOf = perSnapshot(storeAttributes)

  /**
   * Makes a span of the trace. The server span has the client's span as its parent, the others have the server span.
   *
   * @param began ms of `performance.now()`, like `ended`
   */
  function make(
    trace: TraceContext,
    spanId: string,
    began: number,
    ended: number,
    rest: Pick<ReadableSpan, 'name' | 'kind' | 'attributes' | 'status'>,
  ): ReadableSpan {
    const { flags: traceFlags, state, epoch, parentSpanId } = trace.recording!
    const { traceId } = trace
    const context: SpanContext = { traceId, spanId, traceFlags }
    if (state !== undefined) context.traceState = serialized(state)
    const isRemote = spanId === trace.spanId
    const parent = isRemote ? parentSpanId : trace.spanId
    return {
      ...rest,
      spanContext: () => context,
      ...(parent !== undefined && { parentSpanContext: { traceId, spanId: parent, traceFlags, isRemote } }),
      startTime: hrTime(epoch + began),
      endTime: hrTime(epoch + Math.max(began, ended)),
      duration: hrTime(Math.max(0, ended - began)),
      links: NONE,
      events: NONE,
      ended: true,
      resource,
      instrumentationScope: scope,
      droppedAttributesCount: 0,
      droppedEventsCount: 0,
      droppedLinksCount: 0,
    }
  }

  function ofServer(trace: TraceContext, r: RequestRecord, recording: Recording): ReadableSpan {
    const { route, snapshot, decision } = r
    const known = METHODS.includes(r.method)
    const attributes: Attributes = {
      'http.request.method': known ? r.method : '_OTHER',
      'url.path': short(pathOf(r.target)),
      'url.scheme': recording.scheme,
      'network.protocol.version': recording.version,
      'client.address': r.clientIp,
      'tidegate.request_id': r.requestId,
      'tidegate.config': snapshot.hash,
    }
    if (!known) attributes['http.request.method_original'] = r.method.slice(0, 32)
    if (r.status > 0) attributes['http.response.status_code'] = r.status
    if (recording.authority !== undefined) describeServer(attributes, recording.authority, recording.scheme)
    if (recording.userAgent !== undefined) attributes['user_agent.original'] = short(recording.userAgent)
    if (route !== undefined) {
      attributes['http.route'] = route.label
      attributes['tidegate.service'] = route.service.name
    }
    const tier = snapshot.tiers[r.tier]
    if (tier !== undefined) attributes['tidegate.tier'] = tier
    if (r.consumer !== undefined) attributes['tidegate.consumer'] = short(r.consumer)
    if (r.tenant !== undefined) attributes['tidegate.tenant'] = short(r.tenant)
    if (decision !== undefined) describeDecision(attributes, r, decision)
    const rpc = recording.grpcStatus ?? recording.calls.at(-1)?.grpcStatus
    if (rpc !== undefined) describeRpc(attributes, rpc)
    const type = r.error ?? (r.status >= 500 ? String(r.status) : undefined)
    if (type !== undefined) attributes['error.type'] = type
    const name = known ? r.method : 'HTTP'
    return make(trace, trace.spanId, recording.started, recording.started + r.durationMs, {
      name: route === undefined ? name : `${name} ${route.label}`,
      kind: SpanKind.SERVER,
      attributes,
      status: serverFailed(r, rpc) ? failed(r.cause) : UNSET,
    })
  }

  function ofLimiter(trace: TraceContext, r: RequestRecord, recording: Recording): ReadableSpan {
    const { decision, route, snapshot } = r
    const attributes: Attributes = {}
    const tier = snapshot.tiers[r.tier]
    if (route !== undefined) attributes['tidegate.service'] = route.quotaOf.name
    if (tier !== undefined) attributes['tidegate.tier'] = tier
    let kind = SpanKind.INTERNAL
    let status: SpanStatus = UNSET
    // A client that left before the decision leaves it unfinished.
    const took = decision === undefined ? recording.started + r.durationMs - recording.limitAt : r.limitMs
    if (decision !== undefined) {
      describeDecision(attributes, r, decision)
      const { decidedBy, reason, remaining } = decision
      if (decidedBy !== 'open' && decidedBy !== 'closed') attributes['tidegate.remaining'] = remaining
      const cost = r.cost ?? route?.cost
      if (cost !== undefined) attributes['tidegate.cost'] = cost
      if (reason !== undefined) {
        attributes['error.type'] = reason
        status = FAILED
      }
    }
    const store = storeOf(snapshot)
    if (store !== undefined && wasAsked(decision)) {
      kind = SpanKind.CLIENT
      Object.assign(attributes, store)
    }
    const { limitAt } = recording
    return make(trace, newSpanId(), limitAt, limitAt + took, { name: 'take quota', kind, attributes, status })
  }

  function ofHook(
    trace: TraceContext,
    { extension, hook, began, ended, failed }: RecordedHook,
  ): ReadableSpan {
    return make(trace, newSpanId(), began, ended, {
      name: `${extension} ${hook}`,
      kind: SpanKind.INTERNAL,
      attributes: { 'tidegate.extension': extension, 'tidegate.hook': hook },
      status: failed ? FAILED : UNSET,
    })
  }

  function ofCall(trace: TraceContext, call: Call): ReadableSpan {
    const { upstream, status, error, grpcStatus } = call
    const known = METHODS.includes(call.method)
    const method = known ? call.method : '_OTHER'
    const attributes: Attributes = {
      'http.request.method': method,
      'url.full': upstream.origin + short(call.path),
      ...addressOfUpstream(upstream),
      'network.protocol.version': upstream.protocol === 'http2' ? '2' : '1.1',
      'tidegate.service': call.service,
    }
    if (!known) attributes['http.request.method_original'] = call.method.slice(0, 32)
    if (call.resends > 0) attributes['http.request.resend_count'] = call.resends
    if (call.copy) attributes['tidegate.mirror'] = true
    if (status > 0) attributes['http.response.status_code'] = status
    if (grpcStatus !== undefined) describeRpc(attributes, grpcStatus)
    const type = error ?? (status >= 400 ? String(status) : undefined)
    if (type !== undefined) attributes['error.type'] = type
    // An upstream has not failed when the client has left.
    const bad = type !== undefined && error !== 'client_closed'
    return make(trace, call.spanId, call.began, call.ended, {
      name: known ? method : 'HTTP',
      kind: SpanKind.CLIENT,
      attributes,
      status: bad || (grpcStatus ?? 0) > 0 ? failed(call.cause) : UNSET,
    })
  }

  return {
    /** Makes the server span, then one for each hook of an extension, the limiter's and one for each attempt. */
    ofRequest(r: RequestRecord, recording: Recording): ReadableSpan[] {
      const trace = r.trace!
      const spans = [ofServer(trace, r, recording)]
      for (const hook of recording.hooks) spans.push(ofHook(trace, hook))
      if (recording.limitAt > 0) spans.push(ofLimiter(trace, r, recording))
      for (const call of recording.calls) spans.push(ofCall(trace, call))
      return spans
    },
    /** Makes the span of a mirrored copy, when the copy ends. */
    ofCopy: ofCall,
  }
}

const NONE: never[] = []
const UNSET: SpanStatus = { code: SpanStatusCode.UNSET }
const FAILED: SpanStatus = { code: SpanStatusCode.ERROR }

function failed(message: string | undefined): SpanStatus {
  return message === undefined ? FAILED : { code: SpanStatusCode.ERROR, message: short(message) }
}

/** gRPC codes that are the server's fault, by its semantic conventions. */
const SERVER_ERRORS: ReadonlySet<number> = new Set([2, 4, 12, 13, 14, 15])

/**
 * Returns true for a failure of the server. A client's mistake is not one, nor is a refusal for lack of quota (HTTP
 * conventions, "Status").
 */
function serverFailed({ status, error }: RequestRecord, rpc: number | undefined): boolean {
  if (status >= 500 || (rpc !== undefined && SERVER_ERRORS.has(rpc))) return true
  // The exchange broke after the headers were sent.
  return error !== undefined && status < 400 && ERRORS[error].source !== 'client'
}

function describeDecision(attributes: Attributes, r: RequestRecord, decision: Decision): void {
  const { allowed, decidedBy, reason, binding } = decision
  const counts = decidedBy !== 'open' && decidedBy !== 'closed'
  const limit = counts ? r.policy?.limits[binding] : undefined
  if (limit !== undefined) attributes['tidegate.limit'] = limit.name
  attributes['tidegate.decision'] = !allowed ? 'denied' : isNear(decision, limit) ? 'near' : 'allowed'
  attributes['tidegate.decided_by'] = decidedBy
  if (reason !== undefined) attributes['tidegate.degraded'] = reason
}

/** Returns true if the store was asked. An open breaker prevents that. */
function wasAsked(decision: Decision | undefined): boolean {
  if (decision === undefined) return true
  return decision.decidedBy === 'store' || decision.reason === 'timeout' || decision.reason === 'error'
}

const GRPC_STATUSES = [
  ...['OK', 'CANCELLED', 'UNKNOWN', 'INVALID_ARGUMENT', 'DEADLINE_EXCEEDED', 'NOT_FOUND', 'ALREADY_EXISTS'],
  ...['PERMISSION_DENIED', 'RESOURCE_EXHAUSTED', 'FAILED_PRECONDITION', 'ABORTED', 'OUT_OF_RANGE'],
  ...['UNIMPLEMENTED', 'INTERNAL', 'UNAVAILABLE', 'DATA_LOSS', 'UNAUTHENTICATED'],
]

function describeRpc(attributes: Attributes, status: number): void {
  const name = GRPC_STATUSES[status] ?? String(status)
  attributes['rpc.system.name'] = 'grpc'
  attributes['rpc.response.status_code'] = name
  if (status > 0) attributes['error.type'] ??= name
}

/** The host and port that the caller asked for, where they are such. */
function describeServer(attributes: Attributes, authority: string, scheme: 'http' | 'https'): void {
  const url = URL.canParse(`${scheme}://${authority}`) ? new URL(`${scheme}://${authority}`) : undefined
  if (url === undefined || url.host === '' || url.username !== '' || url.pathname !== '/') return
  Object.assign(attributes, addressOf(url))
}

/** The host without the brackets of IPv6, and the port. */
const addressOf = ({ hostname, port, protocol }: URL): Attributes => ({
  'server.address': hostname.replace(/^\[|\]$/g, ''),
  'server.port': port === '' ? (protocol === 'https:' ? 443 : 80) : Number(port),
})

const addresses = new WeakMap<Upstream, Attributes>()

function addressOfUpstream(upstream: Upstream): Attributes {
  return getOrAdd(addresses, upstream, ({ origin }) => addressOf(new URL(origin)))
}

/**
 * Returns the attributes of the store for its spans; undefined for counts in memory. Which node of several it was is
 * unknown here.
 */
function storeAttributes(snapshot: Snapshot): Attributes | undefined {
  const { redis } = snapshot.config.store
  if (redis === undefined) return undefined
  const attributes: Attributes = { 'db.system.name': 'redis', 'db.operation.name': 'EVALSHA' }
  const address = typeof redis === 'string' ? readRedisAddress(redis, () => undefined) : undefined
  if (address !== undefined && address.sentinelPrimary === undefined) {
    const { host, port } = address.hosts[0]!
    attributes['server.address'] = host
    attributes['server.port'] = port
    attributes['db.namespace'] = String(address.db)
  }
  return attributes
}

function short(text: string): string {
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}...` : text
}

function serialized(state: string) {
  const never = () => {
    throw new Error('a trace state is only sent')
  }
  return { serialize: () => state, get: never, set: never, unset: never }
}

function hrTime(ms: number): HrTime {
  const seconds = Math.floor(ms / 1000)
  return [seconds, Math.round((ms - seconds * 1000) * 1e6)]
}
