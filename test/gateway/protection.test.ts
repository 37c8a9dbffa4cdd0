import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { eventually } from '../support/eventually.js'
import { startGateway } from '../support/gateway/gateway.js'
import { problemOf } from '../support/gateway/site.js'
import { openRaw, type RawConnection, rawExchange, rawRequest } from '../support/http/raw.js'
import { type RawRequest, rawUpstream, reset, respond } from '../support/http/raw-upstream.js'

/** Tests how much of the gateway one client may hold, and for how long. */

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

const config = (origin: string, server: string, route = '') => `
tiers: [free]
services: { api: { upstreams: ['${origin}'] } }
routes: [{ path: /api/*, service: api ${route} }]
server: { ${server} }
`

/** Sends bytes one by one until the connection ends. */
async function drip(client: RawConnection, byte: string): Promise<void> {
  while (!client.isClosed()) {
    client.write(byte)
    await sleep(20)
  }
}

t.test('timeouts.request bounds a body that comes byte by byte', async (t) => {
  const upstream = await rawUpstream(t)
  const gateway = await startGateway(t, config(upstream.origin, '', ', timeouts: { request: 300ms }'))
  for (const framing of ['Content-Length: 100000', 'Transfer-Encoding: chunked']) {
    const client = await openRaw(gateway.port)
    client.write(rawRequest('POST /api/slow', framing))
    await drip(client, framing.includes('chunked') ? '1\r\nx\r\n' : 'x')
    t.match(client.responses(), [{ status: 408 }], framing)
    t.equal(problemOf(client.responses()[0]!).code, 'request_timeout')
  }
  t.equal(upstream.requests.length, 0, 'and took no connection to the upstream')
  t.match(gateway.records, [{ cause: /within 300 ms/ }, { cause: /within 300 ms/ }])
})

