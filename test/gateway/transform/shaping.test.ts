// Tests src/gateway/stages/service.ts src/gateway/transform/response-headers.ts
import { gunzipSync } from 'node:zlib'
import t from 'tap'
import { eventually } from '../../support/eventually.js'
import { snapshotOf } from '../../support/gateway/gateway.js'
import { problemOf, startSite } from '../../support/gateway/site.js'
import { http2Client } from '../../support/http/http2-client.js'
import { rawExchange, rawRequest } from '../../support/http/raw.js'
import { recordingUpstream } from '../../support/http/upstream.js'
import { handshake, startChat } from '../../support/http/websocket.js'

const SERVICES = `
tiers: [free, pro]
consumers:
  - header: { name: x-user-id, from: anyone }
  - ip: {}
services:
  payments: { upstreams: [PAYMENTS], limits: { free: 3/min, pro: unlimited } }
  marketing: { upstreams: [MARKETING], limits: { free: 1/min, pro: unlimited } }
`

async function ask(port: number, line: string, ...fields: readonly string[]) {
  const { responses } = await rawExchange(port, rawRequest(line, ...fields))
  return responses[0]!
}

t.test('request fields are set, added and removed before the upstream sees them', async (t) => {
  const { gateway, payments } = await startSite(
    t,
    `${SERVICES}
routes:
  - path: /*
    service: payments
    headers:
      request:
        set: { X-Tier: "\${tier}", X-Caller: "id=\${consumer};r=\${request_id}", X-Where: "\${route} \${service} \${client_ip}", X-Number: 5 }
        add: { Accept-Language: de }
        remove: [cookie, x-user-id]
`,
  )
  await ask(
    gateway.port,
    'GET /a',
    'X-Request-Id: r-1',
    'X-User-Id: alice',
    'Cookie: a=1',
    'x-tier: enterprise',
    'X_Tier: enterprise',
    'Accept-Language: en',
    'X-Kept: as it came',
  )
  const [got] = payments.received
  t.same(got!.values('x-tier'), ['free'])
  t.same(got!.values('x_tier'), [], 'the twin that a CGI backend would take for it is gone, too')
  t.same(got!.values('x-caller'), ['id=alice;r=r-1'])
  t.same(got!.values('x-where'), ['/* payments 127.0.0.1'])
  t.same(got!.values('x-number'), ['5'])
  t.same(got!.values('accept-language'), ['en', 'de'])
  t.same(got!.values('cookie'), [])
  t.same(
    got!.values('x-user-id'),
    [],
    'the credential that identified the caller can be kept from the backend',
  )
  t.same(got!.values('x-kept'), ['as it came'])
})

t.test("a consumer's id in a field can neither end the field nor look like another", async (t) => {
  const { gateway, payments } = await startSite(
    t,
    `${SERVICES}
routes: [{ path: /*, service: payments, headers: { request: { set: { X-Caller: "<\${consumer}>" } } } }]
`,
  )
  for (const id of ['a%0Ab', 'a\tb', 'k\xe9', 'a b']) await ask(gateway.port, 'GET /', `X-User-Id: ${id}`)
  t.same(
    payments.received.flatMap((got) => got.values('x-caller')),
    ['<a%250Ab>', '<a%09b>', '<k%C3%A9>', '<a%20b>'],
  )
})

