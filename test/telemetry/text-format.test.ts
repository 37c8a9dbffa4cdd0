import { ValueType } from '@opentelemetry/api'
import { PrometheusSerializer } from '@opentelemetry/exporter-prometheus'
import { AggregationTemporality, DataPointType, type MetricData } from '@opentelemetry/sdk-metrics'
import fc from 'fast-check'
import t from 'tap'
import { formatMetrics } from '../../src/telemetry/text-format.js'
import { parseExposition } from '../support/exposition.js'

const value = fc.string({
  unit: fc.constantFrom('a', 'B', '/', '*', '"', '\\', '\n', ' ', '{', '}', ',', '=', 'é', '🌊'),
  maxLength: 8,
})
const attributes = fc.record(
  { 'http.route': value, 'tidegate.tier': value, code: fc.integer({ min: 100, max: 999 }) },
  { requiredKeys: [] },
)
const amount = fc.oneof(fc.nat(), fc.double({ min: 0, max: 1e9, noNaN: true }))

const histogram = fc.array(fc.nat({ max: 1000 }), { minLength: 4, maxLength: 4 }).chain((counts) =>
  amount.map((sum) => ({
    buckets: { boundaries: [0.0005, 1, 30], counts },
    sum,
    count: counts.reduce((total, n) => total + n, 0),
  })),
)

function metricOf(
  kind: 'counter' | 'gauge' | 'histogram',
  points: readonly { attributes: object; value: unknown }[],
): MetricData {
  const dataPointType = {
    counter: DataPointType.SUM,
    gauge: DataPointType.GAUGE,
    histogram: DataPointType.HISTOGRAM,
  }[kind]
  return {
    descriptor: {
      name: kind === 'counter' ? 'a_counter_total' : `a_${kind}`,
      description: `A ${kind}.`,
      unit: '',
      valueType: ValueType.DOUBLE,
    },
    aggregationTemporality: AggregationTemporality.CUMULATIVE,
    dataPointType,
    isMonotonic: true,
    dataPoints: points.map((point) => ({ ...point, startTime: [0, 0], endTime: [1, 0] })),
  } as unknown as MetricData
}

const points = <T>(of: fc.Arbitrary<T>) => fc.array(fc.record({ attributes, value: of }), { maxLength: 4 })

t.test("writes what OpenTelemetry's own serializer writes", async (t) => {
  const serializer = new PrometheusSerializer('', false, undefined, true, true)
  await fc.assert(
    fc.asyncProperty(
      points(amount),
      points(amount),
      points(histogram),
      async (counters, gauges, histograms) => {
        const metrics = [
          metricOf('counter', counters),
          metricOf('gauge', gauges),
          metricOf('histogram', histograms),
        ]
        const resource = { attributes: {} }
        const theirs = serializer.serialize({
          resource,
          scopeMetrics: [{ scope: { name: 'x' }, metrics }],
        } as never)
        // they put sum and count before the buckets
        const sorted = (text: string) =>
          text
            .split('\n')
            .filter((line) => line !== '')
            .sort()
        t.same(sorted(await formatMetrics(metrics)), sorted(theirs))
      },
    ),
    { numRuns: 200 },
  )
})

t.test('a reading of many series lets others have their turn', async (t) => {
  const many = Array.from({ length: 5000 }, (_, i) => ({ attributes: { code: i }, value: i }))
  let turns = 0
  const count = () => {
    turns++
    again = setImmediate(count)
  }
  let again = setImmediate(count)
  const text = await formatMetrics([metricOf('gauge', many)])
  clearImmediate(again)
  t.ok(turns >= 4, `${turns} turns`)
  t.equal(parseExposition(text).series.length, 5000)
})
