import { ProtobufTraceSerializer, TraceExporterMetricsHelper } from '@opentelemetry/otlp-transformer'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { A_MINUTE, throttledWarning } from '../../log-throttle.js'
import { createOtlpSender, type OtlpEndpoint } from '../export/otlp-http.js'
import type { SpanCounts } from '../metrics/metric-sources.js'
import type { RequestRecord } from '../record/record.js'
import type { Call } from '../record/recording.js'
import type { TraceContext } from '../record/trace-context.js'
import { createSampler, type Sampler, type Sampling } from './sampler.js'
import { createSpanQueue } from './span-queue.js'
import { createSpanMaker } from './spans.js'

export interface TracingOptions {
  readonly sampling: Sampling
  readonly endpoint: OtlpEndpoint
  /** Attributes of the process that all spans come from. */
  readonly resource: Readonly<Record<string, string>>
  /** Longest time that a span waits to be sent, in ms. */
  readonly delayMs?: number
  readonly log: { warn(details: object, message: string): void }
}

export interface Tracing extends Sampler {
  /** Ends a recorded request. */
  end(r: RequestRecord): void
  /** Ends a copy of a recorded request, perhaps long after that request. */
  endCopy(trace: TraceContext, call: Call): void
  counts(): SpanCounts
  /** Sends the remaining spans, for two seconds at most. */
  close(): Promise<void>
}

const LAST_PUSH_MS = 2000

/**
 * Creates tracing: it decides which requests are recorded, makes spans of them and sends those. No request waits for
 * any of it.
 */
export function createTracing({ sampling, endpoint, resource, delayMs, log }: TracingOptions): Tracing {
  let sent = 0
  let failed = 0
  const dropped = { queue: 0, export: 0, rate: 0 }
  const warn = throttledWarning(log, A_MINUTE)

  const sampler = createSampler(sampling, () => {
    dropped.rate++
  })
  const spans = createSpanMaker(resourceFromAttributes({ ...resource }))
  const sender = createOtlpSender(endpoint, ProtobufTraceSerializer, 'span', TraceExporterMetricsHelper)
  const queue = createSpanQueue({
    sender,
    delayMs,
    onSent(count) {
      sent += count
    },
    onDropped(reason, count, error) {
      dropped[reason] += count
      if (reason === 'export') failed++
      const fields = { reason, error: error?.message, dropped: dropped[reason] }
      warn(fields, 'spans could not be sent and are lost; check telemetry.traces and the collector')
    },
  })

  return {
    ...sampler,
    end(r) {
      const recording = r.trace?.recording
      if (recording === undefined) return
      const now = recording.started + r.durationMs
      for (const call of recording.calls) {
        if (call.ended > 0) continue
        call.ended = now
        call.error ??= r.error
      }
      queue.add(spans.ofRequest(r, recording))
    },
    endCopy(trace, call) {
      queue.add([spans.ofCopy(trace, call)])
    },
    counts: () => ({ sent, failed, dropped }),
    async close() {
      await queue.close(LAST_PUSH_MS)
      sender.close()
    },
  }
}
