import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type AddressInfo, connect, createServer } from 'node:net'
import t, { type Test } from 'tap'
import { createForwardAuth } from '../../../src/credentials/forward-auth.js'
import { respond } from '../../../src/extension/respond.js'
import { BANS, createBans } from '../../../src/fleet/bans.js'
import { createMemoryMap } from '../../../src/fleet/replicated-map.js'
import { explainOver } from '../../support/gateway/explain.js'
import { type Overrides, startGateway } from '../../support/gateway/gateway.js'
import { instances } from '../../support/gateway/hooks.js'
import { http2Client } from '../../support/http/http2-client.js'
import { rawExchange } from '../../support/http/raw.js'
import { recordingUpstream } from '../../support/http/upstream.js'
import { handshake, startChat } from '../../support/http/websocket.js'

// Tests src/gateway/stages/forward-auth.ts
// Tests src/gateway/transform/auth-fields.ts
// Tests src/config/snapshot/forward.ts

type Handler = (req: IncomingMessage, res: ServerResponse) => void

/** Lets the bearer tokens alice and bob in, as a service behind forward auth would. */
const byToken: Handler = (req, res) => {
  const name = /^Bearer (alice|bob)$/.exec(req.headers.authorization ?? '')?.[1]
  if (name === undefined) {
    res.writeHead(401, {
      'WWW-Authenticate': 'Bearer realm="auth"',
      'Content-Type': 'text/plain',
      'X-Internal': 'db-7',
    })
    res.end('who are you?')
  } else {
    res.writeHead(200, {
      'X-User-Id': name,
      'X-Plan': 'pro',
      'X-Org': `org-of-${name}`,
      'X-Email': `${name}@example.com`,
    })
    res.end('the body of a 2xx is for nobody')
  }
}

interface Site {
  readonly consumer?: string
  readonly route?: string
  readonly more?: string
  readonly service?: Handler
  readonly overrides?: Overrides
}

async function site(t: Test, { consumer, route, more = '', service = byToken, overrides }: Site) {
  const upstream = await recordingUpstream(t)
  const auth = await recordingUpstream(t, service)
  const put = (text: string) => text.replaceAll('AUTH', `${auth.origin}/check`)
  const gateway = await startGateway(
    t,
    `
tiers: [free, pro]
${consumer === undefined ? '' : `consumers:\n${put(consumer)}`}
services: { api: { upstreams: ["${upstream.origin}"] } }
routes: [{ path: /*, service: api, websocket: true${route === undefined ? '' : `, auth: ${put(route)}`} }]
${more}`,
    overrides,
  )
  const ask = (headers: Record<string, string> = {}, path = '/', init: RequestInit = {}) =>
    fetch(gateway.origin + path, { redirect: 'manual', ...init, headers })
  return { upstream, auth, gateway, ask }
}

const CONSUMER =
  '  - forward: { url: "AUTH", headers: [authorization], id: x-user-id, tier: x-plan, tenant: x-org, upstream_headers: [x-email] }'

t.test('a service identifies consumer, tier and tenant by its response', async (t) => {
  const { upstream, auth, gateway, ask } = await site(t, { consumer: CONSUMER })
  t.equal((await ask({ authorization: 'Bearer alice' }, '/a%20b?c=1')).status, 200)
  await gateway.recorded(1)
  t.match(gateway.records[0], {
    consumer: 'alice',
    tenant: 'org-of-alice',
    tier: 1,
    tierFrom: 'credential',
    identifiedBy: 'forward',
  })
  const [call] = auth.received
  t.equal(call!.method, 'GET')
  t.equal(call!.url, '/check')
  t.same(pairs(call!.rawHeaders), {
    host: auth.authority,
    connection: 'keep-alive',
    'x-forwarded-method': 'GET',
    'x-forwarded-proto': 'http',
    'x-forwarded-host': `127.0.0.1:${gateway.port}`,
    'x-forwarded-uri': '/a%20b?c=1',
    'x-forwarded-for': '127.0.0.1',
    'x-original-uri': '/a%20b?c=1',
    authorization: 'Bearer alice',
  })
  const [got] = upstream.received
  t.same(got!.values('x-email'), ['alice@example.com'])
  t.same(got!.values('authorization'), ['Bearer alice'], 'a credential that was checked goes on')
  t.same(got!.values('x-user-id'), [], 'what was not chosen does not')
})

