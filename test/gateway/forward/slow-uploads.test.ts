// Tests src/gateway/forward/upload-pace.ts
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { createShares, type Shares } from '../../../src/shares.js'
import { eventually } from '../../support/eventually.js'
import { startGateway } from '../../support/gateway/gateway.js'
import { http2Upstream } from '../../support/http/http2-upstream.js'
import { openRaw, rawExchange } from '../../support/http/raw.js'
import { rawUpstream, respond } from '../../support/http/raw-upstream.js'

const config = (origin: string, { service = '', server = '', route = '' } = {}) => `
tiers: [free]
services: { api: { upstreams: ['${origin}'], max_wait: 100ms${service} } }
routes: [{ path: /*, service: api${route} }]
server: { ${server} }
`
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
const GET = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
const post = (framing: string) => `POST / HTTP/1.1\r\nHost: a\r\n${framing}\r\n\r\n`

/** Returns how much of each shared resource is held, by name. */
const heldOf = (shares: Shares) => Object.fromEntries([...shares.all()].map(({ name, held }) => [name, held]))

/** Opens a connection from the attacker's address. */
async function attacker(t: Test, port: number, bytes: string | Buffer): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', localAddress: '127.0.0.2' })
  socket.on('error', () => {})
  t.teardown(() => socket.destroy())
  await once(socket, 'connect')
  socket.write(bytes)
  return socket
}

t.test('130 uploads that trickle take no connection to the upstream', async (t) => {
  const upstream = await rawUpstream(t, (request) => respond(request, OK))
  const shares = createShares()
  const gateway = await startGateway(t, config(upstream.origin, { service: ', max_connections: 2' }), {
    shares,
  })
  const clients = await Promise.all(
    Array.from({ length: 130 }, () => attacker(t, gateway.port, `${post('Content-Length: 1000')}x`)),
  )
  await eventually('all are under way', () => gateway.watchdog.size() === 130)
  for (let i = 0; i < 5; i++) t.equal((await rawExchange(gateway.port, GET)).responses[0]?.status, 200)
  t.equal(upstream.requests.length, 5)
  await eventually('what is kept is counted', () => heldOf(shares).upload_buffers === 130 * 129)
  for (const client of clients) client.destroy()
  await eventually('and given back', () => heldOf(shares).upload_buffers === 0)
})

t.test('a slow, short body is forwarded when it is complete, with its framing', async (t) => {
  const upstream = await rawUpstream(t, (request) => respond(request, OK))
  const shares = createShares()
  const gateway = await startGateway(t, config(upstream.origin), { shares })
  const client = await openRaw(gateway.port)
  client.write(`${post('Content-Length: 10')}hello`)
  await eventually('it is kept', () => heldOf(shares).upload_buffers === 5 + 128)
  t.equal(upstream.requests.length, 0)
  client.write('world')
  await client.until('the answer', () => client.responses().length === 1)
  t.match(upstream.requests, [{ body: 'helloworld', complete: true }])
  client.write(`${post('Transfer-Encoding: chunked')}5\r\nhello\r\n`)
  await eventually('it is kept', () => heldOf(shares).upload_buffers === 5 + 128)
  client.write('0\r\n\r\n')
  await client.until('the answer', () => client.responses().length === 2)
  t.match(upstream.requests[1], { body: 'hello', complete: true })
  t.same(upstream.requests[1]!.values('transfer-encoding'), ['chunked'])
  t.match(heldOf(shares), { upload_buffers: 0, uploads: 0 })
  client.socket.destroy()
})

t.test('a longer body is forwarded from 64 KiB on, and the rest as it comes', async (t) => {
  const upstream = await rawUpstream(t, (request) => request.complete && respond(request, OK), {
    early: true,
  })
  const shares = createShares()
  const gateway = await startGateway(t, config(upstream.origin), { shares })
  const client = await openRaw(gateway.port)
  client.write(`${post('Content-Length: 100000')}${'x'.repeat(70_000)}`)
  await eventually('the beginning is there', () => upstream.requests[0]?.body.length === 70_000)
  t.match(heldOf(shares), { upload_buffers: 0, uploads: 1 })
  client.write('y'.repeat(30_000))
  await eventually('the end, too', () => upstream.requests[0]!.complete)
  t.equal(heldOf(shares).uploads, 0, 'it is no upload any more')
  respond(upstream.requests[0]!, OK)
  await client.until('the answer', () => client.responses().length === 1)
  client.socket.destroy()
})

