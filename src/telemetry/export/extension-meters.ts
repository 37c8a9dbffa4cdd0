import { createNoopMeter, type Meter } from '@opentelemetry/api'
import {
  type CollectionResult,
  DataPointType,
  type Histogram,
  MeterProvider,
  type MetricData,
  MetricReader,
} from '@opentelemetry/sdk-metrics'
import type { ProcessReading, ProcessValue } from '../metrics/process-counts.js'
import { escapeValue } from './text-format.js'

/** Most instruments of one extension. Further ones record nothing. */
const MAX_INSTRUMENTS = 10
/** Most attribute sets of one instrument. Further ones are counted together, with `otel.metric.overflow`. */
const MAX_SERIES = 100

/** Meters of extensions, and what they have recorded. */
export type ExtensionMeters = ReturnType<typeof createExtensionMeters>

/** Log of an extension. */
type ExtensionLog = { warn(message: string, fields: object): void }

/** Bound for callbacks of extensions: one that takes longer records nothing, and it may never return. */
const PATIENCE = { timeoutMillis: 1_000 }

/** Reader that collects only when `collect` is called. */
class AskedReader extends MetricReader {
  protected async onShutdown(): Promise<void> {}
  protected async onForceFlush(): Promise<void> {}
}

export function createExtensionMeters() {
  const reader = new AskedReader()
  const views = [{ instrumentName: '*', aggregationCardinalityLimit: MAX_SERIES }]
  const provider = new MeterProvider({ readers: [reader], views })
  const meters = new Map<string, Meter>()

  return {
    /** Returns the meter of an extension. An instance with changed options goes on with it. */
    meter(extension: string, log: ExtensionLog): Meter {
      const meter = meters.get(extension) ?? bounded(provider.getMeter(extension), log)
      meters.set(extension, meter)
      return meter
    },
    /** Returns what is recorded, for OTLP. */
    collect: (): Promise<CollectionResult> => reader.collect(PATIENCE),
    /** Returns what is recorded, for `/metrics`: `extension_<extension>_<instrument>`. */
    async read(): Promise<ProcessReading[]> {
      const { resourceMetrics } = await reader.collect(PATIENCE)
      const readings = resourceMetrics.scopeMetrics.flatMap(({ scope, metrics }) =>
        metrics.map((metric) => readingOf(scope.name, metric)),
      )
      // Two instruments may have one name in Prometheus.
      return [...new Map(readings.map((reading) => [reading.name, reading])).values()]
    },
  }
}

/** Returns a meter that bounds the number of instruments: further ones record nothing. */
function bounded(meter: Meter, log: ExtensionLog): Meter {
  const names = new Set<string>()
  const nothing = createNoopMeter()
  return new Proxy(meter, {
    get(target, key) {
      const made = Reflect.get(target, key)
      if (!String(key).startsWith('create')) return made
      return (name: string, ...more: unknown[]) => {
        if (names.size < MAX_INSTRUMENTS || names.has(name)) {
          names.add(name)
          return made.call(target, name, ...more)
        }
        const message = `an extension has more than ${MAX_INSTRUMENTS} instruments; this one records nothing`
        log.warn(message, { instrument: String(name) })
        return Reflect.get(nothing, key).call(nothing, name, ...more)
      }
    },
  })
}

function readingOf(extension: string, metric: MetricData): ProcessReading {
  const { name, description } = metric.descriptor
  const plain = `extension_${extension}_${name}`.replace(/[^A-Za-z0-9_]/g, '_')
  const help = description.replace(/\s+/g, ' ') || `${name} of the extension ${extension}`
  const counts = metric.dataPointType === DataPointType.SUM && metric.isMonotonic
  const number = counts ? 'counter' : 'gauge'
  return {
    name: counts ? `${plain}_total` : plain,
    help,
    type: metric.dataPointType === DataPointType.HISTOGRAM ? 'histogram' : number,
    values: metric.dataPoints.flatMap(({ attributes, value }) =>
      samplesOf(plain, labelsOf(attributes), value as number | Histogram),
    ),
  }
}

function samplesOf(
  name: string,
  labels: ProcessValue['labels'],
  value: number | Histogram,
): readonly ProcessValue[] {
  if (typeof value === 'number') return [{ labels, value }]
  const { boundaries, counts } = value.buckets
  let sum = 0
  return [
    ...counts.map((count, i): ProcessValue => {
      sum += count
      return { metricName: `${name}_bucket`, labels: { ...labels, le: boundaries[i] ?? '+Inf' }, value: sum }
    }),
    { metricName: `${name}_sum`, labels, value: value.sum ?? 0 },
    { metricName: `${name}_count`, labels, value: value.count },
  ]
}

function labelsOf(attributes: Readonly<Record<string, unknown>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(attributes).map(([name, value]) => [
      name.replace(/[^A-Za-z0-9_]/g, '_').replace(/^(?=\d|le$)/, '_'),
      escapeValue(String(value)),
    ]),
  )
}