t.test('response fields are set, added and removed, and on refusals replace nothing', async (t) => {
  const payments = await recordingUpstream(t, (_, res) => {
    res.setHeader('Server', 'secret/1.0')
    res.setHeader('Cache-Control', 'public, max-age=60')
    res.setHeader('ETag', '"v1"')
    res.end('ok')
  })
  const { gateway } = await startSite(
    t,
    `${SERVICES}
routes:
  - path: /*
    service: payments
    headers:
      response:
        set: { Strict-Transport-Security: max-age=60, Content-Type: text/x, X-For: "\${consumer}" }
        add: { Link: </style>; rel=preload }
        remove: [server]
`,
    { payments },
  )
  const served = await ask(gateway.port, 'GET /', 'X-User-Id: alice')
  t.equal(served.header('server'), undefined)
  t.equal(served.header('strict-transport-security'), 'max-age=60')
  t.equal(served.header('content-type'), 'text/x')
  t.equal(served.header('link'), '</style>; rel=preload')
  t.equal(served.header('x-for'), 'alice')
  t.equal(served.header('cache-control'), 'public, max-age=60', 'Cache-Control stays as it is')
  t.equal(served.header('etag'), '"v1"')

  await ask(gateway.port, 'GET /', 'X-User-Id: alice')
  await ask(gateway.port, 'GET /', 'X-User-Id: alice')
  const denied = await ask(gateway.port, 'GET /', 'X-User-Id: alice')
  t.equal(denied.status, 429)
  t.equal(denied.header('strict-transport-security'), 'max-age=60')
  t.equal(denied.header('content-type'), 'application/problem+json')
  t.equal(denied.header('cache-control'), 'no-store')

  const unknown = await ask(gateway.port, 'GET /', `X-User-Id: ${'x'.repeat(300)}`)
  t.equal(unknown.status, 401)
  t.equal(unknown.header('x-for'), undefined, 'a field with an unknown consumer is left out')
})

t.test('a lower-case name is never read from the environment, an upper-case one is', async (t) => {
  const text = `${SERVICES.replace(/PAYMENTS|MARKETING/g, 'http://127.0.0.1:9001')}
routes: [{ path: /*, service: payments, headers: { request: { set: { X-A: "\${consumer} \${KEY} $\${tier}" } } } }]
`
  const { shape } = snapshotOf(text, { consumer: 'forged', KEY: `\${tier}`, tier: 'x' }).routes[0]!
  t.same(shape!.request!.put[0]!.value.pieces, ['', 'consumer', ` \${tier} \${tier}`])
  const elsewhere = text.replace('tiers: [free, pro]', `tiers: [free, pro]\nlog: { access: "\${consumer}" }`)
  t.equal(snapshotOf(elsewhere, { consumer: '/tmp/log', KEY: 'k' }).config.log.access, '/tmp/log')
  for (const bad of ['a\r\nX-Evil: 1', 'a\nb', '\u00e9', ' a ']) {
    const alone = text.replace(/"\$\{consumer\}.*?"/, `"\${KEY}"`)
    t.throws(() => snapshotOf(alone, { KEY: bad }), /cannot be the value of a header/)
  }
})

t.test('the path is rewritten, after the base path and before the query', async (t) => {
  const payments = await recordingUpstream(t)
  const { gateway } = await startSite(
    t,
    `${SERVICES.replace('[PAYMENTS]', '[PAYMENTS/base]').replace('free: 3/min', 'free: 100/min')}
routes:
  - { path: /v1/*, service: payments, rewrite: /v2/* }
  - { path: /users/:id/orders/:order, service: payments, rewrite: /orders/:order/of/:id }
`,
    { payments },
  )
  for (const target of ['/v1/a/b?x=/v1', '/v1', '/v1//c', '/users/7/orders/%40x', '/v1/%61']) {
    t.equal((await ask(gateway.port, `GET ${target}`)).status, 200)
  }
  for (const target of ['/v1/../x', '/v1/%2e%2e/x', '/users/..%2f/orders/1', '/v1/a%2fb']) {
    t.equal((await ask(gateway.port, `GET ${target}`)).status, 400, target)
  }
  t.same(
    payments.received.map(({ url }) => url),
    ['/base/v2/a/b?x=/v1', '/base/v2', '/base/v2/c', '/base/orders/%40x/of/7', '/base/v2/a'],
  )
})

