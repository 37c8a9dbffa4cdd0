import t, { type Test } from 'tap'
import { PlainForwarding } from '../../../src/gateway/forward/plain-forward.js'
import { createUpstreams, type Upstreams } from '../../../src/upstream/pool/pool.js'
import { snapshotOf, startGateway, type TestGateway } from '../../support/gateway/gateway.js'
import { refusingPort } from '../../support/http/hanging-listener.js'
import { openRaw } from '../../support/http/raw.js'
import { type RawRequest, rawUpstream, reset, respond } from '../../support/http/raw-upstream.js'

// These tests mostly wait.
t.jobs = 4

const GET = 'GET /x HTTP/1.1\r\nHost: a\r\nX-Request-Id: one\r\n\r\n'
const POST = 'POST /x HTTP/1.1\r\nHost: a\r\nX-Request-Id: one\r\nContent-Length: 5\r\n\r\nhello'
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

interface Situation {
  /** What the upstream does with the request of this number. */
  readonly upstream?: (request: RawRequest, number: number) => void
  /** Sent on one connection, the next when its response has come; GET by default. */
  readonly requests?: readonly string[]
  /** Further settings of the service and of the route. */
  readonly service?: string
  readonly route?: string
  readonly path?: string
  /** Puts an upstream that refuses connections before the other one. */
  readonly refusing?: boolean
  /** The client leaves after so many ms. */
  readonly leaves?: number
  readonly draining?: boolean
}

/** Waits, then does something with the upstream's connection. */
const later = (ms: number, step: () => void) => void setTimeout(step, ms).unref()

const SITUATIONS: Readonly<Record<string, Situation>> = {
  'a short response': {},
  'a response with every usual field': {
    upstream: (request) =>
      respond(
        request,
        'HTTP/1.1 201 Made\r\nDate: now\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nSet-Cookie: a\r\nset-cookie: b\r\nContent-Length: 2\r\nETag: "x"\r\n\r\nok',
      ),
  },
  'fields that the gateway replaces': {
    upstream: (request) =>
      respond(
        request,
        'HTTP/1.1 200 OK\r\nVia: 1.0 x\r\nX-Request-Id: other\r\nRateLimit: no\r\nContent-Length: 2\r\n\r\nok',
      ),
  },
  'fields that are about the hop': {
    upstream: (request) =>
      respond(
        request,
        'HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nProxy-Authenticate: x\r\nContent-Length: 2\r\n\r\nok',
      ),
  },
  'locations below a prefix': {
    path: '/x/*',
    route: ', strip_prefix: /x',
    requests: [GET.replace('/x', '/x/y')],
    upstream: (request) =>
      respond(request, 'HTTP/1.1 302 Found\r\nLocation: /z\r\nContent-Length: 2\r\n\r\nok'),
  },
  'a response in pieces': {
    upstream: (request) => {
      request.socket.write('HTTP/1.1 200 OK\r\nContent-Le')
      later(20, () => request.socket.write('ngth: 5\r\n\r\nhe'))
      later(40, () => request.socket.write('llo'))
    },
  },
  'a response in chunks': {
    upstream: (request) =>
      respond(
        request,
        'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n',
      ),
  },
  'chunks in pieces': {
    upstream: (request) => {
      request.socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n')
      later(20, () => request.socket.write('3\r\nllo\r\n0\r\n\r\n'))
    },
  },
  'a 103 before the response': {
    upstream: (request) => respond(request, `HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${OK}`),
  },
  'a 204, a 304 and an empty body': {
    requests: [GET, GET, GET],
    upstream: (request, number) =>
      respond(
        request,
        [
          'HTTP/1.1 204 No Content\r\n\r\n',
          'HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n',
          'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n',
        ][number]!,
      ),
  },
  'a body that ends with the connection': {
    upstream: (request) => {
      request.socket.end('HTTP/1.1 200 OK\r\n\r\nhello')
    },
  },
  'a long body': {
    upstream: (request) =>
      respond(request, `HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n${'x'.repeat(200_000)}`),
  },
  'bytes behind the response': {
    requests: [GET, GET],
    upstream: (request) => respond(request, `${OK}HTTP/1.1`),
  },
  'a malformed response': { upstream: (request) => respond(request, 'HTTP/1.1 200 OK\r\nX\r\n\r\n') },
  'a response that is cut': {
    upstream: (request) => {
      request.socket.end('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello')
    },
  },
  'many fields': {
    upstream: (request) =>
      respond(request, `HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(101)}Content-Length: 0\r\n\r\n`),
  },
  'each status that counts against the upstream': {
    requests: [GET, GET, GET, GET],
    upstream: (request, number) =>
      respond(request, `HTTP/1.1 ${[500, 502, 503, 504][number]} Bad\r\nContent-Length: 2\r\n\r\nok`),
  },
  'a body that came along': {
    requests: [POST, GET],
    upstream: (request) =>
      respond(request, `HTTP/1.1 200 OK\r\nContent-Length: ${request.body.length}\r\n\r\n${request.body}`),
  },
  'a body that is larger than the route takes': { requests: [POST], route: ', body_limit: 4B' },
  'every other method': {
    requests: ['PUT', 'PATCH', 'DELETE', 'OPTIONS'].map((method) => POST.replace('POST', method)),
  },
  'an upstream that refuses connections, and another': { refusing: true, requests: [GET, POST, GET] },
  'an upstream that closes the connection once': {
    requests: [GET, GET],
    upstream: (request, number) => (number === 1 ? reset(request.socket) : respond(request, OK)),
  },
  'an upstream that closes the connection on a body': {
    requests: [POST],
    upstream: (request) => reset(request.socket),
  },
  'no header in time': { route: ', timeouts: { headers: 60ms }', upstream: () => {} },
  'no response in time': { route: ', timeouts: { total: 60ms }', upstream: () => {} },
  'no rest of the body in time': {
    route: ', timeouts: { idle: 60ms }',
    upstream: (request) => void request.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello'),
  },
  'a client that leaves': { upstream: () => {}, leaves: 30 },
  'a client that leaves in the middle': {
    upstream: (request) => void request.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello'),
    leaves: 30,
  },
  'a gateway that is draining': { draining: true },
  'a circuit breaker and a concurrency limit': {
    service: ', circuit_breaker: {}, concurrency: {}',
    requests: [GET, GET, POST],
  },
}

