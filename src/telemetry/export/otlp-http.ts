import { Agent as HttpAgent } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import { createOtlpHttpExportDelegate } from '@opentelemetry/otlp-exporter-base/node-http'
import type { IExporterMetricsHelper, ISerializer } from '@opentelemetry/otlp-transformer'

/** Destination of a signal: OTLP over HTTP, as protobuf. */
export interface OtlpEndpoint {
  /** The whole URL. */
  readonly url: string
  /** May hold secrets: never logged. */
  readonly headers: Readonly<Record<string, string>>
  /** Timeout of a push including its retries, in ms. */
  readonly timeoutMs: number
  readonly compression: 'gzip' | 'none'
  /** TLS settings, in PEM. */
  readonly tls?: { readonly ca?: Buffer; readonly cert?: Buffer; readonly key?: Buffer } | undefined
}

/** Sends the items of one signal. Does not throw, and calls back once. */
export interface OtlpSender<Items> {
  send(items: Items, done: (error: Error | undefined) => void): void
  /** Ends the push in progress. */
  close(): void
}

const CLOSED = 'the gateway ends'

/**
 * Creates a sender from OpenTelemetry's own exporter, which retries when the collector is too busy. Does not use the
 * classes that read `OTEL_*` themselves: headers meant for another collector would go to this one, too.
 */
export function createOtlpSender<Items, Answer>(
  { url, headers, tls, timeoutMs, compression }: OtlpEndpoint,
  serializer: ISerializer<Items, Answer>,
  signal: 'metric' | 'span',
  helper: IExporterMetricsHelper<Items>,
): OtlpSender<Items> {
  const options = { keepAlive: true, maxSockets: 2 }
  const agent = url.startsWith('https:') ? new HttpsAgent({ ...options, ...tls }) : new HttpAgent(options)
  let closed = false
  let giveUp: ((message: string) => void) | undefined
  const exporter = createOtlpHttpExportDelegate(
    {
      url,
      async headers() {
        // Called before each attempt: the only place where further attempts can be stopped.
        if (closed) throw new Error(CLOSED)
        return { ...headers, 'Content-Type': 'application/x-protobuf' }
      },
      timeoutMillis: timeoutMs,
      compression,
      concurrencyLimit: 1,
      agentFactory: () => agent,
      userAgent: 'tidegate',
    },
    serializer,
    `otlp_http_${signal}_exporter`,
    helper,
    undefined,
  )
  return {
    send(items, done) {
      let over = false
      const finish = (error: Error | undefined) => {
        if (over) return
        over = true
        clearTimeout(timer)
        giveUp = undefined
        done(error)
      }
      giveUp = (message) => {
        finish(new Error(message))
        agent.destroy()
      }
      // The exporter's own timeout counts silence only: a collector that sends a byte now and then would hold it for
      // ever.
      const timer = setTimeout(
        () => giveUp?.(`the collector did not respond within ${timeoutMs} ms`),
        timeoutMs,
      )
      exporter.export(items, ({ code, error }) => {
        finish(code === 0 ? undefined : (error ?? new Error('the collector did not accept the push')))
      })
    },
    close() {
      closed = true
      giveUp?.(CLOSED)
      agent.destroy()
    },
  }
}