t.test('a fixed response needs no service, no credential and no quota', async (t) => {
  const site = await startSite(
    t,
    `${SERVICES.replace('  - ip: {}\n', '')}
routes:
  - { path: /*, service: payments }
  - { path: /m/*, service: marketing }
  - { path: /robots.txt, respond: { body: "Disallow: /\\n" } }
  - { path: /status, methods: [GET], respond: { status: 203, body: '{"ok":"ü"}', headers: { Cache-Control: no-store } } }
  - { path: /old/*, respond: { status: 308, headers: { Location: https://example.com/ } } }
  - { path: /nothing, respond: { status: 204 } }
`,
  )
  const { gateway } = site
  const robots = await ask(gateway.port, 'GET /robots.txt')
  t.match(robots, { status: 200, body: 'Disallow: /\n' })
  t.equal(robots.header('content-type'), 'text/plain; charset=utf-8')
  t.ok(robots.header('x-request-id'))
  const status = await ask(gateway.port, 'GET /status')
  t.equal(status.status, 203)
  t.equal(status.header('content-type'), 'application/json')
  t.equal(status.header('content-length'), '11')
  t.equal(status.header('cache-control'), 'no-store')
  const moved = await ask(gateway.port, 'POST /old/x', 'Content-Length: 0')
  t.equal(moved.header('location'), 'https://example.com/')
  t.equal(moved.header('content-length'), '0')
  t.equal((await ask(gateway.port, 'GET /nothing')).header('content-length'), undefined)
  const head = await rawExchange(gateway.port, rawRequest('HEAD /status'), { head: true })
  t.equal(head.responses[0]!.header('content-length'), '11')
  t.notMatch(head.text, 'ok')
  const upload = await ask(gateway.port, 'POST /robots.txt', 'Content-Length: 5')
  t.equal(upload.header('connection'), 'close', 'a body that is not there yet is not waited for')
  t.equal(
    (await ask(gateway.port, 'DELETE /status')).status,
    401,
    'other requests take the route for everything else',
  )

  await gateway.recorded(7)
  t.equal(site.received(), 0)
  t.match(gateway.records[1], { status: 203, error: undefined, consumer: undefined, decision: undefined })
  t.equal(gateway.records[1]!.route!.service.name, 'none')
  const pipelined = await rawExchange(
    gateway.port,
    rawRequest('GET /robots.txt') + rawRequest('GET /x', 'X-User-Id: a') + rawRequest('GET /robots.txt'),
    { responses: 3 },
  )
  t.same(
    pipelined.responses.map(({ body }) => body),
    ['Disallow: /\n', 'ok', 'Disallow: /\n'],
  )
})

t.test('a service in maintenance answers 503 and takes no quota, until a reload ends it', async (t) => {
  const text = (maintenance: string) => `
tiers: [free]
services:
  payments: { upstreams: [PAYMENTS], limits: { free: 1/min }, maintenance: ${maintenance} }
  marketing: { upstreams: [MARKETING] }
routes:
  - { path: /*, service: payments, websocket: true }
  - { path: /m/*, service: marketing }
`
  const { gateway, payments, marketing } = await startSite(
    t,
    text('{ retry_after: 90s, detail: "Back at noon." }'),
  )
  for (let i = 0; i < 3; i++) {
    const refused = await ask(gateway.port, 'GET /x')
    t.equal(refused.status, 503)
    t.equal(refused.header('retry-after'), '90')
    t.match(problemOf(refused), { code: 'maintenance', detail: 'Back at noon.' })
  }
  t.match(gateway.records[0], { error: 'maintenance', decision: undefined })
  t.match(await rawExchange(gateway.port, handshake('/x')), { responses: [{ status: 503 }] })
  t.equal((await ask(gateway.port, 'GET /m/x')).status, 200, 'other services go on')
  t.equal(payments.received.length, 0)

  const on = text('false').replaceAll('PAYMENTS', payments.origin).replaceAll('MARKETING', marketing.origin)
  gateway.use(on)
  t.equal((await ask(gateway.port, 'GET /x')).status, 200)
  gateway.use(on.replace('maintenance: false', 'maintenance: true'))
  t.equal((await ask(gateway.port, 'GET /x')).header('retry-after'), '300')
})

