// Tests src/upstream/http2/{connection,request}.ts
import { lookup } from 'node:dns'
import { constants } from 'node:http2'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import t from 'tap'
import { request } from 'undici'
import { openHttp2 } from '../../src/upstream/http2/pool.js'
import { createAuthority, pairOf } from '../support/credentials/authority.js'
import { eventually } from '../support/eventually.js'
import { snapshotOf, startGateway } from '../support/gateway/gateway.js'
import { FLAG, frame, headerBlock, rawHttp2Upstream, TYPE, uint32 } from '../support/http/http2-frames.js'
import { http2Upstream, type ReceivedStream } from '../support/http/http2-upstream.js'
import { openRaw, rawExchange } from '../support/http/raw.js'
import { recordingUpstream } from '../support/http/upstream.js'

function config(origins: readonly string[] | string, more = '', route = ''): string {
  return `
tiers: [free]
services:
  api: { upstreams: [${[origins].flat().map((origin) => `"${origin}"`)}], protocol: http2${more} }
routes: [{ path: /*, service: api${route} }]
`
}

const BIG = Buffer.alloc(3 << 20, 'abcdefgh')

function answer({ stream }: ReceivedStream, body: string | Buffer = 'ok'): void {
  stream.respond({ ':status': 200 })
  stream.end(body)
}

t.test('an HTTP/1.1 request arrives as its HTTP/2 form', async (t) => {
  const upstream = await http2Upstream(t)
  const gateway = await startGateway(t, config(upstream.origin))
  const { responses } = await rawExchange(
    gateway.port,
    [
      'POST /a%20b?c=d HTTP/1.1',
      'Host: api.example',
      'Connection: keep-alive, x-hop',
      'X-Hop: 1',
      'Keep-Alive: 5',
      'TE: gzip',
      'Cookie: a=1',
      'Cookie: b=2',
      'X-Twice: 1',
      'X-Twice: \xe9',
      'Transfer-Encoding: chunked',
      '',
      '5',
      'hello',
      '0',
      'X-Trailer: 1',
      '',
      '',
    ].join('\r\n'),
  )
  t.match(responses, [{ status: 200, body: 'ok' }])
  const [received] = upstream.received
  t.match(received, {
    headers: {
      ':method': 'POST',
      ':scheme': 'http',
      ':authority': upstream.authority,
      ':path': '/a%20b?c=d',
      te: 'trailers',
      'x-forwarded-host': 'api.example',
    },
    body: 'hello',
    complete: true,
  })
  t.same(received!.values('x-twice'), ['1', '\xe9'])
  t.same(received!.values('cookie').join('; '), 'a=1; b=2')
  for (const name of ['host', 'connection', 'x-hop', 'keep-alive', 'transfer-encoding', 'x-trailer']) {
    t.same(received!.values(name), [], name)
  }
})

t.test('an aborted request stops waiting for a stream at once', async (t) => {
  const held: ReceivedStream[] = []
  const upstream = await http2Upstream(t, (received) => void held.push(received), {
    settings: { maxConcurrentStreams: 1 },
  })
  const gateway = await startGateway(t, config(upstream.origin, ', max_connections: 1'))
  const inFlight = () => gateway.upstreams.describe()[0]!.in_flight
  const first = fetch(gateway.origin)
  await eventually('one is under way', () => held.length === 1)
  const clients = await Promise.all([openRaw(gateway.port), openRaw(gateway.port)])
  for (const client of clients) client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
  await eventually('both wait', () => inFlight() === 3)
  for (const client of clients) client.socket.destroy()
  await gateway.recorded(2)
  t.same(
    gateway.records.map(({ status }) => status),
    [499, 499],
  )
  t.equal(inFlight(), 1)
  t.equal(upstream.sessions.length, 1, 'no further connection was made for them')
  answer(held[0]!)
  t.equal((await first).status, 200)
  t.equal(upstream.received.length, 1, 'they are not sent any more')
})

t.test('concurrent requests share a connection', async (t) => {
  const held: ReceivedStream[] = []
  const upstream = await http2Upstream(t, (received) => void held.push(received))
  const gateway = await startGateway(t, config(upstream.origin))
  const answers = Array.from({ length: 40 }, (_, i) => fetch(`${gateway.origin}/${i}`))
  await eventually('all have come', () => held.length === 40)
  // The responses come in another order than the requests.
  for (const one of held.reverse()) answer(one, String(one.headers[':path']))
  const bodies = await Promise.all(answers.map(async (response) => (await response).text()))
  t.same(
    bodies,
    Array.from({ length: 40 }, (_, i) => `/${i}`),
  )
  t.equal(upstream.sessions.length, 1)
})

