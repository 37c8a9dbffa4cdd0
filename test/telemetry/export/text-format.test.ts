import { type Attributes, ValueType } from '@opentelemetry/api'
import { PrometheusSerializer } from '@opentelemetry/exporter-prometheus'
import { AggregationTemporality, DataPointType } from '@opentelemetry/sdk-metrics'
import fc from 'fast-check'
import t from 'tap'
import { formatMetrics } from '../../../src/telemetry/export/text-format.js'
import { createFamily, type Definition, type Family } from '../../../src/telemetry/metrics/metric-family.js'
import { parseExposition } from '../../support/telemetry/exposition.js'

const LABELS = ['http.route', 'tidegate.tier', 'code']

const definition = (kind: Definition['kind']): Definition => ({
  otlp: `a.${kind}`,
  prometheus: kind === 'counter' ? 'a_counter_total' : `a_${kind}`,
  kind,
  unit: 's',
  help: `A ${kind}.`,
  labels: LABELS,
  ...(kind === 'histogram' && { boundsMs: Float64Array.of(0.5, 1000, 30_000) }),
})

const value = fc.string({
  unit: fc.constantFrom('a', 'B', '/', '*', '"', '\\', '\n', ' ', '{', '}', ',', '=', 'é', '🌊'),
  maxLength: 8,
})
const labels = fc.tuple(value, value, fc.integer({ min: 100, max: 999 }))
const amount = fc.oneof(fc.nat(), fc.double({ min: 0, max: 1e9, noNaN: true }))
const points = <T>(of: fc.Arbitrary<T>) =>
  fc.uniqueArray(fc.tuple(labels, of), { maxLength: 4, selector: ([labels]) => JSON.stringify(labels) })

/** The same metric in OpenTelemetry's SDK. */
function asMetricData(family: Family) {
  const { definition, size, width, figures, labels } = family.view()
  const boundaries = Array.from(definition.boundsMs ?? [], (ms) => ms / 1000)
  const dataPoints = Array.from({ length: size }, (_, series) => {
    const attributes: Attributes = Object.fromEntries(
      LABELS.map((name, i) => [name, labels[series * LABELS.length + i]]),
    )
    const cell = figures.subarray(series * width, (series + 1) * width)
    const counts = [...cell.subarray(0, -1)]
    const histogram = {
      buckets: { boundaries, counts },
      sum: cell.at(-1)! / 1000,
      count: counts.reduce((total, n) => total + n, 0),
    }
    return {
      attributes,
      value: definition.kind === 'histogram' ? histogram : cell[0],
      startTime: [0, 0],
      endTime: [1, 0],
    }
  })
  return {
    descriptor: {
      name: definition.prometheus,
      description: definition.help,
      unit: '',
      valueType: ValueType.DOUBLE,
    },
    aggregationTemporality: AggregationTemporality.CUMULATIVE,
    dataPointType: {
      counter: DataPointType.SUM,
      gauge: DataPointType.GAUGE,
      histogram: DataPointType.HISTOGRAM,
    }[definition.kind],
    isMonotonic: true,
    dataPoints,
  }
}

t.test("the text equals that of OpenTelemetry's own serializer", async (t) => {
  const serializer = new PrometheusSerializer('', false, undefined, true, true)
  await fc.assert(
    fc.asyncProperty(
      points(amount),
      points(amount),
      points(fc.array(amount, { minLength: 1, maxLength: 5 })),
      async (counters, gauges, histograms) => {
        const families = [
          createFamily(definition('counter')),
          createFamily(definition('gauge')),
          createFamily(definition('histogram')),
        ] as const
        for (const [labels, value] of counters) families[0].set(value, ...labels)
        for (const [labels, value] of gauges) families[1].set(value, ...labels)
        for (const [labels, values] of histograms) {
          for (const ms of values) families[2].observe(families[2].cell(...labels), ms)
        }
        const theirs = serializer.serialize({
          resource: { attributes: {} },
          scopeMetrics: [{ scope: { name: 'x' }, metrics: families.map(asMetricData) }],
        } as never)
        // their serializer puts sum and count before the buckets, and prints headers of metrics without series
        const sorted = (text: string) =>
          text
            .split('\n')
            .filter((line) => line !== '' && !line.startsWith('#'))
            .sort()
        t.same(sorted(await formatMetrics(families.map((family) => family.view()))), sorted(theirs))
      },
    ),
    { numRuns: 200 },
  )
})

t.test('OpenMetrics names counters without _total, and a bucket shows its trace', async (t) => {
  const counter = createFamily(definition('counter'))
  counter.set(3, '/a', 'free', 200)
  const histogram = createFamily(definition('histogram'))
  const cell = histogram.cell('/a', 'free', 200)
  const trace = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16) }
  histogram.observe(cell, 250, { ...trace, sampled: true })
  histogram.observe(cell, 40_000, { ...trace, sampled: false })
  const views = [counter.view(), histogram.view()]
  const text = await formatMetrics(views, 'openmetrics')
  t.match(
    text,
    /^# TYPE a_counter counter\na_counter_total{http_route="\/a",tidegate_tier="free",code="200"} 3$/m,
  )
  t.match(text, /le="1"} 1 # {trace_id="a{32}",span_id="b{16}"} 0.25 \d{10}(\.\d+)?$/m)
  t.equal(text.match(/trace_id/g)?.length, 1, 'an unrecorded trace would lead nowhere')
  t.notMatch(await formatMetrics(views), /trace_id/, 'the plain format has none')
})

t.test('formatting many series yields to other work', async (t) => {
  const gauge = createFamily(definition('gauge'))
  for (let i = 0; i < 5000; i++) gauge.set(i, '/a', 'free', i)
  let turns = 0
  const count = () => {
    turns++
    again = setImmediate(count)
  }
  let again = setImmediate(count)
  const text = await formatMetrics([gauge.view()])
  clearImmediate(again)
  t.ok(turns >= 4, `${turns} turns`)
  t.equal(parseExposition(text).series.length, 5000)
})
