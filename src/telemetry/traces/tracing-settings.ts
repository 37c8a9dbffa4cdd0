import type { Config } from '../../config/schema/schema.js'
import type { OtelEnvironment } from '../export/otel-environment.js'
import type { OtlpEndpoint } from '../export/otlp-http.js'
import { certificatesOf, headersOf, serviceName } from '../export/otlp-settings.js'
import type { Sampling } from './sampler.js'
import type { TracingOptions } from './tracing.js'

/** Default address of a collector, by the OTLP specification. */
const USUAL_ENDPOINT = 'http://127.0.0.1:4318/v1/traces'
const TIMEOUT_MS = 10_000
const DEFAULTS: Sampling = { sample: 0.01, parent: 'trusted', maxPerSecond: 500 }

/**
 * Returns all that recording needs, except the log; undefined: no request is recorded. Throws as `tracesEndpoint` does.
 */
export function tracesOptions(
  telemetry: Config['telemetry'],
  otel: OtelEnvironment,
): Omit<TracingOptions, 'log'> | undefined {
  const endpoint = tracesEndpoint(telemetry, otel)
  if (endpoint === undefined) return undefined
  return {
    sampling: samplingOf(telemetry, otel),
    endpoint,
    resource: {
      ...otel.resource,
      'service.name': serviceName(telemetry, otel),
    },
  }
}

/**
 * Returns the destination of spans, by the configuration, or else by the environment.
 *
 * @returns undefined when no request is to be recorded
 * @throws Error on a certificate file that cannot be read
 */
export function tracesEndpoint(
  { otlp, traces }: Config['telemetry'],
  { disabled, traces: env }: OtelEnvironment,
): OtlpEndpoint | undefined {
  const asked = env.exporter === 'otlp' || (env.exporter === undefined && env.endpoint !== undefined)
  if (disabled || (traces === undefined && !asked)) return undefined
  const common = {
    timeoutMs: env.timeoutMs ?? TIMEOUT_MS,
    compression: env.compression ?? ('none' as const),
    tls: certificatesOf(env),
  }
  const besideMetrics = otlp === undefined ? undefined : tracesUrl(otlp.url)
  const url = traces?.url ?? besideMetrics ?? env.endpoint ?? USUAL_ENDPOINT
  // The headers for the metrics may be a secret of their collector.
  const shared = url === besideMetrics ? otlp?.headers : undefined
  return { ...common, url, headers: headersOf(env.headers, traces?.headers ?? shared) }
}

/**
 * Derives the URL for traces from the one for metrics.
 *
 * @returns undefined when it cannot be derived
 */
export function tracesUrl(metrics: string): string | undefined {
  const url = new URL(metrics)
  if (url.pathname !== '/' && !url.pathname.endsWith('/v1/metrics')) return undefined
  url.pathname = url.pathname.replace(/(?:\/|\/v1\/metrics)$/, '/v1/traces')
  return url.href
}

/** Returns the sampling settings. */
export function samplingOf(
  { traces }: Config['telemetry'],
  { traces: { sampler } }: OtelEnvironment,
): Sampling {
  const parent = sampler === undefined || sampler.parentBased ? DEFAULTS.parent : 'never'
  return {
    sample: traces?.sample ?? sampler?.ratio ?? DEFAULTS.sample,
    parent: traces?.parent ?? parent,
    maxPerSecond: traces?.max_per_second ?? DEFAULTS.maxPerSecond,
  }
}