t.test('timeouts.request cuts the response if it has begun already', async (t) => {
  const upstream = await rawUpstream(
    t,
    (request) => respond(request, 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun'),
    { early: true },
  )
  const gateway = await startGateway(t, config(upstream.origin, 'min_rate: 0', ', timeouts: { request: 1s }'))
  const client = await openRaw(gateway.port)
  client.write(rawRequest('POST /api/slow', 'Content-Length: 100000'))
  await drip(client, 'x')
  t.match(client.received(), /^HTTP\/1\.1 200 OK[\s\S]*begun$/)
  t.match(gateway.records, [{ status: 200, error: 'request_timeout' }])
})

t.test('request: 0 waits as long as bytes come', async (t) => {
  const upstream = await rawUpstream(t)
  const gateway = await startGateway(t, config(upstream.origin, '', ', timeouts: { request: 0s }'))
  const client = await openRaw(gateway.port)
  client.write(rawRequest('POST /api/slow', 'Content-Length: 10'))
  for (let i = 0; i < 10; i++) {
    await sleep(30)
    client.write('x')
  }
  await client.until('the response', () => client.responses().length === 1)
  t.match(client.responses(), [{ status: 200 }])
  client.socket.destroy()
})

t.test('a client that reads none of its refusals loses its connection', async (t) => {
  const upstream = await rawUpstream(t)
  const gateway = await startGateway(t, config(upstream.origin, 'slow_read: 300ms'))
  const client = await openRaw(gateway.port)
  client.socket.pause()
  let sent = 0
  const sending = setInterval(() => {
    // Few enough at once that the connection does not end for their number.
    if (gateway.records.length < sent) return
    sent += 200
    client.write(rawRequest('GET /nowhere').repeat(200))
  }, 1)
  t.teardown(() => clearInterval(sending))
  let open = 1
  await eventually(
    'its end',
    () => {
      gateway.app.server.getConnections((_, count) => {
        open = count
      })
      return open === 0
    },
    20_000,
  )
  clearInterval(sending)
  client.socket.destroy()
  t.ok(gateway.records.length > 500)
  t.match(gateway.records[0], { status: 404 })
  await eventually('nothing is watched', () => gateway.watchdog.size() === 0)
})

t.test('requests of one connection', async (t) => {
  const waiting: RawRequest[] = []
  const upstream = await rawUpstream(t, (request) => {
    if (request.target === '/api/wait') waiting.push(request)
    else respond(request, OK)
  })
  const warnings: Error[] = []
  const warned = (warning: Error) => void warnings.push(warning)
  process.on('warning', warned)
  t.teardown(() => process.off('warning', warned))

  await t.test('above max_pipelined wait, and are served in their turn', async (t) => {
    const gateway = await startGateway(t, config(upstream.origin, 'max_pipelined: 4'))
    const client = await openRaw(gateway.port)
    client.socket.setNoDelay(true)
    for (let i = 0; i < 60; i++) {
      // The blank sends it to Node's parser: on the plain path only one request is under way (plain/connections.ts).
      client.write(rawRequest('GET /api/wait', 'X:  y'))
      await sleep(2)
    }
    t.ok(waiting.length >= 4 && waiting.length <= 20, `${waiting.length} of 60 are under way`)
    let answered = 0
    const answering = setInterval(() => {
      for (const request of waiting.splice(0)) {
        answered++
        respond(request, OK)
      }
    }, 5)
    await client.until('all answers', () => client.responses().length === 60)
    clearInterval(answering)
    t.equal(answered, 60)
    t.notOk(client.isClosed())
    client.socket.destroy()
    await gateway.recorded(60)
  })

  await t.test('end it if too many come in one packet, after the accepted ones are answered', async (t) => {
    const gateway = await startGateway(t, config(upstream.origin, 'max_pipelined: 4'))
    const client = await openRaw(gateway.port)
    const before = upstream.requests.length
    client.write(rawRequest('GET /api/wait').repeat(500))
    const answering = setInterval(() => {
      for (const request of waiting.splice(0)) respond(request, OK)
    }, 5)
    await client.closed()
    clearInterval(answering)
    t.equal(client.responses().length, 260)
    t.equal(client.responses().at(-1)!.header('connection'), 'close')
    t.equal(upstream.requests.length - before, 260)
    await gateway.recorded(260)
    t.equal(gateway.records.length, 260)
  })

  await t.test('are recorded once each if the client leaves', async (t) => {
    const gateway = await startGateway(t, config(upstream.origin, 'max_pipelined: 100'))
    const client = await openRaw(gateway.port)
    client.write(rawRequest('GET /api/wait').repeat(100))
    await eventually('all are under way', () => waiting.length === 100)
    client.socket.destroy()
    await gateway.recorded(100)
    t.ok(gateway.records.every(({ status }) => status === 499))
    waiting.length = 0
    await eventually('nothing is watched', () => gateway.watchdog.size() === 0)
  })

  await t.test('are limited by max_requests_per_connection: the last response says close', async (t) => {
    const gateway = await startGateway(t, config(upstream.origin, 'max_requests_per_connection: 3'))
    const one = await openRaw(gateway.port)
    for (const count of [1, 2, 3]) {
      one.write(rawRequest(count === 2 ? 'GET /nowhere' : 'GET /api/x'))
      await one.until('the response', () => one.responses().length === count)
    }
    await one.closed()
    t.same(
      one.responses().map((response) => response.header('connection')),
      ['keep-alive', 'keep-alive', 'close'],
    )
    const before = upstream.requests.length
    const pipelined = await openRaw(gateway.port)
    pipelined.write(rawRequest('GET /api/x').repeat(20))
    await pipelined.closed()
    t.equal(pipelined.responses().length, 3)
    t.equal(upstream.requests.length - before, 3, 'none is served that is not answered')
  })

  t.same(warnings, [], 'and the process has nothing to warn of')
})

t.test('the gateway holds at most 384 KiB of a response that its client does not read', async (t) => {
  let pushed = 0
  const block = Buffer.alloc(65_536)
  const upstream = await rawUpstream(t, ({ socket }) => {
    socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
    const push = () => {
      let room = true
      while (room) {
        socket.write('10000\r\n')
        socket.write(block)
        room = socket.write('\r\n')
        pushed += block.length
      }
      socket.once('drain', push)
    }
    push()
  })
  const gateway = await startGateway(t, config(upstream.origin, ''))
  const sockets: Socket[] = []
  gateway.app.server.on('connection', (socket) => sockets.push(socket))
  const client = await openRaw(gateway.port)
  client.socket.pause()
  client.write(rawRequest('GET /api/x'))
  let most = 0
  let before = -1
  let since = 0
  await eventually(
    'the upstream waits',
    () => {
      most = Math.max(most, sockets[0]?.writableLength ?? 0)
      if (pushed !== before) since = performance.now()
      before = pushed
      return most > 0 && performance.now() - since > 500
    },
    30_000,
  )
  t.ok(most <= 393_216 + 1_024, `${most} bytes are held at most`)
  t.ok(pushed < 30 << 20, `${pushed} bytes left the upstream, most of them for the buffers of the kernel`)
  client.socket.destroy()
})

t.test('an upstream that breaks more connections than retries can save is ejected', async (t) => {
  const broken = await rawUpstream(t, (request) => reset(request.socket))
  const sound = await rawUpstream(t)
  const gateway = await startGateway(
    t,
    `
tiers: [free]
services: { api: { upstreams: ['${broken.origin}', '${sound.origin}'], retries: { budget: 0 } } }
routes: [{ path: /api/*, service: api }]
`,
  )
  const statuses: number[] = []
  for (let i = 0; i < 40; i++) {
    const { responses } = await rawExchange(gateway.port, rawRequest('GET /api/x'))
    statuses.push(responses[0]!.status)
  }
  t.ok(statuses.includes(502), 'without a budget nothing is tried again')
  t.same(statuses.slice(-20), Array(20).fill(200))
})
