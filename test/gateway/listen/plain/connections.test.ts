// Tests src/gateway/listen/plain/request.ts src/gateway/respond/plain-response.ts
import { Socket } from 'node:net'
import t, { type Test } from 'tap'
import { createPlainConnections } from '../../../../src/gateway/listen/plain/connections.js'
import { createAuthority } from '../../../support/credentials/authority.js'
import { eventually } from '../../../support/eventually.js'
import { snapshotOf, startGateway, type TestGateway } from '../../../support/gateway/gateway.js'
import { startEntrance } from '../../../support/http/entrance.js'
import { openTlsClient } from '../../../support/http/faces.js'
import { openRaw, type RawConnection, rawRequest } from '../../../support/http/raw.js'
import { type RawRequest, rawUpstream, respond } from '../../../support/http/raw-upstream.js'

/** Tests connections that the gateway reads itself, and how they move to Node's parser without a visible difference. */

const certificate = createAuthority(t).issue('api', 'DNS:api.example')

/** A way in which a connection comes that the gateway may read itself. */
type Face = 'without TLS' | 'over TLS'

/** Runs a test for bare and for decrypted sockets. */
function overBoth(what: string, run: (t: Test, face: Face) => Promise<void>): void {
  for (const face of ['without TLS', 'over TLS'] as const) t.test(`${what}, ${face}`, (t) => run(t, face))
}

/** A gateway, with the sockets that it reads requests from. */
type Started = TestGateway & { readonly served: readonly Socket[] }

/** @param server keys of `server` */
async function start(t: Test, face: Face, yaml: string, server = 'plain_path: true'): Promise<Started> {
  if (face === 'over TLS') {
    const tls = `tls: { certificates: [${JSON.stringify(certificate)}] }`
    const { gateway, decrypted } = await startEntrance(t, `${yaml}server: { ${tls}, ${server} }\n`)
    return Object.assign(gateway, { served: decrypted })
  }
  const gateway = await startGateway(t, `${yaml}server: { ${server} }\n`)
  const served: Socket[] = []
  gateway.app.server.on('connection', (socket) => void served.push(socket))
  return Object.assign(gateway, { served })
}

/** A client, with its bare socket. */
interface Client extends RawConnection {
  readonly bare: Socket
}

async function open(face: Face, port: number): Promise<Client> {
  const raw = await openRaw(port)
  if (face === 'without TLS') return { ...raw, bare: raw.socket }
  return { ...(await openTlsClient(port, false, { socket: raw.socket })), bare: raw.socket }
}

function yamlFor(origin: string): string {
  return `
tiers: [free]
services: { api: { upstreams: ['${origin}'] } }
routes: [{ path: /api/*, service: api }]
`
}

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
const GET = rawRequest('GET /api/x')
/** The same request, with a blank that only Node's parser removes. */
const odd = (text: string) => text.replace('Host: ', 'Host:  ')

/** @returns all that comes for it, without what differs each time */
async function bytesFor(face: Face, port: number, request: string, complete: RegExp): Promise<string> {
  const client = await open(face, port)
  client.write(request)
  await client.until(String(complete), () => complete.test(client.received()) || client.isClosed())
  client.socket.destroy()
  return client
    .received()
    .replace(/^(Date|X-Request-Id): .*\r\n/gm, '')
    .replace(/"request_id":".*?"/, '')
}

overBoth('plain_path decides who reads a request, and the client gets the same bytes', async (t, face) => {
  const upstream = await rawUpstream(t, (request) => respond(request, OK))
  const responses: string[] = []
  const own = face === 'over TLS' ? 'tls' : 'requests'
  const other = face === 'over TLS' ? 'requests' : 'tls'
  for (const [server, expected] of [
    ['plain_path: true', 0],
    ['plain_path: false', 1],
    [`plain_path: { ${own}: false }`, 1],
    [`plain_path: { ${other}: false, responses: false }`, 0],
  ] as const) {
    const gateway = await start(t, face, yamlFor(upstream.origin), server)
    let readByNode = 0
    gateway.app.server.on('request', () => readByNode++)
    responses.push(await bytesFor(face, gateway.port, GET, /ok$/))
    t.equal(readByNode, expected, server)
  }
  t.equal(new Set(responses).size, 1)
})

