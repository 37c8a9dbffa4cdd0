// Tests src/config/snapshot/cdn.ts
import fc from 'fast-check'
import t, { type Test } from 'tap'
import type { Route } from '../../../src/config/snapshot/snapshot.js'
import type { Refusal } from '../../../src/errors.js'
import { checkEdge, pathOf } from '../../../src/gateway/stages/edge.js'
import { matchRoute } from '../../../src/gateway/stages/route.js'
import type { EdgeReason } from '../../../src/telemetry/metrics/recorder.js'
import { type Asked, exchangeFor } from '../../support/gateway/exchange.js'
import { snapshotOf, startGateway } from '../../support/gateway/gateway.js'
import { startFaces } from '../../support/http/faces.js'
import { http2Client } from '../../support/http/http2-client.js'
import { rawExchange, rawRequest } from '../../support/http/raw.js'
import { recordingUpstream } from '../../support/http/upstream.js'
import { handshake } from '../../support/http/websocket.js'

function config(edge: string, upstream = 'http://127.0.0.1:9', more = ''): string {
  return `
tiers: [free]
trusted_proxies: [10.0.0.0/8]
edge:
${edge}
services: { api: { upstreams: ["${upstream}"], limits: { free: unlimited } } }
routes: [{ path: /*, service: api, websocket: true }]
${more}`
}

function edgeOf(edge: string) {
  const snapshot = snapshotOf(config(edge))
  const denied: EdgeReason[] = []
  let now = 1000
  const stage = checkEdge({
    metrics: { edgeDenied: (reason) => void denied.push(reason) },
    clock: () => now,
  })
  const ask = (asked: Asked = {}) => {
    const x = exchangeFor(snapshot, asked)
    return { refusal: stage(x), x }
  }
  const reasonOf = (asked: Asked = {}): EdgeReason | undefined => {
    denied.length = 0
    ask(asked)
    return denied[0]
  }
  const advance = (ms: number) => {
    now += ms
  }
  return { ask, reasonOf, advance }
}

const agent = (name: string) => ['User-Agent', name]

t.test('an address, a country, a client, a path or a score may be denied', async (t) => {
  const { ask, reasonOf } = edgeOf(`
  cdn: cloudflare
  deny:
    - 198.51.100.0/24
    - 2001:db8:bad::/48
    - { file: test/fixtures/addresses.txt }
    - { country: [kp, T1] }
    - { user_agent: { contains: SQLmap } }
    - { user_agent: { prefix: masscan/ } }
    - { user_agent: { exact: curl } }
    - { user_agent: { exact: "" } }
    - { path: /.env }
    - { path: /wp-* }
    - { bot_score_below: 10 }`)
  const good = agent('Mozilla/5.0')
  const cases: [EdgeReason | undefined, Asked][] = [
    [undefined, { headers: good }],
    ['deny_list', { headers: good, peer: '198.51.100.66' }],
    ['deny_list', { headers: good, peer: '::ffff:198.51.100.66' }],
    ['deny_list', { headers: good, peer: '2001:db8:bad:1::2' }],
    ['deny_list', { headers: good, peer: '192.0.2.127' }],
    ['deny_list', { headers: good, peer: '192.0.2.200' }],
    [undefined, { headers: good, peer: '192.0.2.201' }],
    ['deny_list', { headers: [...good, 'X-Forwarded-For', '1.1.1.1, 198.51.100.66'], peer: '10.0.0.1' }],
    ['country', { headers: [...good, 'CF-IPCountry', 'KP'], peer: '10.0.0.1' }],
    ['country', { headers: [...good, 'cf-ipcountry', 't1'], peer: '10.0.0.1' }],
    [undefined, { headers: [...good, 'CF-IPCountry', 'DE'], peer: '10.0.0.1' }],
    [undefined, { headers: [...good, 'CF-IPCountry', 'KP'], peer: '192.0.2.9' }],
    ['bot_score', { headers: [...good, 'cf-bot-score', '9'], peer: '10.0.0.1' }],
    [undefined, { headers: [...good, 'cf-bot-score', '10'], peer: '10.0.0.1' }],
    [undefined, { headers: [...good, 'cf-bot-score', 'none'], peer: '10.0.0.1' }],
    ['user_agent', { headers: agent('x sqlMAP/1.7') }],
    ['user_agent', { headers: agent('Masscan/1.3') }],
    [undefined, { headers: agent('not masscan/1.3') }],
    ['user_agent', { headers: agent('curl') }],
    [undefined, { headers: agent('curl/8') }],
    ['user_agent', {}],
    ['path', { headers: good, target: '/.env' }],
    ['path', { headers: good, target: '/.ENV?x=1' }],
    ['path', { headers: good, target: '/%2eenv/prod' }],
    ['path', { headers: good, target: '//.env' }],
    ['path', { headers: good, target: 'http://gateway.example/.env' }],
    [undefined, { headers: good, target: '/.envoy' }],
    ['path', { headers: good, target: '/WP-login.php' }],
    [undefined, { headers: good, target: '/a/wp-login' }],
  ]
  for (const [reason, asked] of cases) t.equal(reasonOf(asked), reason, JSON.stringify(asked))
  t.match(ask({ headers: good, peer: '198.51.100.66' }).refusal, {
    code: 'forbidden',
    cause: 'edge.deny: 198.51.100.0/24',
  })
})

