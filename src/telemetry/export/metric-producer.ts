import { type Attributes, type HrTime, ValueType } from '@opentelemetry/api'
import { resourceFromAttributes } from '@opentelemetry/resources'
import {
  AggregationTemporality,
  type DataPoint,
  DataPointType,
  type ExponentialHistogram,
  type Histogram,
  type MetricData,
  type MetricProducer,
} from '@opentelemetry/sdk-metrics'
import type { View } from '../metrics/metric-family.js'

/** Points between two turns of the event loop: about 2 ms. */
const POINTS_AT_ONCE = 1000

/**
 * Creates a producer that passes the cells of the hot path to OpenTelemetry's SDK, as totals since `from`.
 *
 * @param read returns the current metrics
 * @param exponential true if histograms that are recorded as exponential ones are exported as such
 * @param from Unix ms
 */
export function createMetricProducer(
  read: () => Promise<readonly View[]>,
  exponential: boolean,
  from: number,
): MetricProducer {
  return {
    async collect() {
      const views = await read()
      const points = pointsOf(hrTime(from), hrTime(Date.now()))
      const metrics: MetricData[] = []
      for (const view of views) if (view.size > 0) metrics.push(await metricOf(view, exponential, points))
      // The SDK replaces this resource with its own.
      return {
        resourceMetrics: { resource: EMPTY, scopeMetrics: [{ scope: { name: 'tidegate' }, metrics }] },
        errors: [],
      }
    },
  }
}

const EMPTY = resourceFromAttributes({})
const hrTime = (ms: number): HrTime => [Math.floor(ms / 1000), (ms % 1000) * 1e6]

type MakePoints = <T>(view: View, value: (at: number, series: number) => T) => Promise<DataPoint<T>[]>

function pointsOf(startTime: HrTime, endTime: HrTime): MakePoints {
  let made = 0
  return async (view, value) => {
    const points = []
    for (let series = 0; series < view.size; series++) {
      points.push({
        startTime,
        endTime,
        attributes: attributesOf(view, series),
        value: value(series * view.width, series),
      })
      if (++made % POINTS_AT_ONCE === 0) await new Promise(setImmediate)
    }
    return points
  }
}

function attributesOf({ definition, labels }: View, series: number): Attributes {
  const attributes: Attributes = {}
  definition.labels.forEach((name, i) => {
    const value = labels[series * definition.labels.length + i]!
    // Prometheus treats an empty label as absent.
    if (value !== '') attributes[name] = value
  })
  return attributes
}

async function metricOf(view: View, asExponential: boolean, points: MakePoints): Promise<MetricData> {
  const { definition, figures, exponential } = view
  const { otlp: name, help: description, unit, kind, boundsMs } = definition
  const metric = {
    descriptor: { name, description, unit, valueType: ValueType.DOUBLE },
    aggregationTemporality: AggregationTemporality.CUMULATIVE,
  }
  if (boundsMs === undefined) {
    const dataPoints = await points(view, (at) => figures[at]!)
    return kind === 'gauge'
      ? { ...metric, dataPointType: DataPointType.GAUGE, dataPoints }
      : { ...metric, dataPointType: DataPointType.SUM, isMonotonic: true, dataPoints }
  }
  const buckets = boundsMs.length + 1
  const boundaries = Array.from(boundsMs, (ms) => ms / 1000)
  const histogram = (at: number): Histogram => {
    const counts = Array.from(figures.subarray(at, at + buckets))
    return {
      buckets: { boundaries, counts },
      count: counts.reduce((sum, count) => sum + count, 0),
      sum: figures[at + buckets]! / 1000,
    }
  }
  if (!asExponential || exponential === undefined) {
    return { ...metric, dataPointType: DataPointType.HISTOGRAM, dataPoints: await points(view, histogram) }
  }
  const dataPoints = await points(view, (at, series): ExponentialHistogram => {
    const { count } = histogram(at)
    const { scale, zeros, offset, counts } = exponential(series)
    return {
      count,
      sum: figures[at + buckets]! / 1000,
      scale,
      zeroCount: zeros,
      positive: { offset, bucketCounts: [...counts] },
      negative: { offset: 0, bucketCounts: [] },
    }
  })
  return { ...metric, dataPointType: DataPointType.EXPONENTIAL_HISTOGRAM, dataPoints }
}