overBoth('the plain path sends the same bytes of a response as Node', async (t, face) => {
  const answers: Record<string, [answer: string, complete: RegExp, line?: string]> = {
    'a length': [OK, /ok$/],
    'a reason of its own': ['HTTP/1.1 200 All right\r\nContent-Length: 0\r\n\r\n', /\r\n\r\n$/],
    'an unknown status': ['HTTP/1.1 299\r\nContent-Length: 0\r\n\r\n', /\r\n\r\n$/],
    chunks: [
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n',
      /\r\n0\r\n\r\n$/,
    ],
    'no chunk': ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', /\r\n0\r\n\r\n$/],
    'a Date of its own': ['HTTP/1.1 200 OK\r\nDate: then\r\nContent-Length: 0\r\n\r\n', /\r\n\r\n$/],
    'fields that repeat, and bytes beyond ASCII': [
      'HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nset-cookie: \xe9\r\nX:\r\nContent-Length: 1\r\n\r\n\xff',
      /\xff$/,
    ],
    'a 204': ['HTTP/1.1 204 No Content\r\n\r\n', /\r\n\r\n$/],
    'a 304 with a length': ['HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n', /\r\n\r\n$/],
    HEAD: ['HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n', /\r\n\r\n$/, 'HEAD /api/'],
    'HEAD without a length': ['HTTP/1.1 200 OK\r\n\r\n', /\r\n\r\n$/, 'HEAD /api/'],
    hints: [`HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nLink: </b>\r\n\r\n${OK}`, /ok$/],
    'a hint that is none': [`HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n${OK}`, /ok$/],
    'a large body': [`HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n${'x'.repeat(69_999)}.`, /x\.$/],
    'a large chunk': [
      `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc350\r\n${'x'.repeat(49_999)}.\r\n0\r\n\r\n`,
      /\r\n0\r\n\r\n$/,
    ],
    'what is refused': [OK, /\}$/, 'GET /nowhere'],
    'HEAD of what is refused': [OK, /\r\n\r\n$/, 'HEAD /nowhere'],
  }
  const list = Object.entries(answers)
  const upstream = await rawUpstream(t, (request) =>
    respond(request, list[Number(/\d+$/.exec(request.target)![0])]![1][0]),
  )
  const gateway = await start(t, face, yamlFor(upstream.origin))
  for (const [i, [what, [, complete, line = 'GET /api/']]] of list.entries()) {
    const request = rawRequest(`${line}${i}`)
    const ours = await bytesFor(face, gateway.port, request, complete)
    const theirs = await bytesFor(face, gateway.port, odd(request), complete)
    // The cuts of a large body into chunks depend on timing.
    const whole = (text: string) => text.replaceAll(/(^|x)\r\n[0-9a-f]+\r\n/g, '$1')
    t.equal(whole(ours), whole(theirs), what)
    t.match(ours, complete, what)
  }
})

overBoth('the plain path sends the same bytes of a denial as Node', async (t, face) => {
  const upstream = await rawUpstream(t)
  const gateway = await start(
    t,
    face,
    `
tiers: [free, pro]
default_tier: free
consumers: [{ api_key: { header: x-key, keys: KEYS } }, { ip: {} }]
services:
  api: { upstreams: ['${upstream.origin}'], limits: { free: [3/s, 3/min], pro: 1/h } }
  other: { upstreams: ['${upstream.origin}'], limits: { free: 1/min, pro: 1/min } }
routes:
  - { path: /api/*, service: api }
  - { path: /api/dear, service: api, cost: 9 }
  - { path: /other/*, service: other }
  - { path: /shaped/*, service: other, headers: { response: { set: { X-Tier: '\${tier}' } } } }
`.replace('KEYS', "[{ key: 'k1-of-somebody-on-pro', consumer: somebody, tier: pro }]"),
  )
  const denied = / 429 .*(\}|\r\n\r\n)$/s
  const lines: [string, ...string[]][] = [
    ['GET /api/x'],
    ['HEAD /api/x'],
    ['GET /api/dear'],
    ['GET /api/x', 'X-Key: k1-of-somebody-on-pro'],
    ['GET /other/x'],
    ['GET /other/x', 'X-Key: k1-of-somebody-on-pro'],
    ['GET /shaped/x'],
  ]
  for (const line of lines) {
    const client = await open(face, gateway.port)
    for (let i = 1; i < 4; i++) {
      client.write(rawRequest(line[0].replace('HEAD', 'GET'), ...line.slice(1)))
      await client.until('an answer', () => client.responses().length === i)
    }
    client.socket.destroy()
  }
  const seen = new Set<string>()
  for (const passed of [0, 7_000, 8_000]) {
    gateway.clock.now += passed
    for (const line of lines) {
      // Of one length, on which the body's length depends.
      const request = rawRequest(...line, 'X-Request-Id: an-id.of_theirs')
      const ours = await bytesFor(face, gateway.port, request, denied)
      t.equal(ours, await bytesFor(face, gateway.port, odd(request), denied), line[0])
      seen.add(ours)
    }
  }
  t.ok(seen.size > 12, `${seen.size} different ones`)
})

