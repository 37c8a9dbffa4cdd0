import cluster from 'node:cluster'
import { createHash } from 'node:crypto'
import { hostname } from 'node:os'
/**
 * The standard environment variables of OpenTelemetry (specification: "Environment Variable Specification" and
 * "OpenTelemetry Protocol Exporter"). The configuration file takes precedence; the caller applies these where the file
 * is silent.
 */
export interface OtelEnvironment {
  /** `OTEL_SDK_DISABLED=true`: nothing is pushed, whatever the other variables say. */
  readonly disabled: boolean
  /** `OTEL_SERVICE_NAME`, or the `service.name` of `OTEL_RESOURCE_ATTRIBUTES`. */
  readonly serviceName: string | undefined
  /** `OTEL_RESOURCE_ATTRIBUTES`, without `service.name`. */
  readonly resource: Readonly<Record<string, string>>
  readonly metrics: MetricsEnvironment
  readonly traces: TracesEnvironment
  /** Variables that are set but invalid, one sentence each and without the value, which may be secret. */
  readonly problems: readonly string[]
}

/** Settings of one signal; where the signal has none, those of all signals. */
export interface SignalEnvironment {
  /** `OTEL_METRICS_EXPORTER`, `OTEL_TRACES_EXPORTER`. Undefined: not set. */
  readonly exporter: 'otlp' | 'none' | undefined
  /** The whole URL, with `/v1/metrics` or `/v1/traces` when it comes from `OTEL_EXPORTER_OTLP_ENDPOINT`. */
  readonly endpoint: string | undefined
  /** Headers of the signal, merged over those of all signals. May hold secrets: never logged. */
  readonly headers: Readonly<Record<string, string>>
  /** Timeout of a push, in ms. */
  readonly timeoutMs: number | undefined
  readonly compression: 'gzip' | 'none' | undefined
  /** Paths of PEM files: trusted CAs, and the client certificate with its key. */
  readonly certificate: string | undefined
  readonly clientCertificate: string | undefined
  readonly clientKey: string | undefined
}

export interface MetricsEnvironment extends SignalEnvironment {
  /** `OTEL_METRIC_EXPORT_INTERVAL`, ms between two pushes. */
  readonly intervalMs: number | undefined
  /** `OTEL_METRIC_EXPORT_TIMEOUT`, ms: from the reading to the end of the push. */
  readonly exportTimeoutMs: number | undefined
  readonly histograms: 'classic' | 'exponential' | undefined
}

export interface TracesEnvironment extends SignalEnvironment {
  readonly sampler: Sampler | undefined
}

/** `OTEL_TRACES_SAMPLER` with its `OTEL_TRACES_SAMPLER_ARG`. */
export interface Sampler {
  /** True if the sampling decision of the caller is followed. */
  readonly parentBased: boolean
  /** Share of the traces that begin here which are recorded, 0 to 1. */
  readonly ratio: number
}

/** Accepted values of a variable, in lower case, and their meaning here. */
type Choice<T> = Readonly<Record<string, T>>

const EXPORTERS: Choice<'otlp' | 'none'> = { otlp: 'otlp', none: 'none' }
const COMPRESSIONS: Choice<'gzip' | 'none'> = { gzip: 'gzip', none: 'none' }
const PROTOCOLS: Choice<true> = { 'http/protobuf': true }
const TEMPORALITIES: Choice<true> = { cumulative: true }
const HISTOGRAMS: Choice<'classic' | 'exponential'> = {
  explicit_bucket_histogram: 'classic',
  base2_exponential_bucket_histogram: 'exponential',
}
const SAMPLERS: Choice<{ readonly parentBased: boolean; readonly ratio: number | 'argument' }> = {
  always_on: { parentBased: false, ratio: 1 },
  always_off: { parentBased: false, ratio: 0 },
  traceidratio: { parentBased: false, ratio: 'argument' },
  parentbased_always_on: { parentBased: true, ratio: 1 },
  parentbased_always_off: { parentBased: true, ratio: 0 },
  parentbased_traceidratio: { parentBased: true, ratio: 'argument' },
}

