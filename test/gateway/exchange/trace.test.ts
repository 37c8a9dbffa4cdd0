import { Metadata, type ServerUnaryCall, type sendUnaryData, status } from '@grpc/grpc-js'
import t, { type Test } from 'tap'
import { eventually } from '../../support/eventually.js'
import { startGateway } from '../../support/gateway/gateway.js'
import { startSite } from '../../support/gateway/site.js'
import { callSpans, limiterSpan, serverSpan, startTracing } from '../../support/gateway/traced.js'
import { grpcClient, grpcUpstream } from '../../support/http/grpc.js'
import { hangingListener, refusingPort } from '../../support/http/hanging-listener.js'
import { openRaw, type RawResponse, rawExchange, rawRequest } from '../../support/http/raw.js'
import { rawUpstream, reset, respond } from '../../support/http/raw-upstream.js'
import { recordingUpstream } from '../../support/http/upstream.js'
import { handshake, startChat } from '../../support/http/websocket.js'
import type { CollectedSpan } from '../../support/telemetry/otlp-collector.js'

const SITE = `
tiers: [free]
trusted_proxies: [127.0.0.1]
consumers: [{ header: { name: x-user-id, from: anyone } }, { ip: {} }]
services:
  payments: { upstreams: [PAYMENTS], limits: { free: 2/min } }
routes:
  - { path: /payments/*, service: payments, websocket: true }
  - { path: /quiet/*, service: payments, headers: { request: { remove: [traceparent, tracestate] } } }
`
/** The same, with no trusted proxy. */
const EDGE = SITE.replace('trusted_proxies: [127.0.0.1]\n', '')
const TRACE = '0af7651916cd43dd8448eb211c80319c'
const SPAN = 'b7ad6b7169203331'
const PARENT = `00-${TRACE}-${SPAN}-01`
const UNSAMPLED = `00-${TRACE}-${SPAN}-00`

t.test('without tracing', async (t) => {
  const { gateway, payments } = await startSite(t, SITE)
  const send = async (...fields: string[]) => {
    const { records } = gateway
    const before = records.length
    await rawExchange(gateway.port, rawRequest('GET /payments/a', `X-User-Id: ${before}`, ...fields))
    await gateway.recorded(before + 1)
    return { got: payments.received.at(-1)!, trace: records.at(-1)!.trace }
  }

  t.test("a client's trace headers pass unchanged, and the log has the trace", async (t) => {
    const fields = [`TraceParent: ${PARENT}`, 'tracestate: a=1, b=2', 'tracestate: c=3', 'baggage: who=me']
    const { got, trace } = await send(...fields)
    t.same(got.values('traceparent'), [PARENT])
    t.same(got.values('tracestate'), ['a=1, b=2', 'c=3'])
    t.same(got.values('baggage'), ['who=me'])
    t.match(trace, { traceId: TRACE, spanId: SPAN, sampled: false })
  })

  t.test('a traceparent that is invalid, repeated or hop-by-hop names no trace', async (t) => {
    for (const [fields, passed] of [
      [[], 0],
      [['traceparent: 00-abc-def-01'], 1],
      [[`traceparent: ${PARENT}`, `traceparent: ${PARENT}`], 2],
      [[`traceparent: ${PARENT}`, 'Connection: traceparent'], 0],
    ] as const) {
      const { got, trace } = await send(...fields)
      t.equal(trace, undefined, fields.join())
      t.equal(got.values('traceparent').length, passed, fields.join())
    }
  })
})

async function startTracedSite(t: Test, yaml: string, sampling = {}, parts = {}) {
  const traced = await startTracing(t, sampling)
  const site = await startSite(t, yaml, parts, { tracing: traced.tracing })
  let count = 0
  return {
    ...site,
    ...traced,
    /** Sends a request of a new consumer. */
    async send(line: string, ...fields: string[]) {
      const id = `id-${count++}`
      const bytes = rawRequest(line, `X-Request-Id: ${id}`, `X-User-Id: ${id}`, ...fields)
      const { responses } = await rawExchange(site.gateway.port, bytes)
      await eventually('it is recorded', () => site.gateway.records.some(({ requestId }) => requestId === id))
      const record = site.gateway.records.find(({ requestId }) => requestId === id)!
      return { id, response: responses[0] as RawResponse, record, got: site.payments.received.at(-1)! }
    },
  }
}