t.test('no more streams are open than the upstream allows; other requests wait', async (t) => {
  let open = 0
  let most = 0
  const upstream = await http2Upstream(
    t,
    (received) => {
      most = Math.max(most, ++open)
      received.stream.on('close', () => open--)
      setImmediate(() => answer(received))
    },
    { settings: { maxConcurrentStreams: 2 } },
  )
  const one = config(upstream.origin).replace(/(protocol: http2)/, '$1, max_connections: 1, max_wait: 30s')
  const gateway = await startGateway(t, one)
  const statuses = await Promise.all(
    Array.from({ length: 20 }, async () => (await fetch(`${gateway.origin}/`)).status),
  )
  t.same(new Set(statuses), new Set([200]))
  t.ok(most <= 2, `${most} at once`)
  t.equal(upstream.sessions.length, 1)
})

t.test('megabytes pass both ways, and a response that nobody reads is not buffered', async (t) => {
  const upstream = await http2Upstream(t, (received) => {
    const { stream } = received
    // More than the buffers of two sockets hold.
    if (received.headers[':path'] === '/slow') {
      stream.respond({ ':status': 200 })
      Readable.from(Array.from({ length: 48 }, () => BIG)).pipe(stream)
    } else if (received.headers[':method'] === 'GET') answer(received, BIG)
    else stream.on('end', () => answer(received, String(received.body.length)))
  })
  const gateway = await startGateway(t, config(upstream.origin))
  const sent = await fetch(`${gateway.origin}/up`, { method: 'PUT', body: BIG })
  t.equal(await sent.text(), String(BIG.length))
  t.ok(BIG.equals(Buffer.from(await (await fetch(`${gateway.origin}/down`)).arrayBuffer())))

  // Another stream of the connection goes on while one stands still.
  const raw = await openRaw(gateway.port)
  raw.socket.pause()
  raw.socket.write('GET /slow HTTP/1.1\r\nHost: a\r\n\r\n')
  await eventually('it has come', () => upstream.received.length === 3)
  t.equal((await (await fetch(`${gateway.origin}/down`)).arrayBuffer()).byteLength, BIG.length)
  t.ok(upstream.received[2]!.stream.writableLength > 0, 'the upstream is held back')
  raw.socket.destroy()
  await eventually('the stream is gone', () => upstream.received[2]!.stream.destroyed)
})

t.test('responses without a body stay without one', async (t) => {
  const upstream = await http2Upstream(t, ({ stream, headers }) => {
    const status = Number(String(headers[':path']).slice(1))
    stream.respond(
      { ':status': status, ...(status === 200 ? { 'content-length': 5 } : {}) },
      { endStream: true },
    )
  })
  const gateway = await startGateway(t, config(upstream.origin))
  const { responses } = await rawExchange(
    gateway.port,
    ['GET /204', 'GET /304', 'HEAD /200'].map((line) => `${line} HTTP/1.1\r\nHost: a\r\n\r\n`).join(''),
    { responses: 3, head: true },
  )
  t.match(responses, [{ status: 204 }, { status: 304 }, { status: 200 }])
  t.equal(responses[2]?.header('content-length'), '5')
})

t.test('a request that the upstream refused unprocessed is sent again with its body', async (t) => {
  let refused = 0
  const upstream = await http2Upstream(t, (received) => {
    const { stream } = received
    if (refused < 2) {
      refused++
      stream.close(constants.NGHTTP2_REFUSED_STREAM)
    } else stream.on('end', () => answer(received, received.body))
  })
  const gateway = await startGateway(t, config(upstream.origin))
  const response = await fetch(`${gateway.origin}/`, { method: 'POST', body: 'pay 5' })
  t.same([response.status, await response.text()], [200, 'pay 5'])
  t.equal(refused, 2)
})

t.test('a request is sent three times at most to an upstream that always refuses', async (t) => {
  const upstream = await http2Upstream(t, ({ stream }) => stream.close(constants.NGHTTP2_REFUSED_STREAM))
  const gateway = await startGateway(t, config(upstream.origin))
  for (const [method, body] of [
    ['POST', 'pay 5'],
    ['GET', undefined],
    ['DELETE', undefined],
  ] as const) {
    upstream.received.length = 0
    const response = await fetch(`${gateway.origin}/`, { method, ...(body && { body }) })
    t.match(await response.json(), { status: 502, code: 'upstream_failed' }, method)
    t.equal(upstream.received.length, 3, method)
  }
})

