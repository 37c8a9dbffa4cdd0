// Tests src/gateway/forward/read-pace.ts
import { once } from 'node:events'
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2'
import { connect, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { createShares, type Shares } from '../../../src/shares.js'
import { eventually } from '../../support/eventually.js'
import { startGateway } from '../../support/gateway/gateway.js'
import { openRaw, rawExchange } from '../../support/http/raw.js'
import { type RawRequest, rawUpstream, respond } from '../../support/http/raw-upstream.js'

const config = (origin: string, { service = '', server = '' } = {}) => `
tiers: [free]
services: { api: { upstreams: ['${origin}']${service} } }
routes: [{ path: /*, service: api }]
server: { ${server} }
`
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`

const shareOf = (shares: Shares, wanted: string) => [...shares.all()].find(({ name }) => name === wanted)

/** Answers `/large` with as many bytes as the client takes, up to 1 GiB, and everything else at once. */
function serve(request: RawRequest): void {
  if (request.target !== '/large') {
    respond(request, OK)
    return
  }
  const { socket } = request
  const block = Buffer.alloc(65_536)
  const push = (): void => {
    while (!socket.destroyed && socket.write(block)) {}
    socket.once('drain', push)
  }
  socket.on('error', () => {})
  socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${1 << 30}\r\n\r\n`)
  push()
}

/** Requests a response from the attacker's address, and reads nothing of it. */
async function slowReader(t: Test, port: number, path: string): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', localAddress: '127.0.0.2' })
  socket.on('error', () => {})
  t.teardown(() => socket.destroy())
  await once(socket, 'connect')
  socket.pause()
  socket.write(get(path))
  return socket
}

async function slowStreams(t: Test, port: number, count: number): Promise<ClientHttp2Session> {
  const session = connectHttp2(`http://127.0.0.1:${port}`, {
    localAddress: '127.0.0.2',
    settings: { initialWindowSize: 0 },
  } as object)
  session.on('error', () => {})
  t.teardown(() => session.destroy())
  await once(session, 'connect')
  for (let i = 0; i < count; i++) session.request({ ':path': '/large' }).on('error', () => {})
  return session
}

async function neighbourIsServed(t: Test, port: number): Promise<void> {
  for (let i = 0; i < 10; i++) {
    const { responses } = await rawExchange(port, get('/small'))
    t.equal(responses[0]?.status, 200)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

t.test('a response up to 256 KiB is held for its client, and the upstream is free', async (t) => {
  const size = 200_000
  const upstream = await rawUpstream(t, (request) =>
    respond(request, `HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\n\r\n${'x'.repeat(size)}`),
  )
  const shares = createShares()
  const server = 'http2: true'
  const gateway = await startGateway(
    t,
    config(upstream.origin, { service: ', max_connections: 1', server }),
    { shares },
  )
  const session = await slowStreams(t, gateway.port, 3)
  await eventually('all three have had the one connection', () => upstream.requests.length === 3)
  await eventually('it is free', () => gateway.upstreams.describe()[0]!.in_flight === 0)
  t.ok(shareOf(shares, 'response_buffers')!.held > 3 * 100_000)
  session.destroy()
  await eventually('nothing is held', () => shareOf(shares, 'response_buffers')!.held === 0)
})

t.test('20 slow readers of large responses occupy a quarter of 8 connections at most', async (t) => {
  const upstream = await rawUpstream(t, serve)
  const shares = createShares()
  const gateway = await startGateway(
    t,
    config(upstream.origin, { service: ', max_connections: 8, max_wait: 20s', server: 'min_rate_grace: 1m' }),
    { shares },
  )
  const clients = await Promise.all(Array.from({ length: 20 }, () => slowReader(t, gateway.port, '/large')))
  await neighbourIsServed(t, gateway.port)
  await eventually('it has its share', () => shareOf(shares, 'slow_readers')!.held === 2)
  t.ok(shareOf(shares, 'slow_readers')!.refused.caller > 0)
  const again = await slowReader(t, gateway.port, '/small')
  again.resume()
  const [answer] = await once(again, 'data')
  t.match(String(answer), /^HTTP\/1\.1 429 /, 'and its address gets no further one meanwhile')
  for (const client of clients) client.destroy()
  await eventually('all is given back', () => shareOf(shares, 'slow_readers')!.held === 0)
  t.equal(shareOf(shares, 'response_buffers')!.held, 0)
})

t.test('three HTTP/2 connections with window 0 occupy no more', async (t) => {
  const upstream = await rawUpstream(t, serve)
  const shares = createShares()
  const settings = {
    service: ', max_connections: 8, max_wait: 20s',
    server: 'http2: true, min_rate_grace: 1m',
  }
  const gateway = await startGateway(t, config(upstream.origin, settings), { shares })
  const sessions = await Promise.all([7, 7, 7].map((count) => slowStreams(t, gateway.port, count)))
  await neighbourIsServed(t, gateway.port)
  await eventually('it has its share', () => shareOf(shares, 'slow_readers')!.held === 2)
  for (const session of sessions) session.destroy()
  await eventually('all is given back', () => shareOf(shares, 'slow_readers')!.held === 0)
})

t.test('a client that takes nothing for a while is cut', async (t) => {
  const upstream = await rawUpstream(t, serve)
  const server = 'min_rate: 1000, min_rate_grace: 300ms'
  const gateway = await startGateway(t, config(upstream.origin, { server }))
  await slowReader(t, gateway.port, '/large')
  await gateway.recorded(1)
  t.match(gateway.records[0], { status: 200, error: 'client_closed', cause: /reads the response too slowly/ })
  await eventually('the upstream is let go', () => upstream.requests[0]!.closed)
})

t.test('a client that keeps reading is not cut, though the upstream is faster', async (t) => {
  const upstream = await rawUpstream(t, serve)
  const server = 'min_rate: 240, min_rate_grace: 2s'
  const gateway = await startGateway(t, config(upstream.origin, { server }))
  const client = await slowReader(t, gateway.port, '/large')
  const end = performance.now() + 3_000
  let count = 0
  while (performance.now() < end) {
    count += (client.read() as Buffer | null)?.length ?? 0
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  t.notOk(client.closed)
  t.equal(gateway.records.length, 0)
  t.ok(count > 1_000_000, `${count} bytes`)
  client.destroy()
})

t.test('responses pipelined behind an endless one occupy no connection', async (t) => {
  const upstream = await rawUpstream(t, (request) => {
    if (request.target !== '/drip') serve(request)
    else respond(request, 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
  })
  const shares = createShares()
  const server = 'min_rate: 1000, min_rate_grace: 300ms'
  const gateway = await startGateway(t, config(upstream.origin, { server }), { shares })
  const client = await openRaw(gateway.port)
  client.write(get('/drip') + get('/large').repeat(3))
  await eventually('all are under way', () => upstream.requests.length === 4)
  const drip = upstream.requests.find(({ target }) => target === '/drip')!
  const timer = setInterval(() => respond(drip, '1\r\nx\r\n'), 10)
  t.teardown(() => clearInterval(timer))
  await eventually('they are cut', () => upstream.requests.filter(({ closed }) => closed).length === 3)
  t.equal(drip.closed, false)
  t.equal(shareOf(shares, 'slow_readers')!.held, 0)
  const before = client.received().length
  await eventually('the first goes on', () => client.received().length > before + 20)
  respond(drip, '0\r\n\r\n')
  await gateway.recorded(4)
  const cut = gateway.records.filter(({ error }) => error === 'client_closed')
  t.equal(cut.length, 3)
  t.match(cut[0], { cause: 'the client reads the response too slowly' })
  client.socket.destroy()
})