t.test('a client without the header is not asked about, and one with it is', async (t) => {
  const { auth, gateway, ask } = await site(t, {
    consumer: `${CONSUMER}\n  - api_key: { keys: [{ key: key-of-acme, consumer: acme }] }`,
  })
  t.equal((await ask({ 'x-api-key': 'key-of-acme' })).status, 200)
  t.equal(auth.received.length, 0)
  const none = await ask()
  t.equal(none.status, 401)
  t.match(await none.json(), { detail: 'Send a credential in authorization or x-api-key.' })
  t.equal((await ask({ authorization: 'Bearer mallory', 'x-api-key': 'key-of-acme' })).status, 401)
  t.equal(auth.received.length, 1, 'a bad credential never leads to the next source')
  await gateway.recorded(3)
  t.equal(gateway.records[0]!.consumer, 'acme')
})

t.test('an answer other than 2xx is the answer of the client', async (t) => {
  const { upstream, gateway, ask } = await site(t, { consumer: CONSUMER })
  const response = await ask({ authorization: 'Bearer mallory' })
  t.equal(response.status, 401)
  t.equal(response.headers.get('www-authenticate'), 'Bearer realm="auth"')
  t.equal(response.headers.get('content-type'), 'text/plain')
  t.equal(response.headers.get('cache-control'), 'no-store')
  t.equal(response.headers.get('x-internal'), null, 'the headers that a client needs, and no others')
  t.equal(await response.text(), 'who are you?')
  const head = await ask({ authorization: 'Bearer mallory' }, '/', { method: 'HEAD' })
  t.equal(head.status, 401)
  t.equal(await head.text(), '')
  t.equal((await ask({ authorization: 'Bearer alice' })).status, 200, 'and the connection goes on')
  t.equal(upstream.received.length, 1)
  await gateway.recorded(3)
  t.match(gateway.records[0], {
    status: 401,
    error: undefined,
    cause: /^auth service 127\.0\.0\.1:\d+$/,
  })
})

// https://nginx.org/en/docs/http/ngx_http_auth_request_module.html
t.test("what nginx's auth_request documents", async (t) => {
  const rows: [
    status: number,
    fields: Record<string, string>,
    client: number,
    passes: boolean,
    of: string,
  ][] = [
    [200, {}, 200, true, '2xx allows'],
    [202, {}, 200, true, '2xx allows'],
    [204, {}, 200, true, '2xx allows'],
    [299, {}, 200, true, '2xx allows'],
    [401, { 'WWW-Authenticate': 'Basic realm="x"' }, 401, false, '401 denies, with WWW-Authenticate'],
    [403, {}, 403, false, '403 denies'],
    [500, {}, 500, false, 'any other denies (nginx: 500)'],
    [302, { Location: 'https://login.example.com/' }, 302, false, 'any other denies (nginx: 500)'],
    [404, {}, 404, false, 'any other denies (nginx: 500)'],
  ]
  let row = rows[0]!
  const { upstream, auth, ask } = await site(t, {
    route: '{ forward: { url: "AUTH", cache: { for: 0 } } }',
    service: (_, res) => void res.writeHead(row[0], row[1]).end(),
  })
  for (row of rows) {
    const before = upstream.received.length
    const response = await ask({ authorization: 'Bearer x' }, '/private/', { method: 'POST', body: 'a body' })
    t.equal(response.status, row[2], row[4])
    t.equal(upstream.received.length - before, Number(row[3]), row[4])
    for (const [name, value] of Object.entries(row[1])) t.equal(response.headers.get(name), value, row[4])
    const call = auth.received.at(-1)!
    t.same(
      [call.method, call.body, call.values('content-length'), call.values('x-original-uri')],
      ['GET', '', [], ['/private/']],
      'the service gets no body (proxy_pass_request_body off), and the URI',
    )
    t.same(call.values('authorization'), ['Bearer x'])
  }
})

