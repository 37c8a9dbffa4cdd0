// Tests src/telemetry/export/{metric-producer,otlp-http}.ts
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gunzipSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { type OtlpOptions, startPush } from '../../src/telemetry/export/push.js'
import { createFamilies } from '../../src/telemetry/metrics/metric-definitions.js'
import { createMetrics, type Metrics } from '../../src/telemetry/metrics.js'
import { eventually } from '../support/eventually.js'
import { exampleDecision, exampleRecord, exampleSnapshot } from '../support/gateway/snapshot.js'
import { parseExposition, sampleOf } from '../support/telemetry/exposition.js'
import { decode, double, type Message, messages, number, text } from '../support/telemetry/protobuf.js'

const snapshot = exampleSnapshot()
const TRACE = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331', sampled: true }

interface Pushed {
  readonly path: string | undefined
  readonly headers: IncomingHttpHeaders
  readonly body: Message
  /** Status that it was answered with. */
  readonly status: number
}

async function collector(t: Test, listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** Starts a collector that accepts everything, and keeps it. */
async function keeping(
  t: Test,
  answer: () => number = () => 200,
): Promise<{ url: string; pushes: Pushed[] }> {
  const pushes: Pushed[] = []
  const url = await collector(t, async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const all = Buffer.concat(chunks)
    const body = decode(request.headers['content-encoding'] === 'gzip' ? gunzipSync(all) : all)
    const status = answer()
    pushes.push({ path: request.url, headers: request.headers, body, status })
    response.writeHead(status).end()
  })
  return { url, pushes }
}

const OTLP = {
  intervalMs: 60_000,
  timeoutMs: 10_000,
  headers: { authorization: 'Bearer s3cret' },
  compression: 'none',
  histograms: 'classic',
  resource: {},
} as const

function metricsTo(url: string, changes: Partial<OtlpOptions> = {}, warned: string[] = []): Metrics {
  return createMetrics({
    storeState: () => 'up',
    upstreams: () => [
      {
        service: 'payments',
        upstream: 'http://127.0.0.1:9001',
        healthy: true,
        inFlight: 0,
        ejections: 0,
        checksPassed: 0,
        checksFailed: 0,
      },
    ],
    logLinesDropped: () => 0,
    serviceName: 'edge-eu',
    exponential: changes.histograms === 'exponential',
    otlp: { ...OTLP, url, ...changes },
    log: { warn: (details, message) => warned.push(JSON.stringify(details) + message) },
  })
}

const attributesOf = (message: Message | undefined, field: number) =>
  Object.fromEntries(
    messages(message, field).map((pair) => {
      const [value] = messages(pair, 2)
      return [text(pair, 1), text(value, 1) ?? number(value, 3)]
    }),
  )

const bytes = (message: Message | undefined, field: number) => message?.get(field)?.[0] as Buffer

const resourceOf = (push: Pushed | undefined) => messages(push?.body, 1)[0]
const metricsOf = (push: Pushed | undefined) =>
  messages(resourceOf(push), 2).flatMap((scope) => messages(scope, 2))
const metricOf = (push: Pushed | undefined, name: string) =>
  metricsOf(push).find((metric) => text(metric, 1) === name)

/** Returns the name that Prometheus' OTLP receiver gives by default: dots to underscores, then the unit, then `_total`. */
function nameFromOtlp(name: string, unit: string, isCounter: boolean): string {
  const words = name.split(/[^a-zA-Z0-9]+/)
  if (unit === 's' && !words.includes('seconds')) words.push('seconds')
  if (unit === 'By' && !words.includes('bytes')) words.push('bytes')
  if (isCounter) words.push('total')
  return words.join('_')
}

t.test('pushes the series of /metrics as protobuf, under the same names', async (t) => {
  const { url, pushes } = await keeping(t)
  const metrics = metricsTo(`${url}/v1/metrics`, {
    resource: { 'deployment.environment.name': 'live', 'service.instance.id': 'one' },
  })
  metrics.loaded(snapshot)
  metrics.record(exampleRecord(snapshot, { durationMs: 13.25, trace: TRACE }))
  metrics.record(
    exampleRecord(snapshot, { decision: exampleDecision({ decidedBy: 'open', reason: 'timeout' }) }),
  )
  const scraped = parseExposition(await metrics.scrape())
  await metrics.close()

  t.equal(pushes.length, 1, 'the last figures go out at the end')
  t.equal(pushes[0]?.path, '/v1/metrics')
  t.match(pushes[0]?.headers, {
    authorization: 'Bearer s3cret',
    'content-type': 'application/x-protobuf',
  })
  const attributes = attributesOf(messages(resourceOf(pushes[0]), 1)[0], 1)
  t.match(attributes, { 'service.name': 'edge-eu', 'deployment.environment.name': 'live' })
  t.equal(attributes['service.instance.id'], 'one', 'two nodes do not overwrite each other')

  const pushed = metricsOf(pushes[0])
  const own = [...scraped.types.keys()].filter((name) => /^(?:http|tidegate)_/.test(name))
  t.same(
    pushed.map((metric) => nameFromOtlp(text(metric, 1)!, text(metric, 3) ?? '', metric.has(7))).sort(),
    own.sort(),
  )
  const server = messages(metricOf(pushes[0], 'http.server.request.duration'), 9)[0]
  t.equal(number(server, 2), 2, 'cumulative')
  const [point] = messages(server, 1)
  t.equal(number(point, 4), 2)
  t.match(double(point, 5), 0.0265)
  t.match(attributesOf(point, 9), {
    'http.route': '/payments/*',
    'http.response.status_code': 200,
    'tidegate.service': 'payments',
  })
})