/** Checks what holds for any request: its spans are of one trace, below the server span, and within its time. */
function checkTree(t: Test, spans: readonly CollectedSpan[]) {
  const server = serverSpan(spans)
  t.equal(new Set(spans.map(({ spanId }) => spanId)).size, spans.length, 'each has an id of its own')
  for (const span of spans) {
    t.equal(span.traceId, server.traceId)
    t.ok(span.start <= span.end, `${span.name} ends after it began`)
    if (span === server) continue
    t.equal(span.parentSpanId, server.spanId, `${span.name} is below the server span`)
    t.ok(span.start >= server.start && span.end <= server.end + 0.001, `${span.name} lies within it`)
  }
  return server
}

t.test('a request makes three spans: the request, its quota, and the call to its upstream', async (t) => {
  const { gateway, payments, collector, send } = await startTracedSite(t, SITE)
  const before = Date.now()
  const { id, record, got } = await send('GET /payments/a?card=4111', 'User-Agent: curl/8', 'Cookie: s3cret')
  const spans = await collector.trace(id)
  const server = checkTree(t, spans)
  t.equal(spans.length, 3)
  t.equal(server.parentSpanId, '')
  t.equal(server.name, 'GET /payments/*')
  t.same(server.attributes, {
    'http.request.method': 'GET',
    'url.path': '/payments/a',
    'url.scheme': 'http',
    'network.protocol.version': '1.1',
    'client.address': '127.0.0.1',
    'tidegate.request_id': id,
    'tidegate.config': gateway.snapshot().hash,
    'http.response.status_code': 200,
    'server.address': 'gateway.example',
    'server.port': 80,
    'user_agent.original': 'curl/8',
    'http.route': '/payments/*',
    'tidegate.service': 'payments',
    'tidegate.tier': 'free',
    'tidegate.consumer': id,
    'tidegate.limit': 'minute',
    'tidegate.decision': 'allowed',
    'tidegate.decided_by': 'store',
  })
  t.ok(server.start > before - 5 && server.end < Date.now() + 5, 'by the clock of the wall')
  t.notOk(server.failed)

  const limiter = limiterSpan(spans)!
  t.equal(limiter.kind, 'internal', 'counts in memory are no database')
  t.match(limiter.attributes, { 'tidegate.decided_by': 'store', 'tidegate.remaining': 1, 'tidegate.cost': 1 })

  const [call] = callSpans(spans)
  t.equal(call!.name, 'GET')
  t.same(call!.attributes, {
    'http.request.method': 'GET',
    'url.full': `${payments.origin}/payments/a`,
    'server.address': '127.0.0.1',
    'server.port': Number(payments.authority.split(':')[1]),
    'network.protocol.version': '1.1',
    'tidegate.service': 'payments',
    'http.response.status_code': 200,
  })
  t.same(
    got.values('traceparent'),
    [`00-${server.traceId}-${call!.spanId}-01`],
    'the upstream gets its parent span',
  )
  t.match(record.trace, { traceId: server.traceId, spanId: server.spanId, sampled: true })
  t.notMatch(JSON.stringify(spans), /s3cret|4111/)
  t.same(server.resource, { 'service.name': 'edge', 'service.instance.id': 'one' })
  t.match(collector.pushes[0], { path: '/v1/traces', headers: { authorization: 'Bearer s3cret' } })
})

t.test("a client's trace is continued, with its state and baggage", async (t) => {
  const { collector, send } = await startTracedSite(t, SITE, { sample: 0 })
  const fields = ['tracestate: a=1', 'tracestate: b=2', 'baggage: who=me']
  const { id, got } = await send('GET /payments/a', `traceparent: 00-${TRACE}-${SPAN}-03`, ...fields)
  const spans = await collector.trace(id)
  const server = checkTree(t, spans)
  const [call] = callSpans(spans)
  t.match(server, { traceId: TRACE, parentSpanId: SPAN, traceState: 'a=1,b=2' })
  t.equal(server.flags & 0x3ff, 0x303, 'sampled, random, and its parent is known to be elsewhere')
  t.equal(call!.flags & 0x3ff, 0x103)
  t.same(got.values('traceparent'), [`00-${TRACE}-${call!.spanId}-03`], 'sampled and random')
  t.same(got.values('tracestate'), ['a=1', 'b=2'])
  t.same(got.values('baggage'), ['who=me'])
})

