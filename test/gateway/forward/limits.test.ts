import type { Socket } from 'node:net'
import t, { type Test } from 'tap'
import { eventually } from '../../support/eventually.js'
import { freePort } from '../../support/free-port.js'
import { startGateway } from '../../support/gateway/gateway.js'
import { openRaw, rawExchange } from '../../support/http/raw.js'
import { rawUpstream, reset, respond } from '../../support/http/raw-upstream.js'

function yamlFor(origin: string, route = '', service = ''): string {
  return `
tiers: [free]
services: { api: { upstreams: ['${origin}']${service} } }
routes: [{ path: /*, service: api${route} }]
server: { min_rate: 0 }
`
}

const GET = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
const HEADER = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'
const CHUNK = '5\r\nhello\r\n'

// These tests mostly wait.
t.jobs = 6
const APART = { buffered: true }

const codeOf = (body: string) => JSON.parse(body).code

t.test('timeouts.total bounds the whole exchange', APART, async (t) => {
  t.test('by cutting a response that never ends', async (t) => {
    const upstream = await rawUpstream(t, (request) => {
      respond(request, HEADER)
      const timer = setInterval(() => respond(request, CHUNK), 20)
      request.socket.on('close', () => clearInterval(timer))
    })
    const gateway = await startGateway(t, yamlFor(upstream.origin, ', timeouts: { total: 1s }'))
    const client = await openRaw(gateway.port)
    client.write(GET)
    await client.closed()
    t.match(client.received(), /hello/)
    t.notMatch(client.received(), /\r\n0\r\n\r\n$/, 'no clean end')
    await eventually('the upstream sees the end', () => upstream.requests[0]!.closed)
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 200, error: 'upstream_cut', cause: /1000 ms/ })
    t.ok(gateway.records[0]!.durationMs >= 1000)
  })

  t.test('with 504 before there is a header', async (t) => {
    const upstream = await rawUpstream(t, () => {})
    const gateway = await startGateway(t, yamlFor(upstream.origin, ', timeouts: { total: 200ms }'))
    const { responses } = await rawExchange(gateway.port, GET)
    t.equal(responses[0]!.status, 504)
    t.equal(codeOf(responses[0]!.body), 'upstream_timeout')
  })

  t.test('with 408 for an upload that trickles', async (t) => {
    const upstream = await rawUpstream(t, () => {}, { early: true })
    const gateway = await startGateway(t, yamlFor(upstream.origin, ', timeouts: { total: 1s }'))
    const client = await openRaw(gateway.port)
    client.write('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n')
    const timer = setInterval(() => client.write(CHUNK), 20)
    await client.until('answer', () => client.responses().length === 1)
    clearInterval(timer)
    t.equal(client.responses()[0]!.status, 408)
    await client.closed()
    await eventually('the upstream sees the end', () => upstream.requests[0]!.closed)
    t.equal(upstream.requests[0]!.complete, false)
  })

  t.test('unless it is 0', async (t) => {
    const upstream = await rawUpstream(t, (request) => void setTimeout(() => respond(request, OK), 100))
    const gateway = await startGateway(t, yamlFor(upstream.origin, ', timeouts: { total: 0 }'))
    t.equal((await rawExchange(gateway.port, GET)).responses[0]!.status, 200)
  })
})

t.test("timeouts.headers runs from the request's last byte to the response's header", APART, async (t) => {
  const limits = ', timeouts: { headers: 250ms }'
  t.test('and is not extended by 1xx', async (t) => {
    const upstream = await rawUpstream(t, (request) => {
      const timer = setInterval(() => respond(request, 'HTTP/1.1 102 Processing\r\n\r\n'), 20)
      request.socket.on('close', () => clearInterval(timer))
    })
    const gateway = await startGateway(t, yamlFor(upstream.origin, limits))
    const { responses } = await rawExchange(gateway.port, GET)
    t.equal(responses[0]!.status, 504)
    t.equal(codeOf(responses[0]!.body), 'upstream_timeout')
  })

  t.test('but not while the body comes in', async (t) => {
    const upstream = await rawUpstream(t)
    const gateway = await startGateway(t, yamlFor(upstream.origin, ', timeouts: { headers: 2s }'))
    const client = await openRaw(gateway.port)
    client.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n')
    for (let i = 0; i < 10; i++) {
      client.write('x')
      await new Promise((resolve) => setTimeout(resolve, 250))
    }
    await client.until('answer', () => client.responses().length === 1)
    t.equal(client.responses()[0]!.status, 200)
    client.socket.destroy()
  })
})