/** Reads the variables. Never throws: an invalid value counts as unset, and is listed in `problems`. */
export function readOtelEnvironment(env: NodeJS.ProcessEnv, instance = instanceId()): OtelEnvironment {
  const problems: string[] = []

  /** Reads a text. By the specification, an empty value counts as unset. */
  function text(name: string): string | undefined {
    const value = Object.hasOwn(env, name) ? env[name]?.trim() : undefined
    return value === '' ? undefined : value
  }

  function choice<T>(name: string, choices: Choice<T>): T | undefined {
    const value = text(name)?.toLowerCase()
    if (value === undefined) return undefined
    if (Object.hasOwn(choices, value)) return choices[value]
    problems.push(`${name} is not understood: ${Object.keys(choices).join(', ')} are`)
    return undefined
  }

  function number(name: string, least: number, most: number): number | undefined {
    const value = text(name)
    if (value === undefined) return undefined
    const read = Number(value)
    if (read >= least && read <= most) return read
    problems.push(`${name} has to be a number from ${least} to ${most}`)
    return undefined
  }

  /** Reads a number of ms. Only whole numbers: timers take no others. */
  function milliseconds(name: string): number | undefined {
    const read = number(name, 1, MOST_MS)
    return read === undefined ? undefined : Math.round(read)
  }

  function url(name: string, path: string): string | undefined {
    const value = text(name)
    if (value === undefined) return undefined
    const parsed = URL.canParse(value) ? new URL(value) : undefined
    if (parsed?.protocol !== 'http:' && parsed?.protocol !== 'https:') {
      problems.push(`${name} has to be an http:// or https:// URL`)
      return undefined
    }
    if (path !== '') parsed.pathname = `${parsed.pathname.replace(/\/$/, '')}${path}`
    return parsed.href
  }

  /** Reads `key=value,key=value`, with percent-encoded values. One invalid pair makes the whole invalid. */
  function pairs(name: string): Record<string, string> {
    const read: [string, string][] = []
    for (const pair of text(name)?.split(',') ?? []) {
      if (pair.trim() === '') continue
      const at = pair.indexOf('=')
      const key = decoded(pair.slice(0, Math.max(at, 0)).trim())
      const value = decoded(pair.slice(at + 1).trim())
      if (key === undefined || key === '' || value === undefined) {
        problems.push(`${name} has to be key=value pairs with commas between them, in percent encoding`)
        return {}
      }
      read.push([key, value])
    }
    return Object.fromEntries(read)
  }

  function headers(signal: string): Record<string, string> {
    const read: [string, string][] = []
    for (const name of ['OTEL_EXPORTER_OTLP_HEADERS', `OTEL_EXPORTER_OTLP_${signal}_HEADERS`]) {
      const found = Object.entries(pairs(name))
      // Node refuses such a header when it is sent, which would fail every push.
      if (found.some(([key, value]) => !/^[\w!#$%&'*+.^`|~-]+$/.test(key) || /[^\t\x20-\x7e]/.test(value))) {
        problems.push(`${name} holds what may not stand in a header`)
        continue
      }
      for (const [key, value] of found) read.push([key.toLowerCase(), value])
    }
    return Object.fromEntries(read)
  }

  function signal(signal: 'METRICS' | 'TRACES', path: string): SignalEnvironment {
    const of = <T>(key: string, read: (name: string) => T | undefined) =>
      read(`OTEL_EXPORTER_OTLP_${signal}_${key}`) ?? read(`OTEL_EXPORTER_OTLP_${key}`)
    of('PROTOCOL', (name) => choice(name, PROTOCOLS))
    return {
      exporter: choice(`OTEL_${signal}_EXPORTER`, EXPORTERS),
      endpoint: url(`OTEL_EXPORTER_OTLP_${signal}_ENDPOINT`, '') ?? url('OTEL_EXPORTER_OTLP_ENDPOINT', path),
      headers: headers(signal),
      timeoutMs: of('TIMEOUT', milliseconds),
      compression: of('COMPRESSION', (name) => choice(name, COMPRESSIONS)),
      certificate: of('CERTIFICATE', text),
      clientCertificate: of('CLIENT_CERTIFICATE', text),
      clientKey: of('CLIENT_KEY', text),
    }
  }

  function sampler(): Sampler | undefined {
    const chosen = choice('OTEL_TRACES_SAMPLER', SAMPLERS)
    if (chosen === undefined) return undefined
    const { parentBased, ratio } = chosen
    return {
      parentBased,
      ratio: ratio === 'argument' ? (number('OTEL_TRACES_SAMPLER_ARG', 0, 1) ?? 1) : ratio,
    }
  }

  const { 'service.name': serviceName, ...resource } = pairs('OTEL_RESOURCE_ATTRIBUTES')
  const metrics = signal('METRICS', '/v1/metrics')
  // A collector can turn totals into deltas (its processor `cumulativetodelta`).
  choice('OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE', TEMPORALITIES)
  const traces = signal('TRACES', '/v1/traces')
  return {
    disabled: text('OTEL_SDK_DISABLED')?.toLowerCase() === 'true',
    serviceName: text('OTEL_SERVICE_NAME') ?? serviceName,
    resource: { 'service.instance.id': instance, ...resource },
    metrics: {
      ...metrics,
      intervalMs: milliseconds('OTEL_METRIC_EXPORT_INTERVAL'),
      exportTimeoutMs: milliseconds('OTEL_METRIC_EXPORT_TIMEOUT'),
      histograms: choice('OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION', HISTOGRAMS),
    },
    traces: { ...traces, sampler: sampler() },
    problems: [...new Set(problems)],
  }
}

/**
 * Names this gateway among those of its service: the same for metrics and spans, which different processes may send. A UUID of the
 * host and of the process that all workers come from.
 */
function instanceId(): string {
  const first = cluster.isWorker ? process.ppid : process.pid
  const hex = createHash('sha256').update(`tidegate\n${hostname()}\n${first}`).digest('hex')
  const variant = '89ab'[Number.parseInt(hex[16]!, 16) % 4]!
  // Version 8: made in a way of one's own (RFC 9562 §5.8).
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}

/** Longest time that a timer of Node can wait, in ms. */
const MOST_MS = 2 ** 31 - 1

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}