t.test('the OTLP name of every metric translates to its Prometheus name', async (t) => {
  for (const { definition } of Object.values(createFamilies())) {
    const { otlp, unit, kind, prometheus } = definition
    t.equal(nameFromOtlp(otlp, unit, kind === 'counter'), prometheus)
  }
})

t.test('compression and exponential histograms are used if configured', async (t) => {
  const { url, pushes } = await keeping(t)
  const metrics = metricsTo(url, { compression: 'gzip', histograms: 'exponential' })
  for (const durationMs of [2, 4, 0]) metrics.record(exampleRecord(snapshot, { durationMs, trace: TRACE }))
  await metrics.close()
  t.equal(pushes[0]?.headers['content-encoding'], 'gzip')
  const [point] = messages(messages(metricOf(pushes[0], 'http.server.request.duration'), 10)[0], 1)
  t.equal(number(point, 4), 3)
  t.equal(number(point, 7), 1, 'one took no time')
  t.ok(number(point, 6)! > 0, 'a scale')
  const [positive] = messages(point, 8)
  t.equal(
    bytes(positive, 2).reduce((sum, n) => sum + n, 0),
    2,
  )
})

const FAILURES = 'tidegate_otlp_export_failures_total'
const METRICS = { signal: 'metrics' }

t.test('a refusing collector is counted and logged once, and costs nothing else', async (t) => {
  let asked = 0
  const url = await collector(t, (request, response) => {
    asked++
    request.resume()
    response.writeHead(400).end()
  })
  const warned: string[] = []
  const metrics = metricsTo(`${url}/custom/path?key=s3cret`, { intervalMs: 5 }, warned)
  await eventually('three pushes', () => asked >= 3)
  const failures = sampleOf(await metrics.scrape(), FAILURES, METRICS) ?? 0
  await metrics.close()
  t.ok(failures >= 2, `${failures} counted when the third was under way`)
  t.equal(warned.length, 1)
  t.match(warned[0], /could not be pushed/)
  t.notMatch(warned[0], /s3cret/)
})

t.test('a push to a busy collector is retried, and nothing is counted twice', async (t) => {
  let status = 503
  const { url, pushes } = await keeping(t, () => status)
  const metrics = metricsTo(url, { intervalMs: 60_000 })
  metrics.record(exampleRecord(snapshot))
  const closed = metrics.close()
  await eventually('it is refused', () => pushes.length > 0)
  status = 200
  await closed
  const taken = pushes.filter((push) => push.status === 200)
  t.equal(taken.length, 1)
  const histogram = messages(metricOf(taken[0], 'http.server.request.duration'), 9)[0]
  t.equal(number(messages(histogram, 1)[0], 4), 1)
})

t.test('more series than fit one request are sent in several, each series once', async (t) => {
  const { url, pushes } = await keeping(t)
  const { failOpen } = createFamilies()
  for (let i = 0; i < 2500; i++) failOpen.set(i, 'api', `${i}`)
  const push = startPush({
    otlp: { ...OTLP, url },
    resource: {},
    read: async () => [failOpen.view()],
    onFailed: (error) => t.error(error),
  })
  await push.close()
  t.equal(pushes.length, 5)
  const points = pushes.flatMap((push) => messages(messages(metricOf(push, 'tidegate.fail_open'), 7)[0], 1))
  const values = points.map((point) => double(point, 4))
  t.same(values.sort(), Array.from({ length: 2500 }, (_, i) => i).sort())
})

t.test('rejected points count as a failure even though the response is 200', async (t) => {
  const url = await collector(t, (request, response) => {
    request.resume()
    // partial_success { rejected_data_points: 300, error_message: "x" }
    response.end(Buffer.from('0a06' + '08ac02' + '120178', 'hex'))
  })
  const warned: string[] = []
  const metrics = metricsTo(url, {}, warned)
  await metrics.close()
  t.match(warned[0], /rejected 300 points/)
})

t.test('a collector that hangs or drips delays neither requests nor the end of the process', async (t) => {
  const drips = new Set<NodeJS.Timeout>()
  t.teardown(() => {
    for (const drip of drips) clearInterval(drip)
  })
  const url = await collector(t, (request, response) => {
    if (request.url === '/hang') return
    response.writeHead(200)
    drips.add(setInterval(() => response.write('x'), 5))
  })
  const dripping = metricsTo(`${url}/drip`, { intervalMs: 50, timeoutMs: 40 })
  await eventually(
    'two failures',
    async () => (sampleOf(await dripping.scrape(), FAILURES, METRICS) ?? 0) >= 2,
  )
  const began = performance.now()
  const hanging = metricsTo(`${url}/hang`, { timeoutMs: 60_000 })
  await Promise.all([hanging.close(), dripping.close()])
  t.ok(performance.now() - began < 30_000, 'two seconds, and room for a machine with much else to do')
})