t.test("sample and parent say whether a client's sampling decision counts", async (t) => {
  const decided = async (yaml: string, sampling: object, traceparent: string) => {
    const { send } = await startTracedSite(t, yaml, sampling)
    const { record, got } = await send('GET /payments/a', `traceparent: ${traceparent}`)
    if (!record.trace!.sampled) {
      t.same(got.values('traceparent'), [traceparent], 'unrecorded trace headers pass unchanged')
      t.match(record.trace, { traceId: TRACE, spanId: SPAN })
    } else t.equal(record.trace!.traceId, TRACE)
    return record.trace!.sampled
  }
  t.ok(await decided(SITE, { sample: 0 }, PARENT), 'a trusted proxy asks for a record')
  t.notOk(await decided(SITE, { sample: 1 }, UNSAMPLED), 'a trusted proxy asks for none')
  t.notOk(await decided(EDGE, { sample: 0 }, PARENT), 'an untrusted client cannot ask for a record')
  t.ok(await decided(EDGE, { sample: 1 }, UNSAMPLED), 'an untrusted client cannot prevent one')
  t.ok(await decided(EDGE, { sample: 0, parent: 'always' }, PARENT))
  t.notOk(await decided(SITE, { sample: 0, parent: 'never' }, PARENT))
  t.notOk(await decided(SITE, { sample: 0, maxPerSecond: 0 }, PARENT), 'and there is a bound for all')
})

t.test('a request that is not recorded gets no trace headers', async (t) => {
  const { send, collector, tracing } = await startTracedSite(t, SITE, { sample: 0 })
  const { record, got } = await send('GET /payments/a', 'tracestate: a=1')
  t.equal(record.trace, undefined)
  t.same(got.values('traceparent'), [])
  t.same(got.values('tracestate'), ['a=1'])
  await tracing.close()
  t.equal(collector.pushes.length, 0)
})

t.test('an invalid traceparent starts a new trace', async (t) => {
  const { send, collector } = await startTracedSite(t, SITE)
  for (const fields of [
    ['traceparent: 00-00000000000000000000000000000000-b7ad6b7169203331-01', 'tracestate: a=1'],
    [`traceparent: ${PARENT}`, `traceparent: ${PARENT}`, 'tracestate: a=1'],
    ['tracestate: a=1'],
  ]) {
    const { id, got } = await send('GET /payments/a', ...fields)
    const server = serverSpan(await collector.trace(id))
    t.not(server.traceId, TRACE)
    t.equal(server.parentSpanId, '')
    t.equal(got.values('traceparent').length, 1, 'one alone reaches the upstream')
    t.match(got.values('traceparent')[0], server.traceId)
    t.same(got.values('tracestate'), [], 'the state of another trace does not')
  }
  const { id, got } = await send('GET /payments/a', `traceparent: ${PARENT}`, 'tracestate: A=1')
  t.match(serverSpan(await collector.trace(id)), { traceId: TRACE, traceState: '' })
  t.same(got.values('tracestate'), [], 'a state that is not valid is dropped, its trace goes on')
})

t.test('a route that hides traces from its upstream still records them', async (t) => {
  const { send, collector } = await startTracedSite(t, SITE)
  const { id, got } = await send('GET /quiet/a', `traceparent: ${PARENT}`, 'tracestate: a=1')
  t.match(serverSpan(await collector.trace(id)), { traceId: TRACE, parentSpanId: SPAN })
  t.same([...got.values('traceparent'), ...got.values('tracestate')], [])
})

t.test('a denied request has no upstream span, and is no failure', async (t) => {
  const { gateway, collector } = await startTracedSite(t, SITE)
  for (let i = 0; i < 3; i++) {
    await rawExchange(gateway.port, rawRequest('GET /payments/a', `X-Request-Id: denied-${i}`))
  }
  const spans = await collector.trace('denied-2')
  const server = checkTree(t, spans)
  t.equal(spans.length, 2)
  t.match(server.attributes, {
    'http.response.status_code': 429,
    'error.type': 'quota_exceeded',
    'tidegate.decision': 'denied',
    'tidegate.limit': 'minute',
  })
  t.notOk(server.failed)
  t.match(limiterSpan(spans)!.attributes, { 'tidegate.decision': 'denied', 'tidegate.remaining': 0 })
})

t.test('a request without a route or with an unknown method has spans, too', async (t) => {
  const { send, collector } = await startTracedSite(t, SITE)
  const lost = serverSpan(await collector.trace((await send('GET /nowhere?a=b')).id))
  t.equal(lost.name, 'GET')
  t.match(lost.attributes, {
    'url.path': '/nowhere',
    'http.response.status_code': 404,
    'error.type': 'no_route',
  })
  const spans = await collector.trace((await send('PROPFIND /payments/a')).id)
  t.equal(serverSpan(spans).name, 'HTTP /payments/*')
  for (const span of [serverSpan(spans), callSpans(spans)[0]!]) {
    t.match(span.attributes, {
      'http.request.method': '_OTHER',
      'http.request.method_original': 'PROPFIND',
    })
  }
})