// https://doc.traefik.io/traefik/reference/routing-configuration/http/middlewares/forwardauth/
t.test("what Traefik's ForwardAuth documents", async (t) => {
  const { upstream, auth, gateway, ask } = await site(t, {
    route:
      '{ forward: { url: "AUTH", headers: [cookie, x-chosen], upstream_headers: [x-auth-user, authorization, x-none], cache: { for: 0 } } }',
    service(req, res) {
      if (req.headers.cookie === undefined) {
        res.writeHead(307, {
          Location: 'https://auth.example.com/?rd=/app',
          'Set-Cookie': ['csrf=1; Path=/', 'b=2'],
        })
        res.end('go there')
        return
      }
      res.setHeader('X-Auth-User', ['first', 'second'])
      res.setHeader('Authorization', 'Bearer internal')
      res.setHeader('Set-Cookie', ['session=2; HttpOnly', 'other=3'])
      res.end()
    },
  })
  const denied = await ask({ 'x-chosen': 'yes', 'x-other': 'no' }, '/app?x=1', { method: 'PUT' })
  t.equal(denied.status, 307, 'the response of the service is returned')
  t.equal(denied.headers.get('location'), 'https://auth.example.com/?rd=/app')
  t.same(denied.headers.getSetCookie(), ['csrf=1; Path=/', 'b=2'])
  t.equal(await denied.text(), 'go there')
  const [call] = auth.received
  const sent: [string, string[]][] = [
    ['x-forwarded-method', ['PUT']],
    ['x-forwarded-proto', ['http']],
    ['x-forwarded-host', [`127.0.0.1:${gateway.port}`]],
    ['x-forwarded-uri', ['/app?x=1']],
    ['x-forwarded-for', ['127.0.0.1']],
    ['x-chosen', ['yes']],
    ['x-other', []],
  ]
  for (const [name, values] of sent) t.same(call!.values(name), values, name)

  const allowed = await ask({
    cookie: 'session=1',
    authorization: 'Bearer of-the-client',
    'x-auth-user': 'root',
    'x-none': 'forged',
  })
  t.equal(allowed.status, 200)
  t.same(allowed.headers.getSetCookie(), ['session=2; HttpOnly', 'other=3'], 'addAuthCookiesToResponse')
  const [got] = upstream.received
  t.same(got!.values('x-auth-user'), ['first', 'second'], 'authResponseHeaders replace what the client sent')
  t.same(got!.values('authorization'), ['Bearer internal'])
  t.same(got!.values('x-none'), [], 'also where the service sends none')
  t.same(got!.values('cookie'), ['session=1'])
  t.same(got!.values('set-cookie'), [])
})

