// Tests src/telemetry/record/recording.ts src/telemetry/traces/spans.ts
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import t, { type Test } from 'tap'
import { readOtelEnvironment } from '../../../src/telemetry/export/otel-environment.js'
import type { RequestRecord } from '../../../src/telemetry/record/record.js'
import { createSpanQueue, MAX_WAITING } from '../../../src/telemetry/traces/span-queue.js'
import { createTracing, type Tracing } from '../../../src/telemetry/traces/tracing.js'
import {
  samplingOf,
  tracesEndpoint,
  tracesOptions,
  tracesUrl,
} from '../../../src/telemetry/traces/tracing-settings.js'
import { eventually } from '../../support/eventually.js'
import { exampleRecord, exampleSnapshot } from '../../support/gateway/snapshot.js'
import { startTracing } from '../../support/gateway/traced.js'
import { refusingPort } from '../../support/http/hanging-listener.js'
import { startCollector } from '../../support/telemetry/otlp-collector.js'

const snapshot = exampleSnapshot()

/** A finished request, as the gateway records it. */
function request(tracing: Tracing, changes: Partial<RequestRecord> = {}): void {
  const incoming = {
    snapshot: { isTrustedProxy: () => false },
    headers: { traceparent: undefined, tracestate: undefined },
    peer: '192.0.2.7',
    started: performance.now(),
  }
  const details = () =>
    ({ scheme: 'https', authority: undefined, version: '2', userAgent: 'a'.repeat(5000) }) as const
  const trace = tracing.begin(incoming, undefined, details)
  tracing.end(exampleRecord(snapshot, { trace, durationMs: 12, ...changes }))
}

t.test('a request that is not recorded makes no span', async (t) => {
  const { tracing, collector } = await startTracing(t, { sample: 0 })
  request(tracing)
  await tracing.close()
  t.equal(collector.pushes.length, 0)
  t.same(tracing.counts(), { sent: 0, failed: 0, dropped: { queue: 0, export: 0, rate: 0 } })
})

t.test('long values are cut, and secrets in the target are left out', async (t) => {
  const { tracing, collector } = await startTracing(t)
  request(tracing, {
    target: `http://user:s3cret@h/${'p'.repeat(5000)}?token=s3cret`,
    method: 'X'.repeat(500),
  })
  await tracing.close()
  const { attributes } = collector.spans[0]!
  t.equal(String(attributes['url.path']).length, 1027)
  t.equal(String(attributes['user_agent.original']).length, 1027)
  t.equal(attributes['http.request.method_original'], 'X'.repeat(32))
  t.match(attributes, { 'url.scheme': 'https', 'network.protocol.version': '2' })
  t.notMatch(JSON.stringify(attributes), /s3cret/)
})

t.test('many requests are sent in few pushes, and none is lost', async (t) => {
  const { tracing, collector, warned } = await startTracing(t)
  for (let i = 0; i < 1000; i++) request(tracing)
  await eventually('all have come', () => collector.spans.length === 1000)
  t.ok(collector.pushes.length <= 10, `${collector.pushes.length} pushes`)
  await eventually('they are counted', () => tracing.counts().sent === 1000)
  t.same(tracing.counts().dropped, { queue: 0, export: 0, rate: 0 })
  t.same(warned, [])
})

t.test('the last spans are sent at the end', async (t) => {
  const { tracing, collector } = await startTracing(t)
  for (let i = 0; i < 300; i++) request(tracing)
  await tracing.close()
  t.equal(collector.spans.length, 300)
})

t.test('the queue is bounded, and drops all spans of a request together', async (t) => {
  let dropped = 0
  const queue = createSpanQueue({
    sender: { send() {} },
    onSent() {},
    onDropped(reason, spans) {
      t.equal(reason, 'queue')
      dropped += spans
    },
  })
  const three = Array.from({ length: 3 }, () => ({}) as never)
  for (let i = 0; i < 2000; i++) queue.add(three)
  t.equal(dropped, 6000 - Math.floor(MAX_WAITING / 3) * 3)
  t.equal(dropped % 3, 0)
  await queue.close(1)
})

async function badly(t: Test, url: string, requests = 200) {
  const warned: string[] = []
  const tracing = createTracing({
    sampling: { sample: 1, parent: 'trusted', maxPerSecond: 10_000 },
    endpoint: { url, headers: { authorization: 'Bearer s3cret' }, timeoutMs: 200, compression: 'none' },
    resource: { 'service.name': 'edge' },
    delayMs: 1,
    log: { warn: (details, message) => warned.push(`${JSON.stringify(details)} ${message}`) },
  })
  for (let i = 0; i < requests; i++) request(tracing)
  await eventually('they are given up', () => tracing.counts().dropped.export === requests)
  t.equal(tracing.counts().sent, 0)
  t.equal(warned.length, 1, 'logged once a minute')
  t.match(warned[0], /spans could not be sent and are lost/)
  t.notMatch(warned[0], /s3cret/)
  // The end does not wait forever.
  request(tracing)
  await tracing.close()
}