t.test('a decision without the store says so, and why', async (t) => {
  const traced = await startTracing(t)
  const decision = {
    allowed: true,
    decidedBy: 'open',
    reason: 'timeout',
    binding: 0,
    violated: 0,
    remaining: 0,
    resetMs: 0,
    retryMs: 0,
    at: 0,
  } as const
  const yaml = `${SITE}\nstore: { redis: 'redis://user:s3cret@redis.example:6380/3' }\n`
  const { gateway } = await startSite(
    t,
    yaml,
    {},
    {
      tracing: traced.tracing,
      limiter: { take: () => Promise.resolve(decision) },
    },
  )
  await rawExchange(gateway.port, rawRequest('GET /payments/a', 'X-Request-Id: open'))
  const spans = await traced.collector.trace('open')
  const server = checkTree(t, spans)
  const said = { 'tidegate.decided_by': 'open', 'tidegate.degraded': 'timeout' }
  t.match(server.attributes, said)
  t.notOk(server.failed)
  const limiter = limiterSpan(spans)!
  t.ok(limiter.failed)
  t.equal(limiter.kind, 'client')
  t.match(limiter.attributes, {
    ...said,
    'error.type': 'timeout',
    'db.system.name': 'redis',
    'db.operation.name': 'EVALSHA',
    'db.namespace': '3',
    'server.address': 'redis.example',
    'server.port': 6380,
  })
  t.notMatch(JSON.stringify(spans), /s3cret/)
})

t.test('every attempt is a span, and its upstream gets that span as parent', async (t) => {
  const broken = await refusingPort()
  const dying = await rawUpstream(t, (request) => reset(request.socket))
  const well = await rawUpstream(t)
  const { collector, send } = await startTracedSite(
    t,
    SITE.replace(
      'PAYMENTS',
      [broken.origin, dying.origin, well.origin].map((origin) => `'${origin}'`).join(', '),
    ),
  )
  const { id, response } = await send('GET /payments/a?b=c')
  t.equal(response.status, 200)
  const calls = callSpans(await collector.trace(id))
  t.equal(calls.length, 3)
  t.same(
    calls.map(({ attributes, failed }) => [
      attributes['url.full'],
      attributes['error.type'],
      attributes['http.response.status_code'],
      attributes['http.request.resend_count'],
      failed,
    ]),
    [
      [`${broken.origin}/payments/a`, 'upstream_refused', undefined, undefined, true],
      [`${dying.origin}/payments/a`, 'upstream_failed', undefined, 1, true],
      [`${well.origin}/payments/a`, undefined, 200, 2, false],
    ],
  )
  t.match(calls[0]!.message, /ECONNREFUSED/)
  t.match(dying.requests[0]!.values('traceparent')[0], calls[1]!.spanId)
  t.match(well.requests[0]!.values('traceparent')[0], calls[2]!.spanId)
})

t.test("an upstream's failure marks both spans as failed", async (t) => {
  const upstream = await rawUpstream(t, (request) => {
    if (request.target.endsWith('500')) respond(request, 'HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n')
    else if (request.target.endsWith('404')) respond(request, 'HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n')
    else {
      request.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe')
      setImmediate(() => reset(request.socket))
    }
  })
  const { collector, send } = await startTracedSite(t, SITE.replace('PAYMENTS', `'${upstream.origin}'`))
  const told = async (path: string) => {
    const spans = await collector.trace((await send(`POST ${path}`, 'Content-Length: 0')).id)
    return [serverSpan(spans), callSpans(spans)[0]!].map(({ attributes, failed }) => [
      attributes['http.response.status_code'],
      attributes['error.type'],
      failed,
    ])
  }
  t.same(await told('/payments/500'), [
    [500, '500', true],
    [500, '500', true],
  ])
  t.same(
    await told('/payments/404'),
    [
      [404, undefined, false],
      [404, '404', true],
    ],
    'a client that asks for nothing is wrong, as the conventions have it: its own span fails',
  )
  t.same(await told('/payments/cut'), [
    [200, 'upstream_cut', true],
    [200, 'upstream_cut', true],
  ])
})

