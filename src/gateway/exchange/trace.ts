import type { IncomingMessage } from 'node:http'
import { performance } from 'node:perf_hooks'
import type { Service } from '../../config/snapshot/snapshot.js'
import type { Upstream } from '../../config/snapshot/upstream-settings.js'
import type { ErrorCode } from '../../errors.js'
import { type Call, newSpanId } from '../../telemetry/record/recording.js'
import {
  formatTraceparent,
  parseTraceparent,
  type TraceContext,
} from '../../telemetry/record/trace-context.js'
import type { Details } from '../../telemetry/traces/sampler.js'
import type { Tracing } from '../../telemetry/traces/tracing.js'
import type { Exchange } from './exchange.js'
import { grpcStatus, isGrpc } from './grpc.js'

/** Returns the trace in the client's `traceparent`, if it is valid. */
export function traceOfCaller(traceparent: string): TraceContext | undefined {
  const parent = parseTraceparent(traceparent)
  if (parent === undefined) return undefined
  return { traceId: parent.traceId, spanId: parent.spanId, sampled: false, recording: undefined }
}

/** Returns the attributes of the server span that describe how the request came. */
export function detailsOf(x: Exchange, req: IncomingMessage): Details {
  const { httpVersionMajor, httpVersionMinor } = req
  const { forwardedProto, forwardedHost, host } = x.headers
  const proto = forwardedProto?.toLowerCase()
  return {
    scheme: proto === 'http' || proto === 'https' ? proto : x.secured === undefined ? 'http' : 'https',
    authority: forwardedHost === undefined ? host : forwardedHost.split(',', 1)[0]!.trim(),
    version: httpVersionMajor === 2 ? '2' : `${httpVersionMajor}.${httpVersionMinor}`,
    userAgent: x.headers.userAgent,
  }
}

/** Ends the trace of a request. */
export function endTrace(tracing: Pick<Tracing, 'end'> | undefined, x: Exchange): void {
  const recording = x.trace?.recording
  if (recording === undefined) return
  if (x.error !== undefined && isGrpc(x)) recording.grpcStatus = grpcStatus(x.error)
  tracing?.end(x)
}

/** Records that the limiter is asked now. */
export function beginLimit({ trace }: Exchange, now: number): void {
  if (trace?.recording !== undefined) trace.recording.limitAt = now
}

/**
 * Records an attempt at an upstream, which gets the id of its new span.
 *
 * @param path for the upstream, with its query
 * @param fields headers of the attempt. A `traceparent` in them is replaced.
 * @param copyFor set for a copy of the request, which ends separately
 * @returns undefined if the request is not recorded
 */
export function beginCall(
  x: Exchange,
  upstream: Upstream,
  path: string,
  fields: string[],
  copyFor?: Service,
): Call | undefined {
  const { trace } = x
  if (trace?.recording === undefined) return undefined
  const { flags, state, calls, parentSpanId } = trace.recording
  const spanId = newSpanId()
  // A route may hide the client's trace from its upstreams, or set its own.
  const drop = x.route!.shape?.request?.drop
  if (drop?.has('traceparent') !== true) {
    // In a trace that begins here, or has no valid state, the received state means nothing.
    const keepsState = parentSpanId !== undefined && state !== undefined
    replaceField(fields, 'traceparent', formatTraceparent(trace.traceId, spanId, flags), keepsState)
  }
  const call: Call = {
    spanId,
    service: (copyFor ?? x.route!.service).name,
    upstream,
    method: x.method,
    path: withoutQuery(path),
    resends: copyFor === undefined ? calls.length : 0,
    copy: copyFor !== undefined,
    began: performance.now(),
    ended: 0,
    status: 0,
    grpcStatus: undefined,
    error: undefined,
    cause: undefined,
  }
  if (copyFor === undefined) calls.push(call)
  return call
}

function replaceField(fields: string[], name: string, value: string, keepsState: boolean): void {
  for (let i = fields.length - 2; i >= 0; i -= 2) {
    const found = fields[i]!.toLowerCase()
    if (found === name || (found === 'tracestate' && !keepsState)) fields.splice(i, 2)
  }
  fields.push(name, value)
}

function withoutQuery(path: string): string {
  const mark = path.indexOf('?')
  return mark < 0 ? path : path.slice(0, mark)
}

/** Returns the attempt in progress, if the request is recorded. */
function current({ trace }: Exchange): Call | undefined {
  const call = trace?.recording?.calls.at(-1)
  return call === undefined || call.ended > 0 ? undefined : call
}

/** Records the header of the upstream's response. */
export function answerCall(x: Exchange, status: number, fields: readonly string[] | null): void {
  const call = current(x)
  if (call !== undefined) call.status = status
  readGrpcStatus(x, fields)
}

/** Records that the attempt failed. The first reported reason is kept. */
export function failCall(x: Exchange, error: ErrorCode, cause?: string): void {
  const call = current(x)
  if (call === undefined || call.error !== undefined) return
  call.error = error
  call.cause = cause
}

/** Ends the attempt. */
export function endCall(x: Exchange): void {
  const call = current(x)
  if (call !== undefined) call.ended = performance.now()
}

/** Reads the status of a gRPC call from a header without body, or from trailers: name, value, … */
export function readGrpcStatus(x: Exchange, fields: readonly string[] | null): void {
  const call = x.trace?.recording?.calls.at(-1)
  if (call === undefined || fields === null) return
  for (let i = 0; i < fields.length; i += 2) {
    if (fields[i]!.toLowerCase() !== 'grpc-status') continue
    const value = fields[i + 1]!
    if (/^\d{1,3}$/.test(value)) call.grpcStatus = Number(value)
  }
}