t.test('an upstream that allows no streams is passed over at once', async (t) => {
  const full = await http2Upstream(t, answer, { settings: { maxConcurrentStreams: 0 } })
  const other = await http2Upstream(t, (received) => answer(received, 'other'))
  const alone = await startGateway(t, config(full.origin, ', max_wait: 30s'))
  t.match(await (await fetch(alone.origin)).json(), { status: 502, code: 'upstream_refused' })
  t.equal((await fetch(alone.origin, { method: 'POST', body: 'pay 5' })).status, 502)
  const both = await startGateway(t, config([full.origin, other.origin]))
  for (let i = 0; i < 4; i++) {
    const response = await fetch(both.origin, { method: 'POST', body: 'pay 5' })
    t.same([response.status, await response.text()], [200, 'other'])
  }
  t.equal(full.received.length, 0)
})

t.test('an upstream that keeps sending GOAWAY loses no request', async (t) => {
  let count = 0
  const upstream = await http2Upstream(t, (received) => {
    const { session } = received.stream
    received.stream.on('end', () => {
      // Other requests are under way on this connection, too.
      if (++count % 10 === 0) session?.close()
      setTimeout(() => answer(received, received.body), 5)
    })
  })
  const gateway = await startGateway(t, config(upstream.origin))
  let next = 0
  const failed: string[] = []
  await Promise.all(
    Array.from({ length: 16 }, async () => {
      while (next < 200) {
        const body = `request ${next++}`
        const response = await request(gateway.origin, { method: 'POST', body })
        const text = await response.body.text()
        if (response.statusCode !== 200 || text !== body) failed.push(`${response.statusCode} ${text}`)
      }
    }),
  )
  t.same(failed, [])
  t.ok(upstream.sessions.length > 10, `over ${upstream.sessions.length} connections`)
})

t.test('a stream reset before its response is a 502, and one within it cuts the response', async (t) => {
  let code = 0
  let before = true
  let cut = () => {}
  const head = headerBlock([[':status', '200']])
  const upstream = await rawHttp2Upstream(t, ({ type, stream }, send) => {
    if (type !== TYPE.headers) return
    const reset = frame(TYPE.reset, 0, stream, uint32(code))
    if (before) send(reset)
    else {
      send(frame(TYPE.headers, FLAG.endHeaders, stream, head), frame(TYPE.data, 0, stream, 'half'))
      cut = () => send(reset)
    }
  })
  const gateway = await startGateway(t, config(upstream.origin))
  for (code of [constants.NGHTTP2_INTERNAL_ERROR, constants.NGHTTP2_CANCEL, constants.NGHTTP2_NO_ERROR]) {
    before = true
    const refused = await fetch(`${gateway.origin}/`, { method: 'POST' })
    t.match(await refused.json(), { status: 502, code: 'upstream_failed' }, `${code}`)
    before = false
    const begun = await fetch(`${gateway.origin}/`)
    t.equal(begun.status, 200)
    cut()
    await t.rejects(begun.text(), `${code}`)
  }
  await gateway.recorded(6)
  for (const at of [1, 3, 5]) t.match(gateway.records[at], { status: 200, error: 'upstream_cut' })
})

t.test(
  'a response that ended is complete, whatever the upstream says of the request afterwards',
  async (t) => {
    const head = headerBlock([[':status', '200']])
    const upstream = await rawHttp2Upstream(t, ({ type, stream }, send) => {
      if (type !== TYPE.headers) return
      const reset = frame(TYPE.reset, 0, stream, uint32(constants.NGHTTP2_NO_ERROR))
      send(
        frame(TYPE.headers, FLAG.endHeaders, stream, head),
        frame(TYPE.data, FLAG.endStream, stream, 'whole'),
        reset,
      )
    })
    const gateway = await startGateway(t, config(upstream.origin))
    for (const method of ['GET', 'POST']) {
      const client = await openRaw(gateway.port)
      client.write(`${method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`)
      await client.until('an answer', () => client.responses().length > 0)
      t.match(client.responses(), [{ status: 200, body: 'whole' }], method)
    }
  },
)

