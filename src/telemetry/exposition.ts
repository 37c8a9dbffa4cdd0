import { type HrTime, ValueType } from '@opentelemetry/api'
import { OTLPMetricExporter } from '@opentelemetry/exporter-metrics-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import {
  AggregationTemporality,
  DataPointType,
  MeterProvider,
  type MetricData,
  type MetricProducer,
  MetricReader,
  PeriodicExportingMetricReader,
  type PushMetricExporter,
} from '@opentelemetry/sdk-metrics'
import type { Family, Point } from './cells.js'
import { formatMetrics } from './text-format.js'

/** Where and how often metrics are pushed over OTLP/HTTP. */
export interface OtlpOptions {
  /** The collector, `http://host:4318`, or the whole URL of its metrics endpoint. */
  readonly url: string
  /** Between pushes, ms. */
  readonly intervalMs: number
  /** May hold secrets: never logged. */
  readonly headers?: Readonly<Record<string, string>> | undefined
}

export interface Exposition {
  /** All series in the Prometheus text format, ending in a newline. */
  prometheus(): Promise<string>
  /** Pushes what is left and stops pushing; waits two seconds for a slow collector at most. */
  close(): Promise<void>
}

/** No push waits longer, ms: with a collector that hangs, the next one starts clean. */
const PUSH_TIMEOUT_MS = 10_000
const LAST_PUSH_MS = 2000

/** Between two lines about pushes that failed, ms: each one is counted. */
const COMPLAINT_MS = 60_000

/** What is done about a push that failed: it is counted, and logged once a minute. */
export function countFailedPushes(
  count: Float64Array,
  log: { warn(details: object, message: string): void },
): (error: Error | undefined) => void {
  let complainedAt = Number.NEGATIVE_INFINITY
  return (error) => {
    count[0]! += 1
    const now = performance.now()
    if (now - complainedAt < COMPLAINT_MS) return
    complainedAt = now
    log.warn(
      { error: error?.message },
      'metrics could not be pushed over OTLP; counting goes on and the next push carries the totals; check telemetry.otlp',
    )
  }
}

/**
 * Hands the cells to OpenTelemetry's SDK: it serves them in the Prometheus form and, with `otlp`, pushes them.
 * `refresh` runs before each reading, to bring gauges up to date; `onPushFailed` after each push that failed.
 */
export function createExposition(options: {
  readonly families: readonly Family[]
  readonly refresh: () => void | Promise<void>
  readonly resource: Readonly<Record<string, string>>
  readonly otlp: OtlpOptions | undefined
  readonly onPushFailed: (error: Error | undefined) => void
}): Exposition {
  const started = hrTime(Date.now())
  const produce = (door: 'prometheus' | 'otlp'): MetricProducer => ({
    async collect() {
      await options.refresh()
      const now = hrTime(Date.now())
      const metrics = options.families.map((family) => toMetricData(family, door, started, now))
      const scopeMetrics = [
        { scope: { name: 'tidegate' }, metrics: metrics.filter((m) => m.dataPoints.length > 0) },
      ]
      return { resourceMetrics: { resource: resourceFromAttributes({}), scopeMetrics }, errors: [] }
    },
  })

  const scraped = new ScrapeReader({ metricProducers: [produce('prometheus')] })
  const readers: MetricReader[] = [scraped]
  if (options.otlp !== undefined)
    readers.push(pushReader(options.otlp, produce('otlp'), options.onPushFailed))
  const provider = new MeterProvider({ resource: resourceFromAttributes({ ...options.resource }), readers })

  return {
    async prometheus() {
      const { resourceMetrics } = await scraped.collect()
      return formatMetrics(resourceMetrics.scopeMetrics.flatMap((scope) => scope.metrics))
    },
    close: () => provider.shutdown({ timeoutMillis: LAST_PUSH_MS }).catch(() => {}),
  }
}

/** Read when somebody asks. The SDK's PrometheusExporter is the same with an HTTP server of its own. */
class ScrapeReader extends MetricReader {
  protected override onForceFlush = () => Promise.resolve()
  protected override onShutdown = () => Promise.resolve()
}

function pushReader(
  otlp: OtlpOptions,
  producer: MetricProducer,
  onFailed: (error: Error | undefined) => void,
) {
  const timeout = Math.min(PUSH_TIMEOUT_MS, otlp.intervalMs)
  const inner = new OTLPMetricExporter({
    url: metricsUrl(otlp.url),
    headers: { ...otlp.headers },
    timeoutMillis: timeout,
    concurrencyLimit: 1,
    temporalityPreference: AggregationTemporality.CUMULATIVE,
  })
  // A failed push is no error of the process: the SDK would report each to a global handler that nobody reads.
  const exporter: PushMetricExporter = {
    export(metrics, done) {
      inner.export(metrics, (result) => {
        if (result.code !== 0) onFailed(result.error)
        done({ code: 0 })
      })
    },
    selectAggregationTemporality: () => AggregationTemporality.CUMULATIVE,
    forceFlush: () => inner.forceFlush(),
    shutdown: () => inner.shutdown(),
  }
  return new PeriodicExportingMetricReader({
    exporter,
    exportIntervalMillis: otlp.intervalMs,
    exportTimeoutMillis: timeout,
    metricProducers: [producer],
  })
}

/** A bare collector address gets the path that the OTLP specification gives to metrics. */
function metricsUrl(url: string): string {
  const parsed = new URL(url)
  if (parsed.pathname === '/') parsed.pathname = '/v1/metrics'
  return parsed.href
}

function toMetricData(
  family: Family,
  door: 'prometheus' | 'otlp',
  startTime: HrTime,
  endTime: HrTime,
): MetricData {
  const { definition } = family
  const descriptor = {
    name: definition[door],
    description: definition.help,
    // in the Prometheus form the name says it, and a `# UNIT` line would have to repeat the name's last word
    unit: door === 'otlp' ? definition.unit : '',
    valueType: ValueType.DOUBLE,
  }
  const points = [...family.points.values()]
  const base = { descriptor, aggregationTemporality: AggregationTemporality.CUMULATIVE }
  const bounds = definition.boundsMs
  if (bounds !== undefined) {
    const boundaries = Array.from(bounds, (ms) => ms / 1000)
    const dataPoints = points.map(({ attributes, cell }) => {
      const counts = Array.from(cell.subarray(0, boundaries.length + 1))
      const count = counts.reduce((sum, n) => sum + n, 0)
      const sum = cell[boundaries.length + 1]! / 1000
      return { startTime, endTime, attributes, value: { buckets: { boundaries, counts }, sum, count } }
    })
    return { ...base, dataPointType: DataPointType.HISTOGRAM, dataPoints }
  }
  const dataPoints = points.map(({ attributes, cell }: Point) => ({
    startTime,
    endTime,
    attributes,
    value: cell[0]!,
  }))
  return definition.kind === 'counter'
    ? { ...base, dataPointType: DataPointType.SUM, isMonotonic: true, dataPoints }
    : { ...base, dataPointType: DataPointType.GAUGE, dataPoints }
}

function hrTime(ms: number): HrTime {
  return [Math.floor(ms / 1000), (ms % 1000) * 1_000_000]
}
