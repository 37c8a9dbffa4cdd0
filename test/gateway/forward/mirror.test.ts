import t from 'tap'
import { createMirror } from '../../../src/gateway/forward/mirror.js'
import { eventually } from '../../support/eventually.js'
import { exchangeFor } from '../../support/gateway/exchange.js'
import { startSite } from '../../support/gateway/site.js'
import { refusingPort } from '../../support/http/hanging-listener.js'
import { FLAG, frame, headerBlock, rawHttp2, TYPE, uint32 } from '../../support/http/http2-frames.js'
import { http2Upstream } from '../../support/http/http2-upstream.js'
import { openRaw, rawExchange, rawRequest } from '../../support/http/raw.js'
import { recordingUpstream } from '../../support/http/upstream.js'

const SITE = `
tiers: [free]
consumers: [{ header: { name: x-user-id, from: anyone } }]
services:
  payments: { upstreams: [PAYMENTS], limits: { free: 100/min } }
  marketing: { upstreams: [MARKETING/shadow], limits: { free: 1/min } }
routes:
  - path: /*
    service: payments
    rewrite: /v2/*
    headers: { request: { set: { X-Tier: "\${tier}" } } }
    mirror: { service: marketing }
`
const ME = 'X-User-Id: alice'

t.test('a second service gets a marked copy of the request, which takes no quota', async (t) => {
  const { gateway, payments, marketing } = await startSite(t, SITE)
  for (let i = 0; i < 2; i++) {
    const { responses } = await rawExchange(
      gateway.port,
      rawRequest('GET /a?b=c', ME, 'X-Tidegate-Mirror: 1'),
    )
    t.equal(responses[0]!.body, 'ok')
    t.equal(responses[0]!.header('x-ratelimit-remaining'), String(99 - i), 'the quota is that of the first')
  }
  await eventually('both copies are answered', () => gateway.mirrored.length === 2)
  t.same(gateway.mirrored, [
    ['marketing', 'answered'],
    ['marketing', 'answered'],
  ])
  t.match(marketing.received, [{ method: 'GET', url: '/shadow/v2/a?b=c' }, { method: 'GET' }])
  t.same(marketing.received[0]!.values('x-tier'), ['free'])
  t.same(marketing.received[0]!.values('x-user-id'), ['alice'])
  t.same(marketing.received[0]!.values('host'), [marketing.authority])
  t.same(marketing.received[0]!.values('x-tidegate-mirror'), ['1'])
  t.same(
    payments.received[0]!.values('x-tidegate-mirror'),
    [],
    'a client cannot pass a request off as a copy',
  )
  t.same(
    gateway.records.map(({ status, upstream }) => [status, upstream!.origin]),
    [
      [200, payments.origin],
      [200, payments.origin],
    ],
  )
})

t.test('bodies are copied up to 64 KiB, whether by length or in chunks', async (t) => {
  const { gateway, payments, marketing } = await startSite(t, SITE)
  const post = (...rest: readonly string[]) =>
    rawExchange(gateway.port, rawRequest('POST /x', ME, ...rest.slice(1)) + rest[0])
  await post('hello', 'Content-Length: 5')
  await post('5\r\nworld\r\n0\r\n\r\n', 'Transfer-Encoding: chunked')
  await post('x'.repeat(65_536), 'Content-Length: 65536')
  await eventually('three copies', () => gateway.mirrored.length === 3)
  t.same(
    marketing.received.map(({ body }) => body.slice(0, 5)),
    ['hello', 'world', 'xxxxx'],
  )
  t.same(marketing.received[1]!.values('content-length'), ['5'])
  t.equal(marketing.received[2]!.body.length, 65_536)

  await post('x'.repeat(65_537), 'Content-Length: 65537')
  await post(`10001\r\n${'x'.repeat(65_537)}\r\n0\r\n\r\n`, 'Transfer-Encoding: chunked')
  await eventually('all five are accounted for', () => gateway.mirrored.length === 5)
  t.same(
    gateway.mirrored.slice(3).map(([, result]) => result),
    ['too_large', 'too_large'],
  )
  t.same(
    payments.received.map(({ body }) => body.length),
    [5, 5, 65_536, 65_537, 65_537],
    'the request itself has all of it',
  )
  t.equal(marketing.received.length, 3)
})

t.test('the request does not wait for its copy', async (t) => {
  const marketing = await recordingUpstream(t, (req) => void req.resume())
  const { gateway } = await startSite(t, SITE, { marketing })
  const { responses } = await rawExchange(gateway.port, rawRequest('GET /x', ME))
  t.equal(responses[0]!.status, 200)
  await eventually('the copy has come', () => marketing.received.length === 1)
  await gateway.recorded(1)
  t.same(gateway.mirrored, [], 'the copy is still under way')
})

