import { performance } from 'node:perf_hooks'
import type { RequestRecord } from '../../telemetry/record/record.js'
import type { Tracing } from '../../telemetry/traces/tracing.js'
import type { Exchange } from '../exchange/exchange.js'
import { endTrace } from '../exchange/trace.js'

export interface RecordDeps {
  readonly metrics: { record(r: RequestRecord): void }
  readonly top: { record(r: RequestRecord, now: number): void }
  /** Keeps decisions that people may ask about. */
  readonly decisions?: { keep(r: RequestRecord): void } | undefined
  /** Counts usage for billing. Left out: nothing is metered. */
  readonly metering?: { record(r: RequestRecord): void } | undefined
  readonly accessLog: { write(r: RequestRecord): void }
  readonly tracing?: Pick<Tracing, 'end'> | undefined
}

/** Records every exchange once, however it ended: a success, a 429, an upstream error, a client that left. */
export function record({ metrics, top, decisions, metering, accessLog, tracing }: RecordDeps) {
  return function record(x: Exchange): void {
    const now = performance.now()
    x.durationMs = now - x.started
    metrics.record(x)
    endTrace(tracing, x)
    top.record(x, now)
    decisions?.keep(x)
    metering?.record(x)
    if (x.route === undefined || x.route.accessLog) accessLog.write(x)
  }
}