t.test('a service shaped as oauth2-proxy logs browsers in', async (t) => {
  const { upstream, auth, gateway, ask } = await site(t, {
    consumer:
      '  - forward: { url: "AUTH", headers: [cookie], id: x-auth-request-user, upstream_headers: [x-auth-request-email] }\n  - api_key: { keys: [{ key: key-of-acme, consumer: acme }] }',
    route: '{ forward: { url: "AUTH" } }',
    service(req, res) {
      const cookie = req.headers.cookie ?? ''
      if (!cookie.includes('_oauth2_proxy=')) {
        const uri = encodeURIComponent(
          `${req.headers['x-forwarded-proto']}://${req.headers['x-forwarded-host']}${req.headers['x-forwarded-uri']}`,
        )
        res
          .writeHead(302, {
            Location: `/oauth2/start?rd=${uri}`,
            'Set-Cookie': '_oauth2_proxy_csrf=x',
            'Cache-Control': 'no-cache, no-store',
          })
          .end()
        return
      }
      // Like its --cookie-refresh, for an old session.
      if (cookie.includes('old')) res.setHeader('Set-Cookie', '_oauth2_proxy=fresh; HttpOnly')
      res
        .writeHead(202, { 'X-Auth-Request-User': 'carol', 'X-Auth-Request-Email': 'carol@example.com' })
        .end()
    },
  })
  const first = await ask({}, '/app?tab=1')
  t.equal(first.status, 302, 'one without a cookie is asked about, because the route has the same url')
  t.equal(
    first.headers.get('location'),
    `/oauth2/start?rd=${encodeURIComponent(`${gateway.origin}/app?tab=1`)}`,
  )
  t.same(first.headers.getSetCookie(), ['_oauth2_proxy_csrf=x'])
  t.equal(first.headers.get('cache-control'), 'no-cache, no-store')
  t.equal(
    (await ask({ cookie: '_oauth2_proxy=good', 'x-auth-request-email': 'root@example.com' })).status,
    200,
  )
  t.equal(auth.received.length, 2, 'one call serves consumer and route')
  const old = await ask({ cookie: '_oauth2_proxy=old' })
  t.same(old.headers.getSetCookie(), ['_oauth2_proxy=fresh; HttpOnly'])
  t.equal((await ask({ cookie: '_oauth2_proxy=good' })).status, 200)
  t.equal(auth.received.length, 3, 'the answer is remembered')
  await gateway.recorded(4)
  t.match(gateway.records[1], { consumer: 'carol', identifiedBy: 'forward' })
  for (const got of upstream.received) t.same(got.values('x-auth-request-email'), ['carol@example.com'])

  t.equal(
    (await ask({ 'x-api-key': 'key-of-acme' })).status,
    302,
    'the route asks about other consumers, too',
  )
  t.equal((await ask({ 'x-api-key': 'key-of-acme', cookie: '_oauth2_proxy=good' })).status, 200)
  await gateway.recorded(6)
  t.equal(gateway.records[5]!.consumer, 'carol', 'the first source of the file counts')
})

t.test('a route may let its service say who the client is, where only the address is known', async (t) => {
  const route = '{ forward: { url: "AUTH", id: x-user-id, tier: x-plan, tenant: x-org } }'
  const { upstream, gateway, ask } = await site(t, { route })
  t.equal((await ask()).status, 401)
  t.equal((await ask({ authorization: 'Bearer bob', 'x-user-id': 'root' })).status, 200)
  await gateway.recorded(2)
  t.match(gateway.records[1], { consumer: 'bob', tenant: 'org-of-bob', tier: 1, identifiedBy: 'forward' })
  t.same(upstream.received[0]!.values('authorization'), ['Bearer bob'])
  t.same(upstream.received[0]!.values('x-user-id'), [])
  const consumer = '  - api_key: { keys: [{ key: key-of-acme, consumer: acme }] }'
  const keyed = await site(t, { route, consumer })
  t.equal((await keyed.ask({ authorization: 'Bearer bob' })).status, 401, 'a key is required first')
  t.equal((await keyed.ask({ authorization: 'Bearer bob', 'x-api-key': 'key-of-acme' })).status, 200)
  await keyed.gateway.recorded(2)
  t.match(keyed.gateway.records[1], { consumer: 'acme', identifiedBy: 'api_key' })
})