t.test('a second service that is down changes only a metric', async (t) => {
  const { origin: away } = await refusingPort()
  const { gateway } = await startSite(t, SITE.replace('[MARKETING/shadow]', `[${away}]`))
  for (let i = 0; i < 3; i++) {
    t.equal((await rawExchange(gateway.port, rawRequest('GET /x', ME))).responses[0]!.status, 200)
  }
  await eventually('each failed', () => gateway.mirrored.length === 3)
  t.ok(gateway.mirrored.every(([, result]) => result === 'failed'))
  t.ok(gateway.records.every(({ error }) => error === undefined))
})

t.test('a second service over HTTP/2 gets bodies, too', async (t) => {
  const shadow = await http2Upstream(t)
  const yaml = SITE.replace('[MARKETING/shadow]', `["${shadow.origin}"], protocol: http2`)
  const { gateway } = await startSite(t, yaml)
  const post = rawRequest('POST /x', ME, 'Content-Length: 5')
  t.equal((await rawExchange(gateway.port, `${post}hello`)).responses[0]!.status, 200)
  await eventually('the copy was answered', () => gateway.mirrored.length === 1)
  t.match(shadow.received, [{ body: 'hello', complete: true }])
  t.same(gateway.mirrored, [['marketing', 'answered']])
})

t.test('an upload that is reset over HTTP/2, even without an error, is never copied', async (t) => {
  const { gateway, payments, marketing } = await startSite(t, `${SITE}\nserver: { http2: true, min_rate: 0 }`)
  const client = await rawHttp2(t, gateway.port)
  const fields = [
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', '/x'],
    [':authority', 'api.example'],
    ['x-user-id', 'alice'],
  ] as const
  client.send(frame(TYPE.headers, FLAG.endHeaders, 1, headerBlock(fields)), frame(TYPE.data, 0, 1, 'half'))
  await eventually('half of it is there', () => payments.received[0]?.body === 'half')
  client.send(frame(TYPE.reset, 0, 1, uint32(0)))
  await gateway.recorded(1)
  await eventually('the copy is accounted for', () => gateway.mirrored.length === 1)
  t.same(gateway.mirrored, [['marketing', 'aborted']])
  t.same([payments.received[0]!.complete, marketing.received], [false, []])
})

t.test('an upload that breaks off is never copied', async (t) => {
  const { gateway, marketing } = await startSite(t, SITE)
  const client = await openRaw(gateway.port)
  client.write(`${rawRequest('POST /x', ME, 'Content-Length: 10')}hello`)
  await eventually('the request is under way', () => gateway.watchdog.size() > 0)
  client.socket.destroy()
  await eventually('it is accounted for', () => gateway.mirrored.length === 1)
  t.same(gateway.mirrored, [['marketing', 'aborted']])
  t.equal(marketing.received.length, 0)
  t.equal(gateway.watchdog.size(), 0)
})

t.test('a request that the gateway refuses is not copied', async (t) => {
  const { gateway, marketing } = await startSite(t, SITE.replace('100/min', '1/min'))
  await rawExchange(gateway.port, rawRequest('GET /x', ME))
  t.equal((await rawExchange(gateway.port, rawRequest('GET /x', ME))).responses[0]!.status, 429)
  t.equal((await rawExchange(gateway.port, rawRequest('GET /x'))).responses[0]!.status, 401)
  await eventually('the one', () => gateway.mirrored.length === 1)
  t.equal(marketing.received.length, 1)
})

t.test('the configured share is copied, at most 256 requests at once', async (t) => {
  const marketing = await recordingUpstream(t, (req) => void req.resume())
  const { gateway } = await startSite(
    t,
    SITE.replace('{ service: marketing }', '{ service: marketing, share: 25 }'),
    {
      marketing,
    },
  )
  const results: string[] = []
  let draws = 0
  const mirror = createMirror(
    {
      upstreams: gateway.upstreams,
      watchdog: gateway.watchdog,
      metrics: { mirrored: (_, result) => void results.push(result) },
      internal: () => ({ code: 'internal' }),
    },
    () => (draws++ % 100) / 100,
  )
  const req = { httpVersionMinor: 1, once() {}, off() {}, on() {} } as never
  let copies = 0
  for (let i = 0; i < 1_200; i++) {
    const x = exchangeFor(gateway.snapshot())
    x.route = gateway.snapshot().routes[0]
    if (mirror.copy(x, req) !== undefined) copies++
  }
  t.equal(copies, 256)
  t.same([results.length, new Set(results)], [44, new Set(['busy'])], '25 of 100 were due')
})