t.test('a client that leaves ends both spans, and fails neither', async (t) => {
  const hanging = await hangingListener(t)
  const { gateway, collector } = await startTracedSite(t, SITE.replace('PAYMENTS', `'${hanging.origin}'`))
  const connection = await openRaw(gateway.port)
  connection.write(rawRequest('GET /payments/a', 'X-Request-Id: gone'))
  await eventually('it is with the upstream', () =>
    gateway.upstreams.describe().some(({ in_flight }) => in_flight > 0),
  )
  connection.socket.destroy()
  const spans = await collector.trace('gone')
  const server = checkTree(t, spans)
  t.match(server.attributes, { 'http.response.status_code': 499, 'error.type': 'client_closed' })
  t.match(callSpans(spans)[0]!.attributes, { 'error.type': 'client_closed' })
  t.notOk(server.failed || callSpans(spans)[0]!.failed)
})

t.test('a tunnel is one span until it closes', async (t) => {
  const chat = await startChat(t)
  const { gateway, collector } = await startTracedSite(t, SITE.replace('PAYMENTS', `'${chat.origin}'`))
  const connection = await openRaw(gateway.port)
  connection.write(handshake('/payments/chat', { 'X-Request-Id': 'tunnel', traceparent: PARENT }))
  await eventually('it is open', () => chat.sockets.length === 1)
  chat.sockets[0]!.terminate()
  const spans = await collector.trace('tunnel')
  const server = checkTree(t, spans)
  const [call] = callSpans(spans)
  t.match(server, { traceId: TRACE, parentSpanId: SPAN, name: 'GET /payments/*' })
  t.match(server.attributes, { 'http.response.status_code': 101 })
  t.match(call!.attributes, { 'http.response.status_code': 101 })
  t.equal(chat.handshakes[0]!.headers.traceparent, `00-${TRACE}-${call!.spanId}-01`)
})

t.test('a mirrored request is a span of its own, which may end later', async (t) => {
  const marketing = await recordingUpstream(t)
  const { collector, send } = await startTracedSite(
    t,
    SITE.replace('routes:', '  marketing: { upstreams: [MARKETING] }\nroutes:').replace(
      'websocket: true',
      'mirror: { service: marketing }',
    ),
    {},
    { marketing },
  )
  const { id, got } = await send('GET /payments/a')
  await eventually('the copy is recorded', () =>
    collector.spans.some((span) => span.attributes['tidegate.mirror']),
  )
  const spans = await collector.trace(id)
  const copy = spans.find(({ attributes }) => attributes['tidegate.mirror'] === true)!
  t.match(copy.attributes, { 'tidegate.service': 'marketing', 'http.response.status_code': 200 })
  t.equal(copy.parentSpanId, serverSpan(spans).spanId)
  t.match(marketing.received[0]!.values('traceparent')[0], copy.spanId)
  t.notMatch(got.values('traceparent')[0], copy.spanId)
})

t.test('gRPC calls over HTTP/2 record their status, from the server or the gateway', async (t) => {
  const { tracing, collector } = await startTracing(t)
  const origin = await grpcUpstream(t, {
    unary({ request, metadata }: ServerUnaryCall<string, string>, reply: sendUnaryData<string>) {
      if (request === 'fail') reply({ code: status.UNAVAILABLE, details: 'not now' })
      else reply(null, String(metadata.get('traceparent')))
    },
  })
  const yaml = `
tiers: [free]
services: { echo: { upstreams: ['${origin}'], protocol: http2, limits: { free: 2/min } } }
routes: [{ path: /test.Echo/*, service: echo }]
server: { http2: true }
`
  const gateway = await startGateway(t, yaml, { tracing })
  const client = grpcClient(t, gateway.port)
  const call = async (text: string) => {
    const id = `grpc-${text}`
    const metadata = new Metadata()
    metadata.set('x-request-id', id)
    const answer = await new Promise<string | undefined>((resolve) => {
      client.unary(text, metadata, {}, (error, value) => resolve(error?.details ?? value))
    })
    return { answer, spans: await collector.trace(id) }
  }
  const told = (spans: readonly CollectedSpan[]) =>
    [serverSpan(spans), ...callSpans(spans)].map(({ attributes, failed }) => [
      attributes['rpc.response.status_code'],
      attributes['network.protocol.version'],
      failed,
    ])

  const well = await call('well')
  t.same(told(well.spans), [
    ['OK', '2', false],
    ['OK', '2', false],
  ])
  t.match(well.answer, callSpans(well.spans)[0]!.spanId)
  t.same(told((await call('fail')).spans), [
    ['UNAVAILABLE', '2', true],
    ['UNAVAILABLE', '2', true],
  ])
  t.same(told((await call('more')).spans), [['RESOURCE_EXHAUSTED', '2', false]])
})
