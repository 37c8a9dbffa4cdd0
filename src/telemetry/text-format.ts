import type { Attributes } from '@opentelemetry/api'
import { DataPointType, type MetricData } from '@opentelemetry/sdk-metrics'

/**
 * Series between two looks at the event loop. Requests wait while these are written.
 */
const SERIES_AT_ONCE = 1000

/** The labels of a series are written once: its attributes are the same object in every reading. */
const labelTexts = new WeakMap<Attributes, string>()

/**
 * Writes metrics in the Prometheus text format 0.0.4. The SDK's own serializer says the same (a test holds them
 * together) but takes 7 µs a line and never lets go of the event loop: 20,000 lines would cost as much as 2,500
 * requests, and make others wait for 140 ms.
 */
export async function formatMetrics(metrics: readonly MetricData[]): Promise<string> {
  let text = ''
  let series = 0
  for (const metric of metrics) {
    const name = metric.descriptor.name
    text += `# HELP ${name} ${metric.descriptor.description}\n# TYPE ${name} ${typeOf(metric)}\n`
    for (const point of metric.dataPoints) {
      const labels = labelsOf(point.attributes)
      text +=
        typeof point.value === 'number'
          ? `${name}${braced(labels)} ${point.value}\n`
          : formatHistogram(name, labels, point.value)
      if (++series % SERIES_AT_ONCE === 0) await new Promise(setImmediate)
    }
  }
  return text
}

interface HistogramValue {
  readonly buckets: { readonly boundaries: readonly number[]; readonly counts: readonly number[] }
  readonly sum?: number
  readonly count: number
}

function formatHistogram(name: string, labels: string, value: object): string {
  const { buckets, sum, count } = value as HistogramValue
  const prefix = `${name}_bucket{${labels}${labels === '' ? '' : ','}le="`
  let text = ''
  let cumulative = 0
  for (let i = 0; i < buckets.boundaries.length; i++) {
    cumulative += buckets.counts[i]!
    text += `${prefix}${buckets.boundaries[i]}"} ${cumulative}\n`
  }
  return `${text}${prefix}+Inf"} ${count}\n${name}_sum${braced(labels)} ${sum}\n${name}_count${braced(labels)} ${count}\n`
}

function typeOf(metric: MetricData): string {
  if (metric.dataPointType === DataPointType.HISTOGRAM) return 'histogram'
  return metric.dataPointType === DataPointType.SUM && metric.isMonotonic ? 'counter' : 'gauge'
}

function braced(labels: string): string {
  return labels === '' ? '' : `{${labels}}`
}

function labelsOf(attributes: Attributes): string {
  let text = labelTexts.get(attributes)
  if (text === undefined) {
    text = Object.entries(attributes)
      .map(([name, value]) => `${name.replace(/\W/g, '_')}="${escapeValue(String(value))}"`)
      .join(',')
    labelTexts.set(attributes, text)
  }
  return text
}

function escapeValue(value: string): string {
  return value.replace(/\\/g, '\\\\').replace(/\n/g, '\\n').replace(/"/g, '\\"')
}
