import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { metricsRoutes, wantedFormat } from '../../src/admin/routes/metrics.js'
import { createMetrics } from '../../src/telemetry/metrics.js'
import { eventually } from '../support/eventually.js'
import { exampleRecord, exampleSnapshot } from '../support/gateway/snapshot.js'
import { hasPrometheus, startPrometheus } from '../support/telemetry/prometheus.js'

const snapshot = exampleSnapshot()
const TRACE = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331', sampled: true }
const NAME = 'http_server_request_duration_seconds'
/** Prometheus looks for targets every five seconds. */
const PATIENCE_MS = 60_000

/** Serves the metrics of three requests. */
async function served(t: Test): Promise<string> {
  const metrics = createMetrics({
    storeState: () => 'up',
    upstreams: () => [],
    logLinesDropped: () => 0,
    serviceName: 'x',
    // These settings are for OTLP and do not change a scrape.
    exponential: true,
    log: { warn() {} },
  })
  for (const durationMs of [1, 4, 250]) metrics.record(exampleRecord(snapshot, { durationMs, trace: TRACE }))
  const admin = Fastify()
  metricsRoutes(admin, { metrics })
  await admin.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => admin.close())
  return `127.0.0.1:${(admin.server.address() as { port: number }).port}`
}

const title = hasPrometheus
  ? 'Prometheus reads it as OpenMetrics with exemplars, though it would like protobuf more'
  : 'prometheus is not installed (Debian: apt-get install prometheus): nothing was scraped'
t.test(title, async (t) => {
  if (!hasPrometheus) {
    t.pass()
    return
  }
  const { api } = await startPrometheus(t, {
    global: { scrape_interval: '3s', scrape_timeout: '3s' },
    scrape_configs: [{ job_name: 'tidegate', static_configs: [{ targets: [await served(t)] }] }],
  })
  const value = async (query: string): Promise<number | undefined> => {
    const { result } = await api(`query?query=${encodeURIComponent(query)}`)
    return result[0] && Number(result[0].value[1])
  }
  const exemplars = async (query: string) => {
    const span = `start=${Date.now() / 1000 - 600}&end=${Date.now() / 1000 + 60}`
    const found = await api(`query_exemplars?query=${encodeURIComponent(query)}&${span}`)
    return found.flatMap((series: { exemplars: object[] }) => series.exemplars)
  }
  const ready = async () => (await value('sum(up)')) === 1
  await eventually('it is scraped', ready, PATIENCE_MS)

  const series = `${NAME}_bucket{job="tidegate",le="0.25"}`
  t.equal(await value(series), 3)
  t.match(await exemplars(series), [
    { labels: { trace_id: TRACE.traceId, span_id: TRACE.spanId }, value: '0.25' },
  ])
  const [kind] = (await api('metadata?metric=tidegate_fail_open')).tidegate_fail_open ?? []
  t.equal(kind?.type, 'counter', 'it was read as OpenMetrics')

  t.equal(await value('tidegate_limit_decisions_total{limit="minute"}'), 3)
  t.ok((await value('process_cpu_seconds_total{job="tidegate"}'))! > 0)
  t.equal(await value('nodejs_version_info{job="tidegate"}'), 1)
})

t.test('wantedFormat picks the format that the client prefers most of ours', async (t) => {
  const PROTOBUF =
    'application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited'
  const OPEN = 'application/openmetrics-text;version=1.0.0'
  t.equal(wantedFormat(undefined), 'plain')
  t.equal(wantedFormat('*/*'), 'plain')
  t.equal(wantedFormat(`${OPEN};q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2`), 'openmetrics')
  t.equal(wantedFormat(`${OPEN};q=0.2,text/plain;q=0.3`), 'plain')
  t.equal(wantedFormat('application/openmetrics-text;version=2.0.0'), 'plain', 'no version of ours')
  t.equal(wantedFormat(`${PROTOBUF};q=0.6,${OPEN};q=0.5`), 'openmetrics', 'not spoken')
})
