import { parseTraceparent, type TraceContext } from '../telemetry/trace-context.js'

/** The trace that the caller's `traceparent` names, if it is valid. */
export function traceOfCaller(traceparent: string): TraceContext | undefined {
  const parent = parseTraceparent(traceparent)
  return parent === undefined ? undefined : { traceId: parent.traceId, spanId: parent.spanId, sampled: false }
}