async function startPair(t: Test, face: Face, server?: string) {
  const waiting: RawRequest[] = []
  const upstream = await rawUpstream(t, (request) => {
    if (request.target === '/api/wait') waiting.push(request)
    else respond(request, OK)
  })
  const gateway = await start(t, face, yamlFor(upstream.origin), server)
  return { upstream, gateway, waiting, client: await open(face, gateway.port) }
}

overBoth('requests of both paths share a connection, and its maximum of requests', async (t, face) => {
  const { gateway, client } = await startPair(t, face, 'max_requests_per_connection: 6')
  const body = `${rawRequest('POST /api/x', 'Content-Length: 4')}body`
  for (const [i, bytes] of [GET, body, GET, `${GET}`, odd(GET), GET].entries()) {
    client.write(bytes)
    await client.until(`answer ${i + 1}`, () => client.responses().length === i + 1)
  }
  await client.closed()
  t.same(
    client.responses().map((response) => [response.status, response.header('connection')]),
    [...Array(5).fill([200, 'keep-alive']), [200, 'close']],
  )
  t.equal(gateway.records.length, 6)
})

overBoth('a head in pieces is put together, also after another request', async (t, face) => {
  const { client, upstream } = await startPair(t, face)
  for (const [i, cut] of [1, 20, GET.length - 1].entries()) {
    client.write(GET)
    await client.until('the first answer', () => client.responses().length === 2 * i + 1)
    client.write(GET.slice(0, cut))
    await new Promise(setImmediate)
    client.write(GET.slice(cut))
    await client.until('the second answer', () => client.responses().length === 2 * i + 2)
  }
  t.equal(upstream.requests.length, 6)
  client.socket.destroy()
})

overBoth('a request that comes before the previous response waits for it', async (t, face) => {
  const { gateway, client, waiting, upstream } = await startPair(t, face)
  client.write(rawRequest('GET /api/wait'))
  await eventually('the first is there', () => waiting.length === 1)
  const ahead = 200
  for (let i = 0; i < ahead; i++) client.write(i === 150 ? odd(GET) : GET)
  await eventually('it is on its way', () => client.socket.writableLength === 0)
  t.equal(upstream.requests.length, 1)
  respond(waiting[0]!, OK)
  await client.until('all answers', () => client.responses().length === ahead + 1)
  t.notOk(client.isClosed())
  client.socket.destroy()
  await gateway.recorded(ahead + 1)
  t.ok(gateway.records.every(({ status }) => status === 200))
})

overBoth('of a flood after a request no more is read than fits the buffer', async (t, face) => {
  const { gateway, waiting, client } = await startPair(t, face)
  client.write(rawRequest('GET /api/wait'))
  await eventually('the first is there', () => waiting.length === 1)
  const [socket] = gateway.served
  client.write(GET.repeat(500_000))
  await eventually('the rest is not read', () => socket!.readableLength >= socket!.readableHighWaterMark)
  t.ok(socket!.bytesRead < 1 << 18, `${socket!.bytesRead} bytes were read`)
  respond(waiting[0]!, OK)
  await client.until('its answer', () => client.responses().length > 0)
  client.socket.destroy()
})

overBoth('a client that leaves or ends its side is noticed, and its request aborted', async (t, face) => {
  for (const leave of ['destroy', 'end', 'resetAndDestroy'] as const) {
    const { gateway, client, waiting } = await startPair(t, face)
    client.write(rawRequest('GET /api/wait'))
    await eventually('it is there', () => waiting.length === 1)
    client.write(GET)
    if (leave === 'resetAndDestroy') client.bare.resetAndDestroy()
    else client.socket[leave]()
    await gateway.recorded(1)
    t.match(gateway.records, [{ status: 499, error: 'client_closed' }], leave)
    await eventually('the upstream is told', () => waiting[0]!.closed)
    await eventually('nothing is watched', () => gateway.watchdog.size() === 0)
  }
})