t.test('a split counts for its first service, whichever serves, and the record names that', async (t) => {
  const { gateway, payments, marketing } = await startSite(
    t,
    `${SERVICES}
routes:
  - { path: /*, split: [{ service: payments, weight: 1 }, { service: marketing, weight: 1 }], sticky: consumer, refund_on: [5xx] }
  - { path: /canary/*, split: [{ service: payments, weight: 0 }, { service: marketing, weight: 1 }] }
`,
  )
  const served = new Map<string, string>()
  for (let i = 0; i < 30; i++) {
    const id = `X-User-Id: user-${i}`
    const first = await ask(gateway.port, 'GET /x', id)
    t.equal(first.header('ratelimit-policy'), '"minute";q=3;w=60')
    await ask(gateway.port, 'GET /x', id)
    const { route } = gateway.records.at(-1)!
    served.set(`user-${i}`, route!.service.name)
    t.equal(route!.quotaOf.name, 'payments')
    t.equal(route!.label, '/*')
  }
  t.equal(payments.received.length + marketing.received.length, 60)
  t.ok(payments.received.length > 10 && marketing.received.length > 10)
  for (const [id, service] of served) {
    const there = (service === 'payments' ? payments : marketing).received
    t.equal(there.filter((got) => got.values('x-user-id')[0] === id).length, 2, `${id} stays where it is`)
  }
  const before = marketing.received.length
  t.equal((await ask(gateway.port, 'GET /canary/x', 'X-User-Id: user-0')).status, 200)
  t.equal(
    (await ask(gateway.port, 'GET /canary/x', 'X-User-Id: user-0')).status,
    429,
    'one quota for both routes',
  )
  t.equal(marketing.received.length, before + 1)
})

t.test('a WebSocket goes to one service of a split, too, with the fields of its route', async (t) => {
  const chat = await startChat(t)
  const { gateway } = await startSite(
    t,
    `
tiers: [free]
services: { payments: { upstreams: [PAYMENTS] }, marketing: { upstreams: [${chat.origin}] } }
routes:
  - path: /*
    split: [{ service: payments, weight: 0 }, { service: marketing }]
    websocket: true
    rewrite: /rooms/*
    headers: { request: { set: { X-Tier: "\${tier}" } }, response: { set: { X-Seen: "yes" } } }
`,
  )
  const { responses } = await rawExchange(gateway.port, handshake('/x'))
  t.equal(responses[0]!.status, 101)
  t.equal(responses[0]!.header('x-seen'), 'yes')
  const refused = await rawExchange(gateway.port, handshake('/x', { 'Sec-WebSocket-Version': '8' }))
  t.match([refused.responses[0]!.status, refused.responses[0]!.header('x-seen')], [426, 'yes'])
  t.equal(chat.handshakes[0]!.url, '/rooms/x')
  t.equal(chat.handshakes[0]!.headers['x-tier'], 'free')
})

t.test('all of it holds over HTTP/2', async (t) => {
  const payments = await recordingUpstream(t, (_, res) => {
    res.writeHead(200, { 'Content-Type': 'application/json', Trailer: 'X-Sum' })
    res.write('[1,2,3]')
    res.addTrailers({ 'X-Sum': '6' })
    res.end()
  })
  const { gateway, marketing } = await startSite(
    t,
    `
tiers: [free]
server: { http2: true }
services:
  payments: { upstreams: [PAYMENTS] }
  marketing: { upstreams: [MARKETING] }
  old: { upstreams: [MARKETING/old], maintenance: true }
routes:
  - path: /*
    service: payments
    rewrite: /v2/*
    compress: true
    cors: { origins: [https://app.example.com] }
    headers: { response: { set: { X-Tier: "\${tier}" } } }
    mirror: { service: marketing }
  - { path: /old, service: old }
  - { path: /fixed, respond: { body: hello } }
`,
    { payments },
  )
  const client = await http2Client(t, gateway.origin)
  const origin = 'https://app.example.com'
  const served = await client.ask('/a', { origin, 'accept-encoding': 'gzip' }, '{}')
  t.match(served.headers, {
    'x-tier': 'free',
    'access-control-allow-origin': origin,
    'content-encoding': 'gzip',
  })
  t.equal(gunzipSync(Buffer.from(served.body, 'latin1')).toString(), '[1,2,3]')
  t.equal(served.trailers?.['x-sum'], '6', 'trailers of a compressed body are kept')
  t.equal(payments.received[0]!.url, '/v2/a')
  await eventually('the copy is there', () => gateway.mirrored.length === 1)
  t.match(marketing.received[0], { method: 'POST', url: '/v2/a', body: '{}' })
  const preflight = await client.ask('/a', {
    ':method': 'OPTIONS',
    origin,
    'access-control-request-method': 'PUT',
  })
  t.match(preflight, { status: 204, headers: { 'access-control-allow-methods': 'PUT' } })
  t.match(await client.ask('/fixed'), { status: 200, body: 'hello' })
  t.match(await client.ask('/old'), { status: 503, headers: { 'retry-after': '300' } })
})
