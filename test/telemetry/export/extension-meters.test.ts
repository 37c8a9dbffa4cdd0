import t from 'tap'
import { createExtensionMeters } from '../../../src/telemetry/export/extension-meters.js'
import { formatProcesses } from '../../../src/telemetry/export/text-format.js'

t.test('what extensions record is read with the metrics of the gateway', async (t) => {
  const meters = createExtensionMeters()
  t.strictSame(await meters.read(), [])
  const log = { warn: () => t.fail() }
  const meter = meters.meter('fraud', log)
  t.equal(meters.meter('fraud', log), meter, 'the next instance goes on with it')
  meter.createCounter('look.ups', { description: 'Look-ups\nof scores' }).add(2, { 'a.b': 'x"y\\' })
  t.equal(await (async () => meter)(), meter, 'an async function may return it')
  meter.createUpDownCounter('open').add(-1)
  meter.createHistogram('score', { advice: { explicitBucketBoundaries: [1, 10] } }).record(5, { le: 'own' })
  t.equal(
    formatProcesses(await meters.read()),
    `# HELP extension_fraud_look_ups_total Look-ups of scores
# TYPE extension_fraud_look_ups_total counter
extension_fraud_look_ups_total{a_b="x\\"y\\\\"} 2
# HELP extension_fraud_open open of the extension fraud
# TYPE extension_fraud_open gauge
extension_fraud_open -1
# HELP extension_fraud_score score of the extension fraud
# TYPE extension_fraud_score histogram
extension_fraud_score_bucket{_le="own",le="1"} 0
extension_fraud_score_bucket{_le="own",le="10"} 1
extension_fraud_score_bucket{_le="own",le="+Inf"} 1
extension_fraud_score_sum{_le="own"} 5
extension_fraud_score_count{_le="own"} 1
`,
  )
  const { resourceMetrics } = await meters.collect()
  t.match(resourceMetrics.scopeMetrics, [{ scope: { name: 'fraud' }, metrics: { length: 3 } }])
})

t.test('the series of an extension are bounded', async (t) => {
  const warnings: object[] = []
  const meters = createExtensionMeters()
  const meter = meters.meter('noisy', { warn: (_, fields) => warnings.push(fields) })
  const counter = meter.createCounter('calls')
  for (let i = 0; i < 10_000; i++) counter.add(1, { id: i })
  for (let i = 0; i < 12; i++) meter.createCounter(`c${i}`).add(1)
  const readings = await meters.read()
  t.equal(readings.length, 10)
  t.strictSame(warnings, [{ instrument: 'c9' }, { instrument: 'c10' }, { instrument: 'c11' }])
  const { values } = readings[0]!
  t.ok(values.length <= 101, `${values.length} series`)
  t.equal(
    values.reduce((sum, { value }) => sum + value, 0),
    10_000,
    'nothing is lost',
  )
  t.ok(values.some(({ labels }) => labels.otel_metric_overflow === 'true'))
})

t.test('a callback that never returns holds up nothing but itself', async (t) => {
  const meters = createExtensionMeters()
  const meter = meters.meter('slow', { warn() {} })
  t.equal(await meter, meter, 'a meter is a plain object to whoever awaits or prints it')
  meter.createObservableGauge('stuck').addCallback(() => new Promise(() => {}))
  meter.createCounter('calls').add(2)
  t.match(await meters.read(), [{ name: 'extension_slow_calls_total', values: [{ value: 2 }] }])
})
