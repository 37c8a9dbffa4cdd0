import {
  type IExportMetricsServiceResponse,
  type ISerializer,
  MetricsExporterMetricsHelper,
  ProtobufMetricsSerializer,
} from '@opentelemetry/otlp-transformer'
import { resourceFromAttributes } from '@opentelemetry/resources'
import {
  MeterProvider,
  type MetricProducer,
  PeriodicExportingMetricReader,
  type ResourceMetrics,
} from '@opentelemetry/sdk-metrics'
import type { View } from '../metrics/metric-family.js'
import { createMetricProducer } from './metric-producer.js'
import { createOtlpSender, type OtlpEndpoint } from './otlp-http.js'

/** Destination and interval of pushed metrics. */
export interface OtlpOptions extends OtlpEndpoint {
  /** Ms between pushes. */
  readonly intervalMs: number
  readonly histograms: 'classic' | 'exponential'
  /** Attributes of the resource beside `service.name`. */
  readonly resource: Readonly<Record<string, string>>
}

export type Push = ReturnType<typeof startPush>

const LAST_PUSH_MS = 2000
/** Points in one request. They are serialized at once, which blocks the event loop for about 5 ms. */
const BATCH = 500

/**
 * Pushes at intervals, with OpenTelemetry's reader. At most one push is in progress, and counts are stored only in the
 * cells: a slow or missing collector costs no memory, and the next push includes the totals of a failed one.
 *
 * @param read returns the current metrics
 */
export function startPush(options: {
  readonly otlp: OtlpOptions
  readonly resource: Readonly<Record<string, string>>
  readonly read: () => Promise<View[]>
  /** Metrics that the SDK itself has recorded. */
  readonly more?: readonly MetricProducer[]
  readonly onFailed: (error: Error) => void
}) {
  const { otlp, read, more = [], onFailed } = options
  const timeoutMs = Math.min(otlp.timeoutMs, otlp.intervalMs)
  const sender = createOtlpSender(
    { ...otlp, timeoutMs },
    watched(onFailed),
    'metric',
    MetricsExporterMetricsHelper,
  )
  const reader = new PeriodicExportingMetricReader({
    exportIntervalMillis: otlp.intervalMs,
    exportTimeoutMillis: timeoutMs,
    maxExportBatchSize: BATCH,
    metricProducers: [createMetricProducer(read, otlp.histograms === 'exponential', Date.now()), ...more],
    exporter: {
      export: (metrics, done) =>
        sender.send(metrics, (error) => {
          if (error === undefined) return done({ code: 0 })
          onFailed(error)
          done({ code: 1, error })
        }),
      forceFlush: async () => {},
      shutdown: async () => sender.close(),
    },
  })
  const resource = resourceFromAttributes({ ...otlp.resource, ...options.resource })
  const provider = new MeterProvider({ resource, readers: [reader] })
  return {
    /** Pushes the remaining metrics and stops; waits at most two seconds for a slow collector. */
    async close(): Promise<void> {
      // Rejects when the collector is too slow, which the timeout is for.
      await provider.shutdown({ timeoutMillis: LAST_PUSH_MS }).catch(() => {})
      sender.close()
    },
  }
}

/** Reports points that a collector rejects in a 200 response, which the SDK only logs. */
function watched(
  onFailed: (error: Error) => void,
): ISerializer<ResourceMetrics, IExportMetricsServiceResponse> {
  return {
    serializeRequest: (request) => ProtobufMetricsSerializer.serializeRequest(request),
    deserializeResponse(bytes) {
      const answer = ProtobufMetricsSerializer.deserializeResponse(bytes)
      const rejected = Number(answer.partialSuccess?.rejectedDataPoints ?? 0)
      if (rejected > 0) onFailed(new Error(`the collector rejected ${rejected} points`))
      return answer
    },
  }
}