async function behaviour(t: Test, situation: Situation, responses: boolean): Promise<object> {
  const {
    requests = [GET],
    service = '',
    path = '/*',
    route = '',
    refusing,
    leaves,
    draining,
    upstream,
  } = situation
  let seen = 0
  const backend = await rawUpstream(t, (request) =>
    (upstream ?? ((one) => respond(one, OK)))(request, seen++),
  )
  const origins = [...(refusing ? [(await refusingPort()).origin] : []), backend.origin]
  const gateway: TestGateway = await startGateway(
    t,
    `
tiers: [free]
trusted_proxies: [127.0.0.1]
services:
  api: { upstreams: [${origins.map((origin) => `'${origin}'`).join(', ')}], limits: { free: 100/min }${service} }
routes: [{ path: ${path}, service: api${route} }]
server: { plain_path: { responses: ${responses} } }
`,
  )
  if (draining) gateway.drain(true)
  const client = await openRaw(gateway.port)
  for (const [i, request] of requests.entries()) {
    client.write(request)
    if (leaves === undefined)
      await client.until(`response ${i}`, () => client.responses().length > i || client.isClosed())
    else {
      await new Promise((resolve) => setTimeout(resolve, leaves))
      client.socket.destroy()
    }
    if (client.isClosed()) break
  }
  await gateway.recorded(1)
  await client.until('the end', () => gateway.watchdog.size() === 0)
  const own = new RegExp(origins.map((origin) => origin.replace('http://', '')).join('|'), 'g')
  const plain = (text: string | undefined) =>
    text?.replace(own, 'HOST').replace(/Date: .* GMT/g, 'Date: DATE')
  return {
    // What a client that leaves has had by then is up to chance.
    received: leaves === undefined ? plain(client.received()) : '',
    closed: client.isClosed(),
    upstreamGot: backend.requests.map(({ head, body }) => plain(head + body)),
    records: gateway.records.map(({ status, error, cause, bytesIn, bytesOut, method }) => ({
      ...{ status, error, cause: plain(cause), bytesIn, method },
      bytesOut: leaves === undefined ? bytesOut : 0,
    })),
    health: [...gateway.upstreams.health()].map(({ healthy, inFlight, ejections }) => ({
      healthy,
      inFlight,
      ejections,
    })),
    logged: [gateway.internalErrors(), gateway.logged],
  }
}

let whole = 0
const { onWhole } = PlainForwarding.prototype
PlainForwarding.prototype.onWhole = function (response) {
  whole++
  onWhole.call(this, response)
}

for (const [name, situation] of Object.entries(SITUATIONS)) {
  t.test(`${name}: the same with whole responses and without`, { buffered: true }, async (t) => {
    const [short, full] = await Promise.all([behaviour(t, situation, true), behaviour(t, situation, false)])
    t.strictSame(short, full)
    t.match(short, { logged: [0, []] })
  })
}

t.test('a fault before anything was sent is a 500, and takes nothing from the next request', async (t) => {
  const backend = await rawUpstream(t)
  const yaml = `
tiers: [free]
services: { api: { upstreams: ['${backend.origin}'] } }
routes: [{ path: /*, service: api }]
`
  const upstreams = createUpstreams(snapshotOf(yaml))
  t.teardown(() => upstreams.close())
  let fault = true
  const begun: Upstreams['begun'] = (...given) => {
    if (!fault) return upstreams.begun(...given)
    fault = false
    throw new Error('a fault')
  }
  const gateway = await startGateway(t, yaml, { upstreams: { ...upstreams, begun } })
  const client = await openRaw(gateway.port)
  for (const i of [1, 2]) {
    client.write(GET)
    await client.until('a response', () => client.responses().length === i)
  }
  t.match(client.responses(), [{ status: 500 }, { status: 200 }])
  await gateway.recorded(2)
  t.match([...upstreams.health()], [{ inFlight: 0 }])
  t.equal(gateway.watchdog.size(), 0)
  t.equal(gateway.internalErrors(), 1)
})

t.test('responses were taken whole above', async (t) => {
  t.ok(whole >= 10, `${whole}`)
})
