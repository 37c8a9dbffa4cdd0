import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gunzipSync } from 'node:zlib'
import { ValueType } from '@opentelemetry/api'
import { ProtobufMetricsSerializer } from '@opentelemetry/otlp-transformer'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { AggregationTemporality, DataPointType } from '@opentelemetry/sdk-metrics'
import t, { type Test } from 'tap'
import type { Definition, View } from '../../src/telemetry/cells.js'
import { createFamilies } from '../../src/telemetry/families.js'
import { createMetrics, type Metrics } from '../../src/telemetry/metrics.js'
import { encodeMetrics, type OtlpRequest } from '../../src/telemetry/otlp-metrics.js'
import type { OtlpOptions } from '../../src/telemetry/push.js'
import { eventually } from '../support/eventually.js'
import { parseExposition, sampleOf } from '../support/exposition.js'
import { decode, double, type Message, messages, number, text } from '../support/protobuf.js'
import { exampleDecision, exampleRecord, exampleSnapshot } from '../support/snapshot.js'

const snapshot = exampleSnapshot()
const TRACE = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331', sampled: true }

interface Pushed {
  readonly path: string | undefined
  readonly headers: IncomingHttpHeaders
  readonly body: Message
  /** What it was answered. */
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

/** A collector that takes all, and keeps it. */
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
    otlp: {
      url,
      intervalMs: 60_000,
      timeoutMs: 10_000,
      headers: { authorization: 'Bearer s3cret' },
      compression: 'none',
      temporality: 'cumulative',
      histograms: 'classic',
      resource: {},
      ...changes,
    },
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
const hex = (message: Message | undefined, field: number) => bytes(message, field).toString('hex')

const resourceOf = (push: Pushed | undefined) => messages(push?.body, 1)[0]
const metricsOf = (push: Pushed | undefined) =>
  messages(resourceOf(push), 2).flatMap((scope) => messages(scope, 2))
const metricOf = (push: Pushed | undefined, name: string) =>
  metricsOf(push).find((metric) => text(metric, 1) === name)

/** The name that Prometheus' OTLP receiver gives by default: dots to underscores, then the unit, then `_total`. */
function nameFromOtlp(name: string, unit: string, isCounter: boolean): string {
  const words = name.split(/[^a-zA-Z0-9]+/)
  if (unit === 's' && !words.includes('seconds')) words.push('seconds')
  if (isCounter) words.push('total')
  return words.join('_')
}

t.test('pushes as protobuf the series that /metrics shows, under the same names', async (t) => {
  const { url, pushes } = await keeping(t)
  const metrics = metricsTo(`${url}/v1/metrics`, { resource: { 'deployment.environment.name': 'live' } })
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
  t.ok(attributes['service.instance.id'], 'two nodes do not overwrite each other')

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
  const [exemplar] = messages(point, 8)
  t.equal(hex(exemplar, 5), TRACE.traceId)
  t.equal(hex(exemplar, 4), TRACE.spanId)
  t.equal(double(exemplar, 3), 0.01325)
})

t.test("writes the very bytes that OpenTelemetry's own serializer writes", async (t) => {
  const families = createFamilies(true)
  const cell = families.serverDuration.cell('/a/*', 'GET', 502, 'api', 'free', 'upstream_failed')
  for (const ms of [0, 0.3, 7, 5000, 1e6]) families.serverDuration.observe(cell, ms)
  for (let i = 0; i < 200; i++) families.failOpen.set(i * 1e10, 'api', `é${i}`)
  families.connections.set(-1.5)
  const views = [families.serverDuration, families.failOpen, families.connections].map((one) => one.view())
  for (const [temporality, exponential] of [
    ['cumulative', false],
    ['delta', false],
    ['cumulative', true],
  ] as const) {
    const request: OtlpRequest = {
      views,
      resource: { 'service.name': 'x' },
      temporality,
      exponential,
      from: 1_790_000_000_123,
      to: 1_790_000_001_999,
    }
    const theirs = ProtobufMetricsSerializer.serializeRequest(asTheirs(request) as never)
    t.same(decodeAll(Buffer.from(await encodeMetrics(request))), decodeAll(Buffer.from(theirs!)))
  }
})

/** Fields may stand in any order: sorted, and as deep as they are messages. */
function decodeAll(bytes: Buffer): unknown {
  try {
    return (
      [...decode(bytes)]
        // a default may be written or not
        .filter(([, values]) => values.some((value) => value !== 0n && (value as Buffer).length !== 0))
        // theirs has no zero_threshold
        .filter(([field]) => field !== 14)
        .sort(([a], [b]) => a - b)
        .map(([field, values]) => [
          field,
          values.map((value) => (typeof value === 'bigint' ? value : decodeAll(value))),
        ])
    )
  } catch {
    return bytes.toString('hex')
  }
}

function asTheirs({ views, resource, temporality, exponential: asExponential, from, to }: OtlpRequest) {
  const hrTime = (ms: number) => [Math.floor(ms / 1000), (ms % 1000) * 1e6]
  const one = ({ definition, size, width, figures, labels, exponential }: View) => ({
    descriptor: {
      name: definition.otlp,
      description: definition.help,
      unit: definition.unit,
      valueType: ValueType.DOUBLE,
    },
    aggregationTemporality:
      temporality === 'delta' ? AggregationTemporality.DELTA : AggregationTemporality.CUMULATIVE,
    dataPointType: dataPointType(definition, asExponential),
    isMonotonic: true,
    dataPoints: Array.from({ length: size }, (_, series) => {
      const cell = [...figures.subarray(series * width, (series + 1) * width)]
      const counts = cell.slice(0, -1)
      const boundaries = Array.from(definition.boundsMs ?? [], (ms) => ms / 1000)
      const histogram = {
        buckets: { boundaries, counts },
        sum: cell.at(-1)! / 1000,
        count: counts.reduce((sum, n) => sum + n, 0),
      }
      const fine = asExponential ? exponential?.(series) : undefined
      const exponentialHistogram = fine && {
        scale: fine.scale,
        zeroCount: fine.zeros,
        positive: { offset: fine.offset, bucketCounts: fine.counts },
        negative: { offset: 0, bucketCounts: [] },
        sum: histogram.sum,
        count: histogram.count,
      }
      const names = definition.labels
      return {
        startTime: hrTime(from),
        endTime: hrTime(to),
        attributes: Object.fromEntries(names.map((name, i) => [name, labels[series * names.length + i]])),
        value: definition.kind === 'histogram' ? (exponentialHistogram ?? histogram) : cell[0],
      }
    }),
  })
  return {
    resource: resourceFromAttributes({ ...resource }),
    scopeMetrics: [{ scope: { name: 'tidegate' }, metrics: views.map(one) }],
  }
}

function dataPointType({ kind }: Definition, exponential: boolean) {
  if (kind === 'histogram') return exponential ? DataPointType.EXPONENTIAL_HISTOGRAM : DataPointType.HISTOGRAM
  return kind === 'counter' ? DataPointType.SUM : DataPointType.GAUGE
}

t.test('both names of every metric agree', async (t) => {
  for (const { definition } of Object.values(createFamilies())) {
    const { otlp, unit, kind, prometheus } = definition
    t.equal(nameFromOtlp(otlp, unit, kind === 'counter'), prometheus)
  }
})

t.test('compressed when that is asked for, and exponential histograms when those are', async (t) => {
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
  t.equal(messages(point, 11).length, 3, 'exemplars')
})

t.test(
  'deltas: what came since the last push that has arrived, nothing twice and nothing lost',
  async (t) => {
    let status = 200
    const { url, pushes } = await keeping(t, () => status)
    const metrics = metricsTo(url, { intervalMs: 5, temporality: 'delta' })
    const requests = (push: Pushed) => {
      const histogram = messages(metricOf(push, 'http.server.request.duration'), 9)[0]
      return number(messages(histogram, 1)[0], 4) ?? 0
    }
    const arrived = () => pushes.filter((push) => push.status === 200).map(requests)
    metrics.record(exampleRecord(snapshot))
    await eventually('a push without the first request', () => arrived().length > 1 && arrived().at(-1) === 0)
    status = 500
    metrics.record(exampleRecord(snapshot))
    await eventually(
      'the second is pushed twice in vain',
      () => pushes.filter((push) => push.status === 500 && requests(push) === 1).length > 1,
    )
    status = 200
    metrics.record(exampleRecord(snapshot))
    await metrics.close()
    t.equal(
      arrived().reduce((total, n) => total + n, 0),
      3,
    )
    t.equal(number(messages(metricOf(pushes[0]!, 'http.server.request.duration'), 9)[0], 2), 1, 'delta')
  },
)

const FAILURES = 'tidegate_otlp_export_failures_total'
const METRICS = { signal: 'metrics' }

t.test('a collector that refuses is counted, logged once, and costs nothing else', async (t) => {
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

t.test('one that says when to come again is left alone until then', async (t) => {
  let asked = 0
  const url = await collector(t, (request, response) => {
    asked++
    request.resume()
    response.writeHead(503, { 'retry-after': '100' }).end()
  })
  const metrics = metricsTo(url, { intervalMs: 2 })
  await eventually('a failure', async () => sampleOf(await metrics.scrape(), FAILURES, METRICS) === 1)
  // The timer has had its turn many times by then.
  for (let i = 0; i < 5; i++) await metrics.scrape()
  t.equal(asked, 1)
  await metrics.close()
})

t.test('points that were rejected are a failure though the answer is 200', async (t) => {
  const url = await collector(t, (request, response) => {
    request.resume()
    // partial_success { rejected_data_points: 300, error_message: "x" }
    response.end(Buffer.from('0a06' + '08ac02' + '120178', 'hex'))
  })
  const warned: string[] = []
  const metrics = metricsTo(url, {}, warned)
  await metrics.close()
  t.match(warned[0], /rejected 300 of the points/)
})

t.test('a collector that hangs, or drips, holds up neither requests nor the end', async (t) => {
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