t.test('nothing that a client sends passes for what a service sets', async (t) => {
  const { upstream, ask, gateway } = await site(t, {
    consumer: CONSUMER,
    more: '',
    route: '{ any_of: [forward], required: false }',
  })
  const forged = {
    'x-user-id': 'root',
    'x-plan': 'pro',
    'x-org': 'org-of-bob',
    'x-email': 'root@example.com',
    X_Email: 'root@example.com',
    'x.user.id': 'root',
  }
  for (const authorization of [undefined, 'Bearer alice']) {
    const one = await ask({ ...forged, ...(authorization && { authorization }) })
    t.equal(one.status, 200)
    const got = upstream.received.at(-1)!
    t.same(
      got.rawHeaders.filter((name, i) => i % 2 === 0 && /^x[-_.](user|plan|org|email)/i.test(name)),
      authorization === undefined ? [] : ['X-Email'],
    )
  }
  await gateway.recorded(2)
  t.equal(gateway.records[0]!.identifiedBy, 'ip')
  const request = (more: string) =>
    `GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\n${more}\r\n\r\n`
  const twice = await wire(gateway.port, request('Authorization: Bearer bob'))
  t.match(twice, /^HTTP\/1.1 400 /, 'two credentials, of which the service could see the other one')
  const hidden = await wire(gateway.port, request('Connection: close, x-email'))
  t.match(hidden, /^HTTP\/1.1 400 /, 'a Connection header may not remove what the service sets')
})

t.test('a header that a route sends to its service may be there once, whatever its spelling', async (t) => {
  const { upstream, auth, gateway } = await site(t, {
    route: '{ forward: { url: "AUTH", headers: [authorization, x-api-token, cookie] } }',
    service: (_, res) => void res.end(),
  })
  const request = (more: string) => `GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${more}\r\n\r\n`
  for (const twice of [
    'Authorization: a\r\nauthorization: b',
    'X-Api-Token: a\r\nx-api-token: b',
    'X-Api-Token: a\r\nX-API-Token: a',
  ])
    t.match(await wire(gateway.port, request(twice)), /^HTTP\/1.1 400 .*may be sent only once/s)
  t.equal(auth.received.length, 0)
  t.match(await wire(gateway.port, request('X-Api-Token: a\r\nX_Api_Token: b')), /^HTTP\/1.1 200/)
  t.same(upstream.received[0]!.values('x_api_token'), [], 'its twin does not reach the upstream')
  t.same(upstream.received[0]!.values('x-api-token'), ['a'])
  t.match(await wire(gateway.port, request('Cookie: a=1\r\nCookie: b=2')), /^HTTP\/1.1 200/)
  t.same(auth.received.at(-1)!.values('cookie'), ['a=1; b=2'], 'a cookie in pieces is one')
})

t.test('a service that fails: on_failure', async (t) => {
  const modes: [mode: string, status: number][] = [
    ['deny', 503],
    ['allow', 200],
  ]
  for (const [mode, status] of modes) {
    for (const consumer of [true, false]) {
      const settings = `url: "AUTH", headers: [authorization], timeout: 300ms, on_failure: ${mode}`
      const { upstream, gateway, ask } = await site(t, {
        ...(consumer
          ? { consumer: `  - forward: { ${settings}, id: x-user-id }` }
          : { route: `{ forward: { ${settings} } }` }),
        service(req, res) {
          const how = req.headers['x-forwarded-uri']
          if (how === '/cut') res.destroy()
          else if (how === '/garbage') res.socket!.end('hello\r\n\r\n')
          else if (how === '/600') res.socket!.end('HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n')
          else if (how === '/5xx') res.writeHead(502).end('down')
        },
      })
      for (const path of ['/silent', '/cut', '/garbage', '/600', '/5xx']) {
        const response = await ask({ authorization: 'Bearer alice' }, path)
        const expected = mode === 'deny' && path === '/5xx' ? 502 : status
        t.equal(response.status, expected, `${mode} ${consumer ? 'consumer' : 'route'} ${path}`)
        if (expected === 503) {
          t.equal(response.headers.get('retry-after'), '1')
          t.match(await response.json(), { code: 'auth_unavailable' })
        } else await response.text()
      }
      await gateway.recorded(5)
      t.equal(upstream.received.length, mode === 'allow' ? 5 : 0)
      for (const got of upstream.received) t.same(got.values('authorization'), [], 'nobody has checked it')
      if (mode === 'allow') t.equal(gateway.records[0]!.identifiedBy, 'ip')
    }
  }
})

