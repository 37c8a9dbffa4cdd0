import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Config } from '../../../src/config/schema/schema.js'
import { readOtelEnvironment } from '../../../src/telemetry/export/otel-environment.js'
import { metricsPush, recordsExponential, serviceName } from '../../../src/telemetry/export/otlp-settings.js'

type Telemetry = Config['telemetry']

const push = (telemetry: Partial<Telemetry>, env: Record<string, string> = {}) =>
  metricsPush(telemetry as Telemetry, readOtelEnvironment(env))

const OTLP = { url: 'http://collector:4318' }

t.test('metrics are pushed only if the file or the environment asks for it', async (t) => {
  t.equal(push({}), undefined)
  t.equal(push({}, { OTEL_SERVICE_NAME: 'x', OTEL_EXPORTER_OTLP_HEADERS: 'a=b' }), undefined)
  t.equal(push({}, { OTEL_METRICS_EXPORTER: 'otlp' })?.url, 'http://localhost:4318/v1/metrics')
  t.equal(push({}, { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:1' })?.url, 'http://c:1/v1/metrics')
  t.equal(push({ otlp: OTLP }, { OTEL_METRICS_EXPORTER: 'none' }), undefined)
  t.equal(push({ otlp: OTLP }, { OTEL_SDK_DISABLED: 'true' }), undefined)
})

t.test('the file wins over the environment, header by header', async (t) => {
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://other:4318',
    OTEL_METRIC_EXPORT_INTERVAL: '60000',
    OTEL_EXPORTER_OTLP_HEADERS: 'authorization=env,x-tenant=a',
    OTEL_SERVICE_NAME: 'env',
    OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION: 'base2_exponential_bucket_histogram',
  }
  const telemetry = {
    otlp: { url: 'http://collector:4318/', interval: 5000, headers: { Authorization: 'file' } },
    histograms: 'classic',
    service_name: 'file',
  } as unknown as Telemetry
  t.match(push(telemetry, env), {
    url: 'http://collector:4318/v1/metrics',
    intervalMs: 5000,
    headers: { authorization: 'file', 'x-tenant': 'a' },
    histograms: 'classic',
  })
  const otel = readOtelEnvironment(env)
  t.equal(serviceName(telemetry, otel), 'file')
  t.equal(recordsExponential(telemetry, otel), false)
  t.match(push({ otlp: OTLP }, env), { intervalMs: 60_000, histograms: 'exponential' })
  t.equal(serviceName({} as Telemetry, otel), 'env')
  t.equal(serviceName({} as Telemetry, readOtelEnvironment({})), 'tidegate')
})

t.test('of two timeouts in the environment the shorter one holds', async (t) => {
  t.match(push({ otlp: OTLP }), { timeoutMs: 10_000, compression: 'none' })
  t.match(
    push(
      { otlp: OTLP },
      {
        OTEL_EXPORTER_OTLP_TIMEOUT: '7000',
        OTEL_METRIC_EXPORT_TIMEOUT: '3000',
        OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip',
      },
    ),
    { timeoutMs: 3000, compression: 'gzip' },
  )
})

t.test('certificates are read at the start, and a missing one prevents it', async (t) => {
  const file = join(t.testdir(), 'ca.pem')
  writeFileSync(file, 'PEM')
  const env = { OTEL_EXPORTER_OTLP_CERTIFICATE: file }
  t.strictSame(push({ otlp: OTLP }, env)?.tls, { ca: Buffer.from('PEM') })
  t.throws(
    () => push({ otlp: OTLP }, { OTEL_EXPORTER_OTLP_CLIENT_KEY: '/nowhere.pem' }),
    /OTEL_EXPORTER_OTLP_CLIENT_KEY names a file that cannot be read: \/nowhere.pem: ENOENT/,
  )
})