// Not in parallel: it would stop the others.
t.test('timeouts.headers counts a response as in time that came while the process stood still', async (t) => {
  const upstream = await rawUpstream(t, (request) => {
    respond(request, OK)
    // Nothing else runs meanwhile; the response waits in the kernel.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_500)
  })
  const gateway = await startGateway(t, yamlFor(upstream.origin, ', timeouts: { headers: 1s }'))
  t.equal((await rawExchange(gateway.port, GET)).responses[0]!.status, 200)
})

t.test('timeouts.idle bounds the time without a byte of a body', APART, async (t) => {
  const limits = ', timeouts: { idle: 250ms, headers: 10s }'
  t.test('from the upstream: the response is cut', async (t) => {
    const upstream = await rawUpstream(t, (request) => respond(request, HEADER + CHUNK))
    const gateway = await startGateway(t, yamlFor(upstream.origin, limits))
    const client = await openRaw(gateway.port)
    client.write(GET)
    await client.closed()
    t.match(client.received(), /hello\r\n$/)
    await eventually('the upstream sees the end', () => upstream.requests[0]!.closed)
    t.match(gateway.records[0], { status: 200, error: 'upstream_cut' })
  })

  t.test('from the client: 408, and the upstream sees a cut', async (t) => {
    const upstream = await rawUpstream(t, () => {}, { early: true })
    const gateway = await startGateway(t, yamlFor(upstream.origin, limits))
    for (const framing of ['Content-Length: 100', 'Transfer-Encoding: chunked']) {
      const { responses, closed } = await rawExchange(
        gateway.port,
        `POST / HTTP/1.1\r\nHost: a\r\n${framing}\r\n\r\n${CHUNK}`,
      )
      t.equal(responses[0]!.status, 408)
      t.equal(codeOf(responses[0]!.body), 'request_timeout')
      t.ok(closed)
      await eventually('the upstream sees the end', () => upstream.requests.at(-1)!.closed)
      t.equal(upstream.requests.at(-1)!.complete, false)
    }
    await gateway.recorded(2)
    t.match(gateway.records, [{ status: 408, error: 'request_timeout' }, { error: 'request_timeout' }])
  })

  t.test('when the upstream takes none: 504', async (t) => {
    // The upstream reads nothing, so the upload is stuck once every buffer on the way is full.
    const upstream = await rawUpstream(t, ({ socket }) => void socket.pause(), { early: true })
    const gateway = await startGateway(t, yamlFor(upstream.origin, limits))
    const client = await openRaw(gateway.port)
    client.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n')
    const block = Buffer.alloc(1 << 20)
    const fill = () => {
      while (client.socket.write(block));
      if (!client.isClosed()) client.socket.once('drain', fill)
    }
    fill()
    await client.until('answer', () => client.responses().length === 1)
    t.equal(client.responses()[0]!.status, 504)
    t.equal(codeOf(client.responses()[0]!.body), 'upstream_timeout')
    await client.closed()
  })

  t.test('when the client takes none: both connections end, and what is held is bounded', async (t) => {
    let pushed = 0
    const block = Buffer.alloc(65_536)
    const upstream = await rawUpstream(t, ({ socket }) => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${1 << 30}\r\n\r\n`)
      const push = () => {
        do pushed += block.length
        while (socket.write(block))
        socket.once('drain', push)
      }
      push()
    })
    const gateway = await startGateway(t, yamlFor(upstream.origin, limits))
    const client = await openRaw(gateway.port)
    client.socket.pause()
    client.write(GET)
    await eventually('the upstream sees the end', () => upstream.requests[0]?.closed === true)
    // Nearly all of it is in the kernel's buffers for the two connections.
    t.ok(pushed < 30 << 20, `${pushed} bytes left the upstream`)
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 200, error: 'client_closed' })
    t.equal(gateway.watchdog.size(), 0)
    client.socket.resume()
    await client.closed()
  })

  t.test('when the client takes none of a response that has come completely', async (t) => {
    let toClient: Socket | undefined
    const piece = `4000\r\n${'x'.repeat(0x4000)}\r\n`
    const upstream = await rawUpstream(t, (request) => {
      respond(request, HEADER)
      // Ends as soon as something stays in the gateway because the kernel's buffers are full.
      const timer = setInterval(() => {
        if (toClient!.writableLength === 0) respond(request, piece)
        else {
          clearInterval(timer)
          respond(request, '0\r\n\r\n')
        }
      }, 1)
    })
    const gateway = await startGateway(t, yamlFor(upstream.origin, limits))
    gateway.app.server.once('connection', (socket) => {
      toClient = socket
    })
    const client = await openRaw(gateway.port)
    client.socket.pause()
    client.write(GET)
    await eventually('it is recorded', () => gateway.records.length === 1, 10_000)
    t.match(gateway.records[0], { status: 200, error: 'client_closed' })
    t.equal(gateway.watchdog.size(), 0)
    client.socket.resume()
    await client.closed()
    t.notMatch(client.received().slice(-10), /\r\n0\r\n\r\n$/)
  })

  t.test('and does not cut responses that wait for an earlier one on the connection', async (t) => {
    const large = 'x'.repeat(5 << 20)
    const upstream = await rawUpstream(t, (request) => {
      if (request.target === '/2') respond(request, OK)
      else if (request.target === '/3') {
        respond(request, `HTTP/1.1 200 OK\r\nContent-Length: ${large.length}\r\n\r\n${large}`)
      } else {
        respond(request, HEADER)
        let left = 8
        const timer = setInterval(() => {
          respond(request, left > 0 ? CHUNK : '0\r\n\r\n')
          if (left-- === 0) clearInterval(timer)
        }, 200)
      }
    })
    const gateway = await startGateway(t, yamlFor(upstream.origin, ', timeouts: { idle: 1s }'))
    const bytes = [1, 2, 3].map((i) => `GET /${i} HTTP/1.1\r\nHost: a\r\n\r\n`).join('')
    const { responses } = await rawExchange(gateway.port, bytes, { responses: 3 })
    t.ok(responses[0]!.body === 'hello'.repeat(8))
    t.ok(responses[1]!.body === 'ok')
    t.ok(responses[2]!.body === large)
    await gateway.recorded(3)
    t.strictSame(
      gateway.records.map(({ error }) => error),
      [undefined, undefined, undefined],
    )
  })
})

t.test('the body limit', APART, async (t) => {
  const upstream = await rawUpstream(t, undefined)
  const gateway = await startGateway(t, yamlFor(upstream.origin, ', body_limit: 10'))

  t.test('is 413 by Content-Length: nothing reaches the upstream', async (t) => {
    const before = upstream.connections()
    const { responses, closed } = await rawExchange(
      gateway.port,
      'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello',
    )
    t.equal(responses[0]!.status, 413)
    t.equal(codeOf(responses[0]!.body), 'payload_too_large')
    t.match(responses[0]!.body, /10 bytes/)
    t.ok(closed)
    t.equal(upstream.connections(), before)
  })

  t.test('is 413 instead of 100 Continue', async (t) => {
    const { text } = await rawExchange(
      gateway.port,
      'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n',
    )
    t.match(text, /^HTTP\/1.1 413 /)
  })

  t.test('is 413 at the chunk that exceeds it: the upstream sees a cut, never a complete body', async (t) => {
    const early = await rawUpstream(t, () => {}, { early: true })
    const gateway = await startGateway(t, yamlFor(early.origin, ', body_limit: 10'))
    const client = await openRaw(gateway.port)
    client.write(`POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n${CHUNK}`)
    await eventually('the first chunk arrives', () => early.requests[0]?.body === 'hello')
    client.write(`${CHUNK}1\r\nx\r\n0\r\n\r\n`)
    await client.until('answer', () => client.responses().length === 1)
    t.equal(client.responses()[0]!.status, 413)
    t.equal(client.responses()[0]!.header('connection'), 'close')
    await client.closed()
    await eventually('the upstream sees the end', () => early.requests[0]!.closed)
    t.equal(early.requests[0]!.complete, false)
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 413, error: 'payload_too_large', bytesIn: 11 })
  })

  t.test('allows exactly its size', async (t) => {
    for (const rest of [
      'Content-Length: 10\r\n\r\nhellohello',
      `Transfer-Encoding: chunked\r\n\r\n${CHUNK}${CHUNK}0\r\n\r\n`,
    ]) {
      const { responses } = await rawExchange(gateway.port, `POST / HTTP/1.1\r\nHost: a\r\n${rest}`)
      t.equal(responses[0]!.status, 200)
      t.equal(upstream.requests.at(-1)!.body, 'hellohello')
    }
  })
})

t.test('an upload that is answered before its end', APART, async (t) => {
  const DENIED = 'HTTP/1.1 401 Unauthorized\r\nContent-Length: 6\r\n\r\ndenied'

  t.test('gets the response, is closed, and is not forwarded further', async (t) => {
    const upstream = await rawUpstream(t, (request) => respond(request, DENIED), { early: true })
    const gateway = await startGateway(t, yamlFor(upstream.origin))
    for (const framing of ['Content-Length: 100000000', 'Transfer-Encoding: chunked']) {
      const client = await openRaw(gateway.port)
      client.write(`POST / HTTP/1.1\r\nHost: a\r\n${framing}\r\n\r\n5\r\nhello\r\n`)
      await client.until('answer', () => client.responses().length === 1)
      t.match(client.responses(), [{ status: 401, body: 'denied' }])
      t.equal(client.responses()[0]!.header('connection'), 'close')
      await client.closed()
      await eventually('the upstream sees the end', () => upstream.requests.at(-1)!.closed)
      t.equal(upstream.requests.at(-1)!.complete, false)
    }
    await gateway.recorded(2)
    t.strictSame(
      gateway.records.map(({ status, error }) => ({ status, error })),
      [
        { status: 401, error: undefined },
        { status: 401, error: undefined },
      ],
    )
  })

  t.test('gets the response even while it goes on sending as fast as it can', async (t) => {
    const upstream = await rawUpstream(t, (request) => respond(request, DENIED), { early: true })
    const gateway = await startGateway(t, yamlFor(upstream.origin))
    const client = await openRaw(gateway.port)
    client.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n')
    const block = Buffer.alloc(16_384)
    const timer = setInterval(() => client.socket.writable && client.socket.write(block), 2)
    await client.until('answer', () => client.responses().length === 1)
    t.match(client.responses(), [{ status: 401, body: 'denied' }])
    await client.closed()
    clearInterval(timer)
    await gateway.recorded(1)
    t.ok(gateway.records[0]!.bytesIn < 10_000_000)
  })

  t.test("gets Connection: close with the header, when the response's body comes slowly", async (t) => {
    const upstream = await rawUpstream(
      t,
      (request) => {
        respond(request, HEADER)
        setTimeout(() => respond(request, `${CHUNK}0\r\n\r\n`), 50)
      },
      { early: true },
    )
    const gateway = await startGateway(t, yamlFor(upstream.origin))
    const client = await openRaw(gateway.port)
    client.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhello')
    await client.until('answer', () => client.responses().length === 1)
    t.match(client.responses(), [{ status: 200, body: 'hello' }])
    t.equal(client.responses()[0]!.header('connection'), 'close')
    await client.closed()
  })

  t.test('goes on both ways if the upstream reads it to its end', async (t) => {
    // An echo: the response begins with the first byte of the body and ends with its last.
    const upstream = await rawUpstream(
      t,
      (request) => {
        respond(request, HEADER)
        let echoed = 0
        const timer = setInterval(() => {
          const more = request.body.slice(echoed)
          echoed += more.length
          if (more !== '') respond(request, `${more.length.toString(16)}\r\n${more}\r\n`)
          if (!request.complete) return
          clearInterval(timer)
          respond(request, '0\r\n\r\n')
        }, 5)
      },
      { early: true },
    )
    const gateway = await startGateway(t, yamlFor(upstream.origin))
    const client = await openRaw(gateway.port)
    client.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello')
    await client.until('the echo', () => client.received().endsWith('hello\r\n'))
    client.write('world')
    await client.until('answer', () => client.responses().length === 1)
    t.match(client.responses(), [{ status: 200, body: 'helloworld' }])
    await client.closed()
  })

  t.test('by a status without a body is closed, once the client can have read it', async (t) => {
    const upstream = await rawUpstream(t, (request) => respond(request, 'HTTP/1.1 204 No Content\r\n\r\n'), {
      early: true,
    })
    const gateway = await startGateway(t, yamlFor(upstream.origin))
    const client = await openRaw(gateway.port)
    client.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello')
    await client.until('answer', () => client.responses().length === 1)
    const answered = performance.now()
    t.match(client.responses(), [{ status: 204 }])
    await client.closed()
    t.ok(performance.now() - answered > 200, 'long before the end of the connection')
  })

  t.test('but has come completely keeps its connection', async (t) => {
    const upstream = await rawUpstream(t, (request) => respond(request, DENIED), { early: true })
    const gateway = await startGateway(t, yamlFor(upstream.origin))
    const client = await openRaw(gateway.port)
    for (const count of [1, 2]) {
      client.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello')
      await client.until('answer', () => client.responses().length === count)
    }
    t.equal(client.responses()[1]!.header('connection'), 'keep-alive')
    client.socket.destroy()
  })
})

t.test("requests beyond an upstream's max_connections", APART, async (t) => {
  const gatewayWith = (t: Test, origin: string, limits: string) =>
    startGateway(t, yamlFor(origin, '', `, ${limits}`))

  t.test('get 503 with Retry-After at once if none may wait', async (t) => {
    const upstream = await rawUpstream(t, () => {})
    const gateway = await gatewayWith(t, upstream.origin, 'max_connections: 1, max_waiting: 1, max_wait: 20s')
    const held = await Promise.all([openRaw(gateway.port), openRaw(gateway.port)])
    for (const client of held) client.write(GET)
    await eventually('both are under way', () => gateway.watchdog.size() === 2)
    const { responses } = await rawExchange(gateway.port, GET)
    t.equal(responses[0]!.status, 503)
    t.equal(codeOf(responses[0]!.body), 'overloaded')
    t.equal(responses[0]!.header('retry-after'), '1')
    t.equal(upstream.connections(), 1)
    respond(upstream.requests[0]!, OK)
    await held[0]!.until('answer', () => held[0]!.responses().length === 1)
    await eventually('the second one has the connection', () => upstream.requests.length === 2)
    respond(upstream.requests[1]!, OK)
    await held[1]!.until('answer', () => held[1]!.responses().length === 1)
    for (const client of held) client.socket.destroy()
  })

  t.test('wait for a connection, and may leave the queue without harm to others', async (t) => {
    const upstream = await rawUpstream(t, () => {})
    const gateway = await gatewayWith(t, upstream.origin, 'max_connections: 1, max_wait: 20s')
    const clients = await Promise.all(Array.from({ length: 5 }, () => openRaw(gateway.port)))
    for (const [i, client] of clients.entries()) {
      client.write(GET)
      await eventually('it is under way', () => gateway.watchdog.size() === i + 1)
    }
    clients[1]!.socket.destroy()
    clients[2]!.socket.destroy()
    await gateway.recorded(2)
    respond(upstream.requests[0]!, OK)
    await eventually('the fourth has the connection', () => upstream.requests.length === 2)
    respond(upstream.requests[1]!, OK)
    await eventually('the fifth has the connection', () => upstream.requests.length === 3)
    respond(upstream.requests[2]!, OK)
    for (const client of [clients[0]!, clients[3]!, clients[4]!]) {
      await client.until('answer', () => client.responses().length === 1)
      client.socket.destroy()
    }
    t.equal(upstream.connections(), 1, 'those who left did not take it along')
  })

  t.test('are all answered when the upstream dies', async (t) => {
    const upstream = await rawUpstream(t, () => {})
    const gateway = await gatewayWith(t, upstream.origin, 'max_connections: 4, max_wait: 20s')
    const clients = await Promise.all(Array.from({ length: 40 }, () => openRaw(gateway.port)))
    for (const client of clients) client.write(GET)
    await eventually(
      'all are under way',
      () => gateway.watchdog.size() === 40 && upstream.requests.length === 4,
    )
    upstream.stop()
    for (const client of clients) {
      await client.until('answer', () => client.responses().length === 1)
      t.equal(client.responses()[0]!.status, 502)
      client.socket.destroy()
    }
    await gateway.recorded(40)
    t.equal(gateway.watchdog.size(), 0)
  })

  t.test('reach an upstream that came back', async (t) => {
    // A port that nobody else is given while nobody listens there.
    const first = await rawUpstream(t, (request) => reset(request.socket), { port: await freePort() })
    const gateway = await gatewayWith(t, first.origin, 'max_connections: 2, max_wait: 20s')
    first.stop()
    for (let i = 0; i < 5; i++) t.equal((await rawExchange(gateway.port, GET)).responses[0]!.status, 502)
    const second = await rawUpstream(t, undefined, { port: first.port })
    const results = await Promise.all(Array.from({ length: 20 }, () => rawExchange(gateway.port, GET)))
    t.ok(results.every(({ responses }) => responses[0]!.status === 200))
    t.ok(second.connections() <= 2, 'no more connections than allowed')
  })
})