t.test('on_failure: allow lets nobody in whom the service refuses, or was not asked about', async (t) => {
  const { auth, upstream, ask } = await site(t, {
    route:
      '{ forward: { url: "AUTH", headers: [authorization], timeout: 300ms, on_failure: allow, cache: { for: 0 } } }',
    service(req, res) {
      res.writeHead(403, { 'Content-Type': 'text/plain' })
      if (req.headers['x-forwarded-uri'] === '/long') res.end('x'.repeat(200_000))
      else res.write('a body without an end')
    },
  })
  for (const path of ['/long', '/endless']) {
    const response = await ask({}, path)
    t.equal(response.status, 403)
    t.equal(await response.text(), '', 'a body that is too long, or late, is left out')
    t.equal(response.headers.get('content-type'), null)
  }
  t.equal(auth.received.length, 2)
  t.equal(upstream.received.length, 0)
})

t.test('a 2xx without an id is no identity', async (t) => {
  const bad: [name: string, fields: Record<string, string | string[]>][] = [
    ['none', {}],
    ['empty', { 'x-user-id': '' }],
    ['long', { 'x-user-id': 'x'.repeat(257) }],
    ['two', { 'x-user-id': ['alice', 'bob'] }],
  ]
  let row = bad[0]!
  const { upstream, gateway, ask } = await site(t, {
    consumer:
      '  - forward: { url: "AUTH", headers: [authorization], id: x-user-id, on_failure: allow, cache: { for: 0 } }',
    service: (_, res) => void res.writeHead(200, row[1]).end(),
  })
  for (row of bad) t.equal((await ask({ authorization: 'x' })).status, 503, row[0])
  t.equal(upstream.received.length, 0)
  await gateway.recorded(4)
  t.match(gateway.records[0], { error: 'auth_unavailable', cause: /its response has no usable x-user-id$/ })
})

t.test('WebSockets and HTTP/2 go the same way', async (t) => {
  const chat = await startChat(t)
  const auth = await recordingUpstream(t, byToken)
  const gateway = await startGateway(
    t,
    `
tiers: [free]
server: { http2: true }
consumers: [{ forward: { url: "${auth.origin}/", headers: [authorization, cookie], id: x-user-id, upstream_headers: [x-email] } }]
services: { api: { upstreams: ["${chat.origin}"] } }
routes: [{ path: /*, service: api, websocket: true }]`,
  )
  const upgrade = (authorization: string) =>
    wire(gateway.port, handshake('/', { Authorization: authorization, 'X-Email': 'forged' }))
  const denied = await wire(gateway.port, handshake('/', { Authorization: 'Bearer mallory' }))
  t.match(denied, /^HTTP\/1.1 401 Unauthorized\r\n.*WWW-Authenticate: Bearer realm="auth".*who are you\?$/s)
  t.match(await upgrade('Bearer alice'), /^HTTP\/1.1 101 /)
  t.equal(chat.handshakes[0]!.headers['x-email'], 'alice@example.com')
  const client = await http2Client(t, gateway.origin)
  t.match(await client.ask('/', { authorization: 'Bearer mallory' }), {
    status: 401,
    headers: { 'www-authenticate': 'Bearer realm="auth"' },
    body: 'who are you?',
  })
  await client.ask('/crumbs', { authorization: 'Bearer alice', cookie: ['a=1', 'b=2'] as unknown as string })
  t.same(auth.received.at(-1)!.values('cookie'), ['a=1; b=2'])
})

t.test('an address that keeps sending bad credentials is banned', async (t) => {
  const bans = createBans({ map: createMemoryMap(BANS) })
  const { auth, ask } = await site(t, {
    consumer: CONSUMER,
    more: 'edge: { auto_ban: { after_auth_failures: 3/min, for: 1m } }',
    overrides: { bans },
  })
  const statuses: number[] = []
  for (let i = 0; i < 6; i++) statuses.push((await ask({ authorization: `Bearer guess-${i}` })).status)
  t.equal(statuses[0], 401)
  t.equal(statuses.at(-1), 403)
  t.ok(auth.received.length < 6)
})