t.test('a client that leaves cancels only its own stream', async (t) => {
  const held: ReceivedStream[] = []
  const upstream = await http2Upstream(t, (received) => void held.push(received))
  const gateway = await startGateway(t, config(upstream.origin))
  const stays = fetch(`${gateway.origin}/stays`)
  const control = new AbortController()
  const leaves = fetch(`${gateway.origin}/leaves`, { signal: control.signal })
  await eventually('both have come', () => held.length === 2)
  control.abort()
  await t.rejects(leaves)
  const of = (path: string) => held.find(({ headers }) => headers[':path'] === path)!
  await eventually('it is cancelled', () => of('/leaves').stream.rstCode === constants.NGHTTP2_CANCEL)
  answer(of('/stays'))
  t.equal((await stays).status, 200)
  await gateway.recorded(2)
  t.match(gateway.records[0], { status: 499, error: 'client_closed' })
})

t.test('an upstream that does not speak HTTP/2 gets nothing of the request', async (t) => {
  const plain = await recordingUpstream(t)
  const authority = createAuthority(t)
  const tls = createTlsServer(pairOf(authority.issue('x', 'IP:127.0.0.1')), (_, res) => res.end('no'))
  tls.listen(0, '127.0.0.1')
  t.teardown(() => tls.close())
  await eventually('it listens', () => tls.listening)
  const secure = `https://127.0.0.1:${(tls.address() as AddressInfo).port}`
  for (const [origin, more] of [
    [plain.origin, ''],
    [secure, `, tls: { ca: ${authority.ca} }`],
  ] as const) {
    const gateway = await startGateway(t, config(origin, more))
    const response = await fetch(`${gateway.origin}/`, { method: 'POST', body: 'secret' })
    t.match(await response.json(), { status: 502 })
  }
  t.same(plain.received, [])
})

t.test('TLS upstreams negotiate by ALPN and are verified', async (t) => {
  const authority = createAuthority(t)
  const pair = pairOf(authority.issue('x', 'IP:127.0.0.1'))
  const upstream = await http2Upstream(t, undefined, pair)
  const gateway = await startGateway(t, config(upstream.origin, `, tls: { ca: ${authority.ca} }`))
  t.equal(await (await fetch(`${gateway.origin}/`)).text(), 'ok')
  t.match(upstream.received[0], { headers: { ':scheme': 'https' } })
  const wary = await startGateway(t, config(upstream.origin))
  const response = await fetch(`${wary.origin}/`)
  t.match(await response.json(), { status: 502, code: 'upstream_tls_failed' })
  t.equal(upstream.received.length, 1)
})

t.test('an unreachable upstream is passed over for another', async (t) => {
  const upstream = await http2Upstream(t)
  const { refusingPort } = await import('../support/http/hanging-listener.js')
  const { origin } = await refusingPort()
  const gateway = await startGateway(t, config([origin, upstream.origin]))
  for (let i = 0; i < 4; i++) {
    t.equal((await fetch(`${gateway.origin}/`, { method: 'POST', body: 'x' })).status, 200)
  }
})

t.test('endless headers give a 502, and take no memory', async (t) => {
  const upstream = await http2Upstream(t, ({ stream, headers }) => {
    const many = headers[':path'] === '/many'
    const fields = Array.from({ length: many ? 110 : 20 }, (_, i) => [
      `x-${i}`,
      many ? '1' : 'y'.repeat(1500),
    ])
    stream.respond({ ':status': 200, ...Object.fromEntries(fields) })
    stream.end('ok')
  })
  const gateway = await startGateway(t, config(upstream.origin))
  t.match(await (await fetch(`${gateway.origin}/many`)).json(), { status: 502 })
  t.match(await (await fetch(`${gateway.origin}/long`)).json(), { status: 502 })
})

t.test('a complete response that nobody reads is freed when its request is aborted', async (t) => {
  const upstream = await http2Upstream(t, (received) => answer(received, BIG.subarray(0, 100_000)))
  const { upstreams } = snapshotOf(config(upstream.origin)).services[0]!
  const sender = openHttp2(upstreams[0]!, 1, 5_000, lookup)
  t.teardown(() => sender.destroy())
  let abort: (() => void) | undefined
  let failed = ''
  sender.dispatch(
    { path: '/', method: 'GET', fields: ['host', 'a'], body: null, length: -1 },
    {
      onConnect(sent) {
        abort = () => sent.abort()
      },
      onHeaders() {},
      onData: () => false,
      onComplete() {},
      onError({ message }) {
        failed = message
      },
    },
  )
  await eventually('it has come', () => upstream.received[0]?.stream.closed === true)
  await new Promise((resolve) => setTimeout(resolve, 50))
  abort!()
  await eventually('it is over', () => failed !== '')
})
