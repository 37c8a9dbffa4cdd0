import { performance } from 'node:perf_hooks'
import type { RequestRecord } from '../telemetry/record.js'
import type { Exchange } from './exchange.js'

export interface RecordDeps {
  readonly metrics: { record(r: RequestRecord): void }
  readonly accessLog: { write(r: RequestRecord): void }
}

/** After every exchange, whatever its end: a success, a 429, an upstream error, a client that left. Once each. */
export function record({ metrics, accessLog }: RecordDeps) {
  return function record(x: Exchange): void {
    x.durationMs = performance.now() - x.started
    metrics.record(x)
    if (x.route === undefined || x.route.accessLog) accessLog.write(x)
  }
}