t.test('a refusal after the service set a cookie carries it', async (t) => {
  const { ask } = await site(t, {
    route: '{ forward: { url: "AUTH" } }',
    service: (_, res) => void res.setHeader('Set-Cookie', 's=1').end(),
    more: 'default_tier: free',
    overrides: { limiter: { take: () => Promise.reject(new Error('none')) } },
  })
  const response = await ask()
  t.same(response.headers.getSetCookie(), ['s=1'])
})

t.test("a hook's own response carries the cookie of the service", async (t) => {
  const auth = await recordingUpstream(t, (_, res) => void res.setHeader('Set-Cookie', 's=1').end())
  const gateway = await startGateway(
    t,
    `
tiers: [free]
extensions: [{ name: own, module: ./own.js }]
services: { api: { upstreams: ["http://127.0.0.1:1"] } }
routes: [{ path: /*, service: api, use: [own], auth: { forward: { url: "${auth.origin}/" } } }]`,
    { extensions: instances({ own: { onRequest: () => respond(418) } }) },
  )
  const response = await fetch(gateway.origin)
  t.equal(response.status, 418)
  t.same(response.headers.getSetCookie(), ['s=1'])
})

t.test('a gateway that is its own auth service refuses, and serves on', async (t) => {
  for (const more of ['', 'trusted_proxies: [127.0.0.1]']) {
    let port = 0
    const way = createServer((socket) => {
      const on = connect(port, '127.0.0.1')
      for (const end of [socket, on]) {
        end.on('error', () => {})
        t.teardown(() => end.destroy())
      }
      socket.pipe(on).pipe(socket)
    })
    way.listen(0, '127.0.0.1')
    await once(way, 'listening')
    t.teardown(() => way.close())
    const gateway = await startGateway(
      t,
      `
tiers: [free]
${more}
services: { api: { upstreams: ["http://127.0.0.1:1"] } }
routes:
  - { path: /free, respond: { status: 200 } }
  - { path: /*, service: api, auth: { forward: { url: "http://127.0.0.1:${(way.address() as AddressInfo).port}/check", timeout: 300ms } } }`,
    )
    port = gateway.port
    const statuses = await Promise.all(
      Array.from({ length: 20 }, async (_, i) => (await fetch(`${gateway.origin}/${i}`)).status),
    )
    t.same(new Set(statuses), new Set([503]), more)
    t.equal((await fetch(`${gateway.origin}/free`)).status, 200)
  }
})

t.test('explain asks the service, and says what it answered', async (t) => {
  const { auth, gateway } = await site(t, { consumer: CONSUMER })
  const forwardAuth = createForwardAuth({ log: { info() {}, warn() {} } })
  t.teardown(() => forwardAuth.close())
  const explain = explainOver(gateway.snapshot, { forwardAuth })
  const question = (authorization: string) => ({
    method: 'GET',
    url: '/',
    peer: '127.0.0.1',
    headers: [
      ['host', 'x'],
      ['authorization', authorization],
    ] as [string, string][],
  })
  t.match(await explain(question('Bearer alice')), {
    consumer: 'alice',
    identified_by: 'forward',
    tier: 'pro',
  })
  t.match(await explain(question('Bearer mallory')), {
    status: 401,
    why: `Answered with 401 by the auth service ${auth.authority}.`,
  })
})

const wire = async (port: number, bytes: string) => (await rawExchange(port, bytes)).text

function pairs(raw: readonly string[]): Record<string, string> {
  const out: Record<string, string> = {}
  for (let i = 0; i < raw.length; i += 2) out[raw[i]!.toLowerCase()] = raw[i + 1]!
  return out
}