t.test('allow wins over deny, and lets in nobody else', async (t) => {
  const { reasonOf } = edgeOf(`
  deny: [0.0.0.0/0, "::/0", { user_agent: { contains: bot } }]
  allow: [203.0.113.0/24, { path: /robots.txt }]
  ip_limit: { rate: 1/min }`)
  t.equal(reasonOf({ peer: '192.0.2.1' }), 'deny_list')
  t.equal(reasonOf({ peer: '2001:db8::1' }), 'deny_list')
  for (let i = 0; i < 3; i++) t.equal(reasonOf({ peer: '203.0.113.9', headers: agent('bot') }), undefined)
  t.equal(reasonOf({ peer: '192.0.2.1', target: '/robots.txt' }), undefined)
  t.equal(reasonOf({ peer: '192.0.2.1', target: '/robots.txt' }), 'ip_limit', 'but not without limit')
})

t.test('link-local addresses are denied and limited like others', async (t) => {
  const { reasonOf } = edgeOf('  deny: [0.0.0.0/0, "::/0"]')
  t.equal(reasonOf({ peer: 'fe80::1%eth0' }), 'deny_list')
  t.equal(reasonOf({ peer: 'fe80::1' }), 'deny_list')
  const { ask } = edgeOf('  ip_limit: { rate: 1/s, burst: 1 }')
  t.equal(ask({ peer: 'fe80::1%eth0' }).refusal, undefined)
  t.match(
    ask({ peer: 'fe80::2%eth1' }).refusal,
    { code: 'address_limited' },
    'one /64, whatever the link is called',
  )
})

t.test('a path is denied in every spelling that a backend may take for it, on every face', async (t) => {
  const upstream = await recordingUpstream(t)
  const yaml = `
tiers: [free]
edge: { deny: [{ path: /admin }, { path: /.env }, { path: /wp-* }], allow: [{ path: /open }] }
services: { api: { upstreams: ["${upstream.origin}"] } }
routes: [{ path: /*, service: api, websocket: true, allow_encoded: true }]
`
  const denied = [
    '/admin;x',
    '/admin;x=1/y',
    '/admin%3Bx',
    '/admin%2fx',
    '/admin%5Cx',
    '/%2561dmin',
    '/%252561dmin',
    '/admin%20',
    '/admin%2520/x',
    '/.env%3fx',
    '/.env%23x',
    '/.env%253Fx',
    '/;x/admin',
    '/%2Fadmin',
    '/ADMIN%2FX',
    '/wp%2Dlogin;x',
    '/%77p-login%2Fx',
  ]
  const passed = ['/administration;x', '/x%2fadmin', '/a;admin', '/open;x', '/a%20b', '/100%25']
  for (const face of await startFaces(t, yaml)) {
    const before = upstream.received.length
    for (const target of denied)
      t.match(await face.ask({ target }), { status: 403 }, `${face.name} ${target}`)
    t.equal(upstream.received.length, before, face.name)
    for (const target of passed)
      t.not((await face.ask({ target })).status, 403, `${face.name} ${target} is another path`)
  }
})

t.test('an allowed path is allowed only as it is written', async (t) => {
  const { reasonOf } = edgeOf(`
  deny: [0.0.0.0/0]
  allow: [{ path: /open }]`)
  t.equal(reasonOf({ target: '/open' }), undefined)
  for (const target of ['/open;x', '/%256Fpen', '/open%20', '/open%3Fx']) {
    t.equal(reasonOf({ target }), 'deny_list', target)
  }
})

