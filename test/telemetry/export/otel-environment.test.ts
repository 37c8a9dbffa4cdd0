import fc from 'fast-check'
import t from 'tap'
import { readOtelEnvironment } from '../../../src/telemetry/export/otel-environment.js'
import { metricsPush } from '../../../src/telemetry/export/otlp-settings.js'
import { tracesOptions } from '../../../src/telemetry/traces/tracing-settings.js'
import { codePoint } from '../../support/code-point.js'

t.test('an unset or empty variable sets nothing', async (t) => {
  const empty = readOtelEnvironment({})
  t.strictSame(empty, readOtelEnvironment({ OTEL_EXPORTER_OTLP_ENDPOINT: '', OTEL_TRACES_SAMPLER: ' ' }))
  t.match(empty, { disabled: false, serviceName: undefined, resource: {}, problems: [] })
  t.match(empty.metrics, { exporter: undefined, endpoint: undefined, headers: {}, intervalMs: undefined })
  t.equal(empty.traces.sampler, undefined)
})

t.test("the general endpoint gets the signal's path; a signal's own endpoint stays as it is", async (t) => {
  const { metrics, traces, problems } = readOtelEnvironment({
    OTEL_EXPORTER_OTLP_ENDPOINT: 'https://collector.example.com/base/',
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://127.0.0.1:4318/spans',
  })
  t.equal(metrics.endpoint, 'https://collector.example.com/base/v1/metrics')
  t.equal(traces.endpoint, 'http://127.0.0.1:4318/spans')
  t.strictSame(problems, [])
})

t.test("a signal's own variable wins over the general one; headers are merged", async (t) => {
  const { metrics, traces } = readOtelEnvironment({
    OTEL_EXPORTER_OTLP_HEADERS: 'X-Tenant=a, authorization=Bearer%20one',
    OTEL_EXPORTER_OTLP_METRICS_HEADERS: 'Authorization=Bearer%20two',
    OTEL_EXPORTER_OTLP_TIMEOUT: '5000',
    OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: '250.4',
    OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip',
    OTEL_EXPORTER_OTLP_TRACES_COMPRESSION: 'none',
    OTEL_EXPORTER_OTLP_CERTIFICATE: '/etc/ca.pem',
  })
  t.strictSame(metrics.headers, { 'x-tenant': 'a', authorization: 'Bearer two' })
  t.strictSame(traces.headers, { 'x-tenant': 'a', authorization: 'Bearer one' })
  t.strictSame([metrics.timeoutMs, traces.timeoutMs], [5000, 250])
  t.strictSame([metrics.compression, traces.compression], ['gzip', 'none'])
  t.equal(metrics.certificate, '/etc/ca.pem')
})

t.test('OTEL_SERVICE_NAME wins over service.name of the resource', async (t) => {
  const attributes = 'service.name=a,deployment.environment.name=live%2Ceu'
  const one = readOtelEnvironment({ OTEL_RESOURCE_ATTRIBUTES: attributes })
  t.equal(one.serviceName, 'a')
  t.match(one.resource, { 'deployment.environment.name': 'live,eu' })
  t.equal(
    readOtelEnvironment({ OTEL_RESOURCE_ATTRIBUTES: attributes, OTEL_SERVICE_NAME: 'b' }).serviceName,
    'b',
  )
})

t.test("a sampler's name sets whether it follows the parent, and its ratio", async (t) => {
  const sampler = (OTEL_TRACES_SAMPLER: string, OTEL_TRACES_SAMPLER_ARG = '') =>
    readOtelEnvironment({ OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG }).traces.sampler
  t.strictSame(sampler('always_on'), { parentBased: false, ratio: 1 })
  t.strictSame(sampler('parentbased_always_off'), { parentBased: true, ratio: 0 })
  t.strictSame(sampler('parentbased_traceidratio', '0.25'), { parentBased: true, ratio: 0.25 })
  t.strictSame(sampler('traceidratio'), { parentBased: false, ratio: 1 }, 'as the specification has it')
  t.equal(sampler('jaeger_remote'), undefined)
})

t.test('an invalid variable is reported by name, without its value, and ignored', async (t) => {
  const { metrics, resource, problems } = readOtelEnvironment({
    OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
    OTEL_EXPORTER_OTLP_ENDPOINT: 'collector-s3cret:4317',
    OTEL_EXPORTER_OTLP_HEADERS: 'authorization=s3cret%0d%0aevil: yes',
    OTEL_METRIC_EXPORT_INTERVAL: '-1',
    OTEL_METRICS_EXPORTER: 'prometheus',
    OTEL_RESOURCE_ATTRIBUTES: 'fine=1,broken=%s3cret',
    OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: 'Delta',
  })
  t.match(metrics, { exporter: undefined, endpoint: undefined, headers: {}, intervalMs: undefined })
  t.same(Object.keys(resource), ['service.instance.id'])
  t.strictSame(
    problems.map((problem) => problem.split(' ')[0]),
    [
      'OTEL_RESOURCE_ATTRIBUTES',
      'OTEL_EXPORTER_OTLP_PROTOCOL',
      'OTEL_METRICS_EXPORTER',
      'OTEL_EXPORTER_OTLP_ENDPOINT',
      'OTEL_EXPORTER_OTLP_HEADERS',
      'OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE',
      'OTEL_METRIC_EXPORT_INTERVAL',
    ],
  )
  t.notMatch(problems.join(), /s3cret/)
})

t.test('no value makes it throw, and no problem repeats a value', async () => {
  const names = [
    'OTEL_EXPORTER_OTLP_ENDPOINT',
    'OTEL_EXPORTER_OTLP_HEADERS',
    'OTEL_EXPORTER_OTLP_TIMEOUT',
    'OTEL_RESOURCE_ATTRIBUTES',
    'OTEL_TRACES_SAMPLER',
  ]
  fc.assert(
    fc.property(fc.constantFrom(...names), fc.string({ unit: codePoint, minLength: 12 }), (name, value) => {
      const { problems } = readOtelEnvironment({ [name]: value })
      return problems.length <= 1 && problems.every((problem) => !problem.includes(value))
    }),
  )
})

t.test('a gateway sends one instance id with all signals, its own or a given one', async (t) => {
  const { resource } = readOtelEnvironment({})
  const id = resource['service.instance.id']
  t.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  t.equal(readOtelEnvironment({}).resource['service.instance.id'], id)
  const given = readOtelEnvironment({ OTEL_RESOURCE_ATTRIBUTES: 'service.instance.id=mine' })
  t.equal(given.resource['service.instance.id'], 'mine')
  t.equal(
    readOtelEnvironment({}, 'gw-1').resource['service.instance.id'],
    'gw-1',
    'that of the configuration',
  )
  const both = readOtelEnvironment({ OTEL_RESOURCE_ATTRIBUTES: 'service.instance.id=mine' }, 'gw-1')
  t.equal(both.resource['service.instance.id'], 'mine')
  for (const env of [{}, { OTEL_RESOURCE_ATTRIBUTES: 'service.instance.id=mine' }]) {
    const otel = readOtelEnvironment({ ...env, OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector.example:4318' })
    const metrics = metricsPush({}, otel)
    const traces = tracesOptions({}, otel)
    t.ok(metrics?.resource['service.instance.id'])
    t.equal(metrics?.resource['service.instance.id'], traces?.resource['service.instance.id'])
  }
})
