import { readFileSync } from 'node:fs'
import { omitUndefined } from '../../common/maps.js'
import type { Config } from '../../config/schema/schema.js'
import type { OtelEnvironment, SignalEnvironment } from './otel-environment.js'
import type { OtlpOptions } from './push.js'

const DEFAULT_INTERVAL_MS = 10_000
const DEFAULT_TIMEOUT_MS = 10_000
/** Default address of a collector on the same machine, by the OTLP specification. */
const LOCAL_COLLECTOR = 'http://localhost:4318/v1/metrics'

/**
 * Returns whether and how metrics are pushed: by the configuration, or else by the environment.
 *
 * @throws Error for the operator when a file that the environment names cannot be read
 */
export function metricsPush(
  { otlp, histograms }: Config['telemetry'],
  { disabled, metrics, resource }: OtelEnvironment,
): OtlpOptions | undefined {
  const wanted = otlp !== undefined || metrics.endpoint !== undefined || metrics.exporter === 'otlp'
  if (disabled || metrics.exporter === 'none' || !wanted) return undefined
  return {
    url: otlp === undefined ? (metrics.endpoint ?? LOCAL_COLLECTOR) : withPath(otlp.url, '/v1/metrics'),
    intervalMs: otlp?.interval ?? metrics.intervalMs ?? DEFAULT_INTERVAL_MS,
    timeoutMs: Math.min(
      metrics.timeoutMs ?? DEFAULT_TIMEOUT_MS,
      metrics.exportTimeoutMs ?? Number.POSITIVE_INFINITY,
    ),
    headers: headersOf(metrics.headers, otlp?.headers),
    compression: metrics.compression ?? 'none',
    histograms: histograms ?? metrics.histograms ?? 'classic',
    resource,
    tls: certificatesOf(metrics),
  }
}

/** Returns true if histograms are recorded as exponential ones beside the classic ones. */
export function recordsExponential({ histograms }: Config['telemetry'], env: OtelEnvironment): boolean {
  return (histograms ?? env.metrics.histograms) === 'exponential'
}

export function serviceName({ service_name }: Config['telemetry'], env: OtelEnvironment): string {
  return service_name ?? env.serviceName ?? 'tidegate'
}

/** Adds the default path of a signal in the OTLP specification to a bare collector address. */
function withPath(url: string, path: string): string {
  const parsed = new URL(url)
  if (parsed.pathname === '/') parsed.pathname = path
  return parsed.href
}

/**
 * Merges headers. Names are in lower case, so that a header of the configuration replaces the same one of the
 * environment.
 */
export function headersOf(
  ...all: readonly (Readonly<Record<string, string>> | undefined)[]
): Record<string, string> {
  const pairs = all.flatMap((headers) => Object.entries(headers ?? {}))
  return Object.fromEntries(pairs.map(([name, value]) => [name.toLowerCase(), value]))
}

export function certificatesOf({
  certificate,
  clientCertificate,
  clientKey,
}: SignalEnvironment): OtlpOptions['tls'] {
  const tls = omitUndefined({
    ca: pem('CERTIFICATE', certificate),
    cert: pem('CLIENT_CERTIFICATE', clientCertificate),
    key: pem('CLIENT_KEY', clientKey),
  })
  return Object.keys(tls).length === 0 ? undefined : tls
}

function pem(variable: string, path: string | undefined): Buffer | undefined {
  if (path === undefined) return undefined
  try {
    return readFileSync(path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new Error(`OTEL_EXPORTER_OTLP_${variable} names a file that cannot be read: ${path}: ${code}`)
  }
}