t.test('an unreachable collector costs spans and nothing else', async (t) => {
  await badly(t, `${(await refusingPort()).origin}/v1/traces`)
})

t.test('a collector that never answers costs spans and nothing else', async (t) => {
  const server = createServer((socket) => socket.on('error', () => {}).resume()).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  await badly(t, `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/traces`, 100)
})

t.test('a collector that is busy or refuses costs spans and nothing else', async (t) => {
  for (const status of [503, 401]) {
    const collector = await startCollector(t, (response) => response.writeHead(status).end('s3cret'))
    await badly(t, `${collector.origin}/v1/traces`)
  }
})

t.test('a push that a busy collector refused is sent again', async (t) => {
  let busy = true
  const collector = await startCollector(t, (response) => {
    response.writeHead(busy ? 503 : 200, busy ? { 'Retry-After': '0' } : {}).end()
    busy = false
  })
  const { tracing } = await startTracing(t, {}, collector)
  request(tracing)
  await eventually('it is sent again', () => tracing.counts().sent === 1)
  t.equal(collector.pushes.length, 2)
})

t.test('the file and the environment set where spans go', async (t) => {
  const endpoint = (telemetry: object, env: NodeJS.ProcessEnv = {}) =>
    tracesEndpoint(telemetry as never, readOtelEnvironment(env))
  const otlp = { url: 'http://c:4318', headers: { Authorization: 'one' }, interval: 1000 }
  t.equal(endpoint({}), undefined, 'nowhere unless configured')
  t.equal(endpoint({ otlp }), undefined, 'metrics alone ask for no traces')
  t.match(endpoint({ traces: {} }), { url: 'http://127.0.0.1:4318/v1/traces', headers: {} })
  t.match(endpoint({ otlp, traces: {} }), {
    url: 'http://c:4318/v1/traces',
    headers: { authorization: 'one' },
  })
  const elsewhere = endpoint({ otlp, traces: { url: 'https://d/x' } })
  t.match(elsewhere, { url: 'https://d/x' })
  t.same(elsewhere!.headers, {}, "a collector does not get another's secret")

  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://e:4318/base',
    OTEL_EXPORTER_OTLP_HEADERS: 'authorization=two,x-team=edge',
    OTEL_EXPORTER_OTLP_TIMEOUT: '250',
    OTEL_EXPORTER_OTLP_TRACES_COMPRESSION: 'gzip',
  }
  t.match(endpoint({}, env), {
    url: 'http://e:4318/base/v1/traces',
    headers: { authorization: 'two', 'x-team': 'edge' },
    timeoutMs: 250,
    compression: 'gzip',
  })
  t.match(endpoint({ traces: { url: 'http://d/x', headers: { Authorization: 'three' } } }, env), {
    url: 'http://d/x',
    headers: { authorization: 'three', 'x-team': 'edge' },
  })
  t.equal(endpoint({}, { ...env, OTEL_TRACES_EXPORTER: 'none' }), undefined)
  t.equal(endpoint({ traces: {} }, { OTEL_SDK_DISABLED: 'true' }), undefined)
  t.match(endpoint({}, { OTEL_TRACES_EXPORTER: 'otlp' }), { url: 'http://127.0.0.1:4318/v1/traces' })

  t.equal(tracesUrl('http://c/otlp/v1/metrics'), 'http://c/otlp/v1/traces')
  t.equal(tracesUrl('http://c/something'), undefined)
})

t.test('the file and the environment set which requests are recorded', async (t) => {
  const sampling = (traces: object | undefined, env: NodeJS.ProcessEnv = {}) =>
    samplingOf({ traces } as never, readOtelEnvironment(env))
  t.same(sampling({ max_per_second: 500 }), { sample: 0.01, parent: 'trusted', maxPerSecond: 500 })
  t.match(sampling(undefined, { OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.5' }), {
    sample: 0.5,
    parent: 'never',
  })
  t.match(sampling(undefined, { OTEL_TRACES_SAMPLER: 'parentbased_always_on' }), {
    sample: 1,
    parent: 'trusted',
  })
  t.match(sampling({ sample: 0.1, parent: 'always' }, { OTEL_TRACES_SAMPLER: 'always_off' }), {
    sample: 0.1,
    parent: 'always',
  })
})

t.test('an unreadable certificate is reported at the start', async (t) => {
  const env = { OTEL_TRACES_EXPORTER: 'otlp', OTEL_EXPORTER_OTLP_CERTIFICATE: '/nowhere/ca.pem' }
  t.throws(
    () => tracesOptions({}, readOtelEnvironment(env)),
    /CERTIFICATE names a file that cannot be read: \/nowhere\/ca\.pem/,
  )
})

t.test('spans name their service, instance and environment', async (t) => {
  const env = { OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test,service.name=other' }
  const { resource } = tracesOptions(
    { service_name: 'edge', traces: { max_per_second: 1 } },
    readOtelEnvironment(env),
  )!
  t.match(resource, {
    'deployment.environment.name': 'test',
    'service.name': 'edge',
    'service.instance.id': /^.{36}$/,
  })
})
