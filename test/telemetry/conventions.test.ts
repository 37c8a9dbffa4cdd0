import { readFileSync } from 'node:fs'
import t from 'tap'
import { createFamilies } from '../../src/telemetry/metrics/metric-definitions.js'
import { createRecorder, knownMethods } from '../../src/telemetry/metrics/recorder.js'
import { eventually } from '../support/eventually.js'
import { snapshotOf } from '../support/gateway/gateway.js'
import { startSite } from '../support/gateway/site.js'
import { exampleRecord } from '../support/gateway/snapshot.js'
import { callSpans, serverSpan, startTracing } from '../support/gateway/traced.js'
import { rawExchange } from '../support/http/raw.js'

/** OpenTelemetry's semantic conventions for HTTP as a table, to which the tests compare what is sent. */
const CONVENTIONS = JSON.parse(
  readFileSync(new URL('../fixtures/http-conventions.json', import.meta.url), 'utf8'),
) as {
  methods: string[]
  metrics: Record<string, { unit: string; buckets: number[]; attributes: string[] }>
  spans: Record<'server' | 'client', { always: string[]; where_known: string[] }>
}

t.test('HTTP metrics have the recommended units, attributes and buckets', async (t) => {
  const definitions = Object.values(createFamilies()).map((family) => family.view().definition)
  for (const [name, { unit, buckets, attributes }] of Object.entries(CONVENTIONS.metrics)) {
    const definition = definitions.find(({ otlp }) => otlp === name)!
    t.equal(definition.unit, unit, name)
    const bounds = Array.from(definition.boundsMs!, (ms) => ms / 1000)
    t.same(
      buckets.filter((bound) => !bounds.includes(bound)),
      [],
      `${name}: buckets that are missing`,
    )
    t.same(
      attributes.filter((attribute) => !definition.labels.includes(attribute)),
      [],
      `${name}: attributes that are missing`,
    )
  }
})

t.test('method names are those of the table, or those that the environment names', async (t) => {
  t.same([...knownMethods(undefined)].sort(), CONVENTIONS.methods)
  t.same(knownMethods(''), knownMethods(undefined))
  t.same(knownMethods('GET, PURGE,,PURGE'), ['GET', 'PURGE'])
})

t.test('client metrics of a 5xx have error.type, and a request without a route no http.route', async (t) => {
  const snapshot = snapshotOf(`
tiers: [free]
services: { payments: { upstreams: [http://127.0.0.1:1] } }
routes: [{ path: /*, service: payments }]
`)
  const families = createFamilies()
  const recorder = createRecorder(families)
  const route = snapshot.routes[0]!
  const upstream = route.service.upstreams[0]!
  const record = (status: number) =>
    recorder.record(exampleRecord(snapshot, { route, tier: 0, upstream, upstreamMs: 1, status }))
  for (const status of [200, 404, 503]) record(status)
  recorder.record(exampleRecord(snapshot, { route: undefined, tier: -1, upstream: undefined, status: 404 }))
  const rows = (name: 'clientDuration' | 'serverDuration') => {
    const { definition, labels, size } = families[name].view()
    const width = definition.labels.length
    return Array.from({ length: size }, (_, i) =>
      Object.fromEntries(definition.labels.map((label, at) => [label, String(labels[i * width + at])])),
    )
  }
  const types = rows('clientDuration').map((row) => [row['http.response.status_code'], row['error.type']])
  t.same(types, [
    ['200', ''],
    ['404', ''],
    ['503', '503'],
  ])
  t.same(
    rows('serverDuration').map((row) => row['http.route']),
    ['/*', '/*', '/*', ''],
  )
})

t.test('spans name the server as the client addressed it, as trusted proxies report it', async (t) => {
  const { tracing, collector } = await startTracing(t, {})
  const site = (proxies: string) => `
tiers: [free]
${proxies}
services: { payments: { upstreams: [PAYMENTS] } }
routes: [{ path: /*, service: payments }]
`
  const forwarded = ['X-Forwarded-Proto: https', 'X-Forwarded-Host: shop.example:8443, inner.example']
  const cases: [proxies: string, fields: string[], expected: object][] = [
    ['', [], { 'url.scheme': 'http', 'server.address': 'gateway.example', 'server.port': 80 }],
    ['', forwarded, { 'url.scheme': 'http', 'server.address': 'gateway.example', 'server.port': 80 }],
    [
      'trusted_proxies: [127.0.0.1]',
      forwarded,
      { 'url.scheme': 'https', 'server.address': 'shop.example', 'server.port': 8443 },
    ],
    [
      'trusted_proxies: [127.0.0.1]',
      ['X-Forwarded-Proto: https'],
      { 'url.scheme': 'https', 'server.address': 'gateway.example', 'server.port': 443 },
    ],
  ]
  for (const [i, [proxies, fields, expected]] of cases.entries()) {
    const { gateway } = await startSite(t, site(proxies), {}, { tracing })
    const id = `case-${i}`
    const lines = ['Host: gateway.example', 'User-Agent: curl/8', `X-Request-Id: ${id}`, ...fields]
    await rawExchange(gateway.port, `GET /a HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`)
    await eventually('it is recorded', () => gateway.records.length === 1)
    const spans = await collector.trace(id)
    const { attributes } = serverSpan(spans)
    t.match(attributes, expected, JSON.stringify([proxies, fields]))
    const { server, client } = CONVENTIONS.spans
    for (const name of [...server.always, ...server.where_known]) t.ok(name in attributes, name)
    const call = callSpans(spans)[0]!.attributes
    for (const name of client.always) t.ok(name in call, name)
    for (const name of client.where_known) if (name !== 'error.type') t.ok(name in call, name)
  }
})