t.test('the edge checks the same path as the router', async () => {
  const found: string[] = []
  const snapshot = {
    ...snapshotOf(config('  deny: []')),
    match: (_: string, __: string, key: string) => {
      found.push(key)
      return undefined as Route | undefined
    },
  }
  const piece = fc.constantFrom(
    '/',
    '.',
    '..',
    '%2e',
    '%2F',
    'a',
    'A',
    '?',
    '#',
    ';',
    '%',
    'http://gateway.example',
    '*',
    '\\',
  )
  fc.assert(
    fc.property(fc.array(piece, { minLength: 1, maxLength: 12 }), (pieces) => {
      const target = pieces.join('')
      found.length = 0
      matchRoute(exchangeFor(snapshot, { target }))
      return found.length === 0 || pathOf(target) === found[0]!.toLowerCase()
    }),
    { numRuns: 2000 },
  )
})

t.test('an address has a request limit, a trusted proxy none', async (t) => {
  const { ask, advance } = edgeOf('  ip_limit: { rate: 2/s, burst: 3 }')
  for (let i = 0; i < 3; i++) t.equal(ask().refusal, undefined)
  const { refusal } = ask()
  t.match(refusal, { code: 'address_limited', headers: ['Retry-After', '1'] })
  t.match((refusal as Refusal).detail, /try again in 1 s/)
  advance(500)
  t.equal(ask().refusal, undefined)
  t.equal(ask().refusal?.code, 'address_limited')
  for (let i = 0; i < 20; i++) t.equal(ask({ peer: '10.0.0.1' }).refusal, undefined)
  for (let i = 0; i < 4; i++) {
    const { refusal } = ask({ peer: '10.0.0.1', headers: ['X-Forwarded-For', '198.51.100.1'] })
    t.equal(refusal?.code, i < 3 ? undefined : 'address_limited')
  }
})

t.test('each CDN names the address in its own header, which only trusted proxies may set', async (t) => {
  const cases: [cdn: string, headers: string[], client: string][] = [
    [
      'cloudflare',
      ['CF-Connecting-IP', '198.51.100.1', 'X-Forwarded-For', '1.1.1.1, 10.0.0.9'],
      '198.51.100.1',
    ],
    ['cloudflare', ['CF-Connecting-IP', '2001:db8::1'], '2001:db8::1'],
    ['cloudflare', ['CF-Connecting-IP', 'unknown', 'X-Forwarded-For', '1.1.1.1'], '1.1.1.1'],
    ['cloudfront', ['CloudFront-Viewer-Address', '198.51.100.1:46532'], '198.51.100.1'],
    ['cloudfront', ['CloudFront-Viewer-Address', '2001:db8::1:46532'], '2001:db8::1'],
    ['cloudfront', ['CloudFront-Viewer-Address', '[2001:db8::1]:46532'], '2001:db8::1'],
    ['fastly', ['Fastly-Client-IP', '198.51.100.1'], '198.51.100.1'],
    ['gcp', ['X-Forwarded-For', '1.1.1.1, 198.51.100.1, 203.0.113.80'], '198.51.100.1'],
    ['gcp', ['X-Forwarded-For', '198.51.100.1,203.0.113.80'], '198.51.100.1'],
    ['gcp', ['X-Forwarded-For', '203.0.113.80'], '203.0.113.80'],
    ['{ address_header: True-Client-IP }', ['True-Client-IP', '198.51.100.1'], '198.51.100.1'],
    [
      '{ preset: cloudflare, address_header: True-Client-IP }',
      ['True-Client-IP', '198.51.100.1', 'CF-Connecting-IP', '1.1.1.1'],
      '198.51.100.1',
    ],
  ]
  for (const [cdn, headers, client] of cases) {
    const { ask } = edgeOf(`  cdn: ${cdn}`)
    t.equal(ask({ headers, peer: '10.0.0.1' }).x.clientIp, client, `${cdn} ${headers}`)
    const stranger = ask({ headers, peer: '192.0.2.9' }).x
    t.equal(stranger.clientIp, '192.0.2.9', 'not believed of others')
    t.same(
      stranger.headers.forward,
      cdn.startsWith('{ preset') ? ['CF-Connecting-IP', '1.1.1.1'] : [],
      'it is not forwarded',
    )
  }
})

t.test('a repeated address header is refused', async (t) => {
  const { ask } = edgeOf('  cdn: cloudflare')
  const twice = ['CF-Connecting-IP', '198.51.100.1', 'cf-connecting-ip', '198.51.100.2']
  t.throws(() => ask({ headers: twice, peer: '10.0.0.1' }), /bad_header/)
  t.doesNotThrow(() => ask({ headers: twice, peer: '192.0.2.9' }))
  t.same(ask({ headers: ['cf_connecting_ip', '1.1.1.1'], peer: '10.0.0.1' }).x.headers.forward, [])
  const named = ['Connection', 'cf-connecting-ip', 'CF-Connecting-IP', '1.1.1.1']
  t.throws(() => ask({ headers: named, peer: '10.0.0.1' }), /bad_header/)
})

