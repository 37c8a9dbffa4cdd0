import { Agent as HttpAgent } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import { createOtlpHttpExportDelegate } from '@opentelemetry/otlp-exporter-base/node-http'
import { ProtobufTraceSerializer, TraceExporterMetricsHelper } from '@opentelemetry/otlp-transformer'
import type { SpanSender } from './span-queue.js'

/** Where spans go: OTLP over HTTP, as protobuf. */
export interface TracesEndpoint {
  /** The whole URL. */
  readonly url: string
  /** May hold secrets: never logged. */
  readonly headers: Readonly<Record<string, string>>
  /** No push takes longer, its retries included, ms. */
  readonly timeoutMs: number
  readonly compression: 'gzip' | 'none'
  /** In PEM. */
  readonly tls?: { readonly ca?: Buffer; readonly cert?: Buffer; readonly key?: Buffer } | undefined
}

/**
 * OpenTelemetry's own exporter, which tries again what the collector was too busy for. It is not made of the class that
 * reads `OTEL_*` by itself: headers meant for another collector would go to this one, too.
 */
export function createSpanSender(endpoint: TracesEndpoint): SpanSender & { close(): void } {
  const { url, headers, tls } = endpoint
  const options = { keepAlive: true, maxSockets: 2 }
  const agent = url.startsWith('https:') ? new HttpsAgent({ ...options, ...tls }) : new HttpAgent(options)
  const exporter = createOtlpHttpExportDelegate(
    {
      url,
      headers: async () => ({ ...headers, 'Content-Type': 'application/x-protobuf' }),
      timeoutMillis: endpoint.timeoutMs,
      compression: endpoint.compression,
      concurrencyLimit: 1,
      agentFactory: () => agent,
      userAgent: 'tidegate',
    },
    ProtobufTraceSerializer,
    'otlp_http_span_exporter',
    TraceExporterMetricsHelper,
    undefined,
  )
  return {
    send(spans, done) {
      exporter.export(spans, ({ code, error }) => {
        done(code === 0 ? undefined : (error ?? new Error('the collector did not take them')))
      })
    },
    close: () => agent.destroy(),
  }
}
