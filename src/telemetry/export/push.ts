import {
  type IExportMetricsServiceResponse,
  type ISerializer,
  MetricsExporterMetricsHelper,
  ProtobufMetricsSerializer,
} from '@opentelemetry/otlp-transformer'
import { resourceFromAttributes } from '@opentelemetry/resources'
import {
  MeterProvider,
  PeriodicExportingMetricReader,
  type ResourceMetrics,
} from '@opentelemetry/sdk-metrics'
import type { View } from '../metrics/metric-family.js'
import { createMetricProducer } from './metric-producer.js'
import { createOtlpSender, type OtlpEndpoint } from './otlp-http.js'

/** Where and how metrics are pushed. */
export interface OtlpOptions extends OtlpEndpoint {
  /** Between pushes, ms. */
  readonly intervalMs: number
  readonly histograms: 'classic' | 'exponential'
  /** Attributes of the resource beside `service.name`. */
  readonly resource: Readonly<Record<string, string>>
}

export interface Push {
  /** Pushes what is left and stops; waits two seconds for a slow collector at most. */
  close(): Promise<void>
}

const LAST_PUSH_MS = 2000
/** Points of one request: they are made into bytes in one go, which holds up the event loop for so long, some 5 ms. */
const BATCH = 500

/**
 * Pushes at intervals, by OpenTelemetry's reader. One push is under way at most and what was counted is kept nowhere but in the
 * cells, so a collector that is slow or away costs no memory; one that is not pushed is in the totals of the next.
 *
 * @param read the figures, brought up to date
 */
export function startPush(options: {
  readonly otlp: OtlpOptions
  readonly resource: Readonly<Record<string, string>>
  readonly read: () => Promise<View[]>
  readonly onFailed: (error: Error) => void
}): Push {
  const { otlp, read, onFailed } = options
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
    metricProducers: [createMetricProducer(read, otlp.histograms === 'exponential', Date.now())],
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
    async close() {
      // Rejects when the collector is too slow, which is what the limit is for.
      await provider.shutdown({ timeoutMillis: LAST_PUSH_MS }).catch(() => {})
      sender.close()
    },
  }
}

/** Tells of points that a collector has rejected though it answers 200, which the SDK only logs. */
function watched(
  onFailed: (error: Error) => void,
): ISerializer<ResourceMetrics, IExportMetricsServiceResponse> {
  return {
    serializeRequest: (request) => ProtobufMetricsSerializer.serializeRequest(request),
    deserializeResponse(bytes) {
      const answer = ProtobufMetricsSerializer.deserializeResponse(bytes)
      const rejected = Number(answer.partialSuccess?.rejectedDataPoints ?? 0)
      if (rejected > 0) onFailed(new Error(`the collector has rejected ${rejected} of the points`))
      return answer
    },
  }
}