overBoth(
  'a client that ended its side and reads nothing does not get its response buffered',
  async (t, face) => {
    const asked: RawRequest[] = []
    const upstream = await rawUpstream(t, (request) => void asked.push(request))
    const gateway = await start(
      t,
      face,
      yamlFor(upstream.origin).replace('service: api }', 'service: api, timeouts: { idle: 200ms } }'),
    )
    const client = await open(face, gateway.port)
    client.socket.pause()
    client.write(GET)
    await eventually('it is there', () => asked.length === 1)
    const piece = `4000\r\n${'x'.repeat(16_384)}\r\n`
    respond(asked[0]!, `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${piece}`)
    await eventually('the client takes no more', () => {
      if (gateway.served[0]!.writableLength > 0) return true
      for (let i = 0; i < 4; i++) respond(asked[0]!, piece)
      return false
    })
    client.socket.end()
    await eventually('its end has come', () => gateway.served[0]!.writableEnded)
    // The upstream is never silent: only an unread response may end this.
    const timer = setInterval(() => respond(asked[0]!, piece), 2)
    await gateway.recorded(1)
    clearInterval(timer)
    t.match(gateway.records, [{ status: 200, error: 'client_closed' }])
    await eventually('the upstream is told', () => asked[0]!.closed)
    client.socket.destroy()
  },
)

overBoth('a refusal reaches a client that ends its side with the request', async (t, face) => {
  const { gateway, client } = await startPair(t, face)
  client.socket.end(rawRequest('GET /nowhere'))
  await client.closed()
  t.match(client.responses(), [{ status: 404 }])
  await gateway.recorded(1)
  t.match(gateway.records, [{ status: 404, error: 'no_route' }])
})

overBoth('a silent connection is closed, before its first request and after it', async (t, face) => {
  const { gateway, client } = await startPair(
    t,
    face,
    'header_timeout: 500ms, keep_alive: 500ms, http2: true',
  )
  const asked = await open(face, gateway.port)
  asked.write(GET)
  await client.closed()
  // Without TLS, it is not known in which protocol to tell the client.
  const told = face === 'over TLS' ? [408] : []
  t.same(
    client.responses().map(({ status }) => status),
    told,
  )
  await asked.closed()
  t.match(asked.responses(), [{ status: 200 }])
  t.same(new Set(gateway.records.map(({ status }) => status)), new Set([200, ...told]))
})

t.test("a connection's silence counts from when it was made", async (t) => {
  let now = 0
  let ticks = 0
  const silent: Socket[] = []
  const { server } = snapshotOf(yamlFor('http://127.0.0.1:1')).config
  const connections = createPlainConnections({
    settings: server,
    accept() {},
    silent: (socket) => void silent.push(socket),
    clock() {
      ticks++
      return now
    },
  })
  now += 3_600_000
  const socket = new Socket()
  connections.take(
    socket,
    () => {},
    () => {},
  )
  const before = ticks
  await eventually('two ticks', () => ticks > before + 1)
  t.same(silent, [])
  now += server.header_timeout + 1_000
  await eventually('it is over', () => silent[0] === socket)
  socket.destroy()
})

overBoth('with HTTP/1 only, a client that sends no request gets 408', async (t, face) => {
  const { gateway, client } = await startPair(t, face, 'header_timeout: 100ms, http2: false')
  await client.closed()
  t.match(client.responses(), [{ status: 408 }])
  t.match(gateway.records, [{ status: 408, error: 'request_timeout' }])
})

overBoth('a close ends idle connections, and lets requests in flight finish', async (t, face) => {
  const { gateway, client, waiting } = await startPair(t, face)
  const idle = await open(face, gateway.port)
  idle.write(GET)
  await idle.until('its answer', () => idle.responses().length === 1)
  client.write(rawRequest('GET /api/wait'))
  await eventually('it is there', () => waiting.length === 1)
  gateway.drain(true)
  const closed = gateway.app.close()
  await idle.closed()
  t.notOk(client.isClosed())
  respond(waiting[0]!, OK)
  await client.closed()
  await closed
  t.equal(client.responses()[0]!.header('connection'), 'close')
})

overBoth('a response that began before the close ends its connection', async (t, face) => {
  const { gateway, client, waiting } = await startPair(t, face)
  client.write(rawRequest('GET /api/wait'))
  await eventually('it is there', () => waiting.length === 1)
  respond(waiting[0]!, 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no')
  await client.until('its beginning', () => client.received().endsWith('o'))
  const closed = gateway.app.close()
  respond(waiting[0]!, 'k')
  await client.closed()
  await closed
  t.match(client.responses(), [{ status: 200, body: 'ok' }])
})