t.test('one client has a quarter of the connections for long uploads, and its next one waits', async (t) => {
  const upstream = await rawUpstream(t, (request) => request.complete && respond(request, OK), {
    early: true,
  })
  const shares = createShares()
  const gateway = await startGateway(t, config(upstream.origin, { service: ', max_connections: 8' }), {
    shares,
  })
  const long = `${post('Content-Length: 100000')}${'x'.repeat(70_000)}`
  const first = await attacker(t, gateway.port, long)
  await attacker(t, gateway.port, long)
  await eventually('two are there', () => upstream.requests.length === 2)
  const third = await attacker(t, gateway.port, long)
  await eventually('it has tried', () =>
    [...shares.all()].some(({ name, refused }) => name === 'uploads' && refused.caller > 1),
  )
  t.equal(upstream.requests.length, 2)
  const other = await openRaw(gateway.port)
  other.write(long)
  await eventually('another address has its own', () => upstream.requests.length === 3)
  first.destroy()
  await eventually('its turn has come', () => upstream.requests.length === 4)
  third.destroy()
  other.socket.destroy()
  await eventually('all is given back', () => gateway.watchdog.size() === 1)
})

t.test('a steady body below 64 KiB is forwarded after a while; one that stops is cut', async (t) => {
  const upstream = await rawUpstream(t, () => {}, { early: true })
  const shares = createShares()
  const server = 'min_rate: 100, min_rate_grace: 100ms'
  const gateway = await startGateway(t, config(upstream.origin, { server }), { shares })
  const client = await openRaw(gateway.port)
  client.write(post('Transfer-Encoding: chunked'))
  const timer = setInterval(() => client.write(`64\r\n${'x'.repeat(100)}\r\n`), 10)
  t.teardown(() => clearInterval(timer))
  await eventually('it flows to the upstream', () => (upstream.requests[0]?.body.length ?? 0) > 0)
  clearInterval(timer)
  await client.until('the answer', () => client.responses().length === 1)
  t.match(client.responses(), [{ status: 408 }])
  await eventually('the upstream sees a cut', () => upstream.requests[0]!.closed)
  t.equal(upstream.requests[0]!.complete, false)
  await gateway.recorded(1)
  t.match(gateway.records[0], {
    error: 'request_timeout',
    cause: 'less than 100 bytes a second of the request',
  })
  t.match(heldOf(shares), { upload_buffers: 0, uploads: 0 })
})

t.test('min_rate does not apply to an endless response', async (t) => {
  const upstream = await rawUpstream(t, (request) => {
    respond(
      request,
      'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n',
    )
  })
  const server = 'min_rate: 100, min_rate_grace: 50ms'
  const gateway = await startGateway(t, config(upstream.origin, { server }))
  const client = await openRaw(gateway.port)
  client.write(`${post('Content-Length: 5')}he`)
  client.write('llo')
  await client.until('the header', () => client.received().includes('event-stream'))
  for (let i = 0; i < 20; i++) {
    await new Promise((resolve) => setTimeout(resolve, 20))
    respond(upstream.requests[0]!, '5\r\nevent\r\n')
  }
  await client.until('all of them', () => client.received().split('event\r\n').length === 21)
  client.socket.destroy()
})

t.test('an HTTP/2 upstream gets a body as it comes', async (t) => {
  const upstream = await http2Upstream(t)
  const server = 'min_rate: 1000, min_rate_grace: 20ms'
  const gateway = await startGateway(t, config(upstream.origin, { service: ', protocol: http2', server }))
  const client = await openRaw(gateway.port)
  client.write(`${post('Content-Length: 10')}hello`)
  await eventually('it is there', () => upstream.received[0]?.body === 'hello')
  await new Promise((resolve) => setTimeout(resolve, 200))
  client.write('world')
  await client.until('the answer', () => client.responses().length === 1)
  t.match(client.responses(), [{ status: 200 }])
  client.socket.destroy()
})

t.test('a client that leaves or is refused while its body is gathered gives back its share', async (t) => {
  const upstream = await rawUpstream(t)
  const shares = createShares()
  const route = ', body_limit: 100, timeouts: { idle: 200ms }'
  const gateway = await startGateway(t, config(upstream.origin, { route }), { shares })
  const large = await openRaw(gateway.port)
  large.write(`${post('Transfer-Encoding: chunked')}32\r\n${'x'.repeat(50)}\r\n`)
  large.write(`64\r\n${'x'.repeat(100)}\r\n`)
  await large.until('the answer', () => large.responses().length === 1)
  t.match(large.responses(), [{ status: 413 }])
  const slow = await rawExchange(gateway.port, `${post('Content-Length: 10')}x`)
  t.match(slow.responses, [{ status: 408 }])
  t.match(heldOf(shares), { upload_buffers: 0, uploads: 0 })
  t.equal(upstream.requests.length, 0)
})

t.test('with min_rate: 0 a body is forwarded as it comes', async (t) => {
  const upstream = await rawUpstream(t, () => {}, { early: true })
  const gateway = await startGateway(t, config(upstream.origin, { server: 'min_rate: 0' }))
  const client = await openRaw(gateway.port)
  client.write(`${post('Content-Length: 10')}hello`)
  await eventually('it is there', () => upstream.requests[0]?.body === 'hello')
  client.socket.destroy()
})