async function site(t: Test, edge: string, more = '') {
  const upstream = await recordingUpstream(t)
  const gateway = await startGateway(t, config(edge, upstream.origin, more))
  return { upstream, gateway }
}

const DENIED = '  deny: [{ user_agent: { exact: evil } }]'

t.test("the rules hold on the plain path, with Node's parser, on upgrades and over HTTP/2", async (t) => {
  const { upstream, gateway } = await site(
    t,
    `${DENIED}\n  allow: [{ path: /open }]`,
    'server: { http2: true }',
  )
  const http2 = await http2Client(t, gateway.origin)
  const faces: [string, () => Promise<number>][] = [
    [
      'plain',
      async () =>
        (await rawExchange(gateway.port, rawRequest('GET /a', 'User-Agent: evil'))).responses[0]!.status,
    ],
    [
      'with Connection: close',
      async () =>
        (await rawExchange(gateway.port, rawRequest('GET /a', 'User-Agent: evil', 'Connection: close')))
          .responses[0]!.status,
    ],
    [
      'with a body that is on its way',
      async () =>
        (await rawExchange(gateway.port, rawRequest('POST /a', 'User-Agent: evil', 'Content-Length: 5')))
          .responses[0]!.status,
    ],
    [
      'an upgrade',
      async () =>
        (await rawExchange(gateway.port, handshake('/a', { 'User-Agent': 'evil' }))).responses[0]!.status,
    ],
    ['HTTP/2', async () => (await http2.ask('/a', { 'user-agent': 'evil' })).status],
  ]
  for (const [what, ask] of faces) t.equal(await ask(), 403, what)
  await gateway.recorded(faces.length)
  for (const record of gateway.records) {
    t.match(record, { status: 403, error: 'forbidden', cause: 'edge.deny: user_agent', route: undefined })
  }
  t.same(
    gateway.edgeDenied,
    faces.map(() => 'user_agent'),
  )
  const { responses } = await rawExchange(gateway.port, rawRequest('GET /a', 'User-Agent: evil'))
  t.match(responses[0]!.body, /"code":"forbidden"/)
  t.notMatch(responses[0]!.body, /user_agent/, 'why is not for the caller')
  t.equal(upstream.received.length, 0)
  t.equal(
    (await rawExchange(gateway.port, rawRequest('GET /open', 'User-Agent: evil'))).responses[0]!.status,
    200,
  )
})

t.test('with action: close the client gets no response', async (t) => {
  const { upstream, gateway } = await site(t, `${DENIED}\n  action: close`, 'server: { http2: true }')
  const http2 = await http2Client(t, gateway.origin)
  for (const bytes of [
    rawRequest('GET /a', 'User-Agent: evil'),
    rawRequest('GET /a', 'User-Agent: evil', 'Connection: close'),
    rawRequest('POST /a', 'User-Agent: evil', 'Content-Length: 5'),
    handshake('/a', { 'User-Agent': 'evil' }),
  ]) {
    const { responses, closed } = await rawExchange(gateway.port, bytes)
    t.same(responses, [])
    t.ok(closed)
  }
  t.match(await http2.ask('/a', { 'user-agent': 'evil' }), { status: 0, code: 2 }, 'the stream is reset')
  await gateway.recorded(5)
  for (const record of gateway.records) t.match(record, { status: 403, error: 'forbidden', bytesOut: 0 })
  t.same(gateway.logged, [])
  t.equal(upstream.received.length, 0)
})

t.test('an address over its limit gets 429 before any other check', async (t) => {
  const { upstream, gateway } = await site(t, '  ip_limit: { rate: 1/h, burst: 2 }')
  const statuses: number[] = []
  for (let i = 0; i < 4; i++) {
    const { responses } = await rawExchange(gateway.port, rawRequest('GET /a'))
    statuses.push(responses[0]!.status)
    if (i === 3) {
      t.match(responses[0]!.header('retry-after'), /^3[56][0-9]{2}$/)
      t.match(responses[0]!.body, /abnormal-usage-detected.*"code":"address_limited"/)
    }
  }
  t.same(statuses, [200, 200, 429, 429])
  t.equal(upstream.received.length, 2)
  t.same(gateway.edgeDenied, ['ip_limit', 'ip_limit'])
  const upgrade = await rawExchange(gateway.port, handshake('/a'))
  t.equal(upgrade.responses[0]!.status, 429, 'all faces share the bucket')
})
