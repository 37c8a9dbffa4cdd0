// Tests src/upstream/connector.ts src/upstream/http1/{buffers,connection,request,upload}.ts
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { createServer as createTlsServer } from 'node:tls'
import t, { type Test } from 'tap'
import { openHttp1 } from '../../../src/upstream/http1/pool.js'
import type { BodySink, BodySource, Sender, SenderRequest, Sent } from '../../../src/upstream/sender.js'
import { createAuthority, pairOf } from '../../support/credentials/authority.js'
import { eventually } from '../../support/eventually.js'
import { snapshotOf } from '../../support/gateway/gateway.js'
import { hangingListener, refusingPort } from '../../support/http/hanging-listener.js'
import { type RawUpstream, rawUpstream, respond } from '../../support/http/raw-upstream.js'

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

// Each test has an upstream of its own, and some mostly wait.
t.jobs = 4

function open(t: Test, origin: string, connections = 4, connectMs = 10_000, ca?: string): Sender {
  const snapshot = snapshotOf(`
tiers: [free]
services: { api: { upstreams: ['${origin}']${ca === undefined ? '' : `, tls: { ca: ${ca} }`} } }
routes: [{ path: /*, service: api }]
`)
  const sender = openHttp1(snapshot.services[0]!.upstreams[0]!, connections, connectMs, (_, __, done) =>
    done(null, '127.0.0.1', 4),
  )
  t.teardown(() => sender.destroy())
  return sender
}

interface Answer {
  readonly status: number
  readonly fields: readonly string[]
  readonly body: string
  readonly trailers: readonly string[] | null
}

/** Sends a request and resolves with its outcome. */
function send(
  sender: Sender,
  request: Partial<SenderRequest> = {},
  onConnect = (_: Sent) => {},
): Promise<Answer> {
  let status = 0
  let fields: string[] = []
  let body = ''
  return new Promise((resolve, reject) =>
    sender.dispatch(
      { method: 'GET', path: '/', fields: ['Host', 'a'], body: null, length: -1, ...request },
      {
        onConnect,
        onHeaders(code, received) {
          status = code
          fields = received
        },
        onData(piece) {
          body += piece.toString('latin1')
          return true
        },
        onComplete: (trailers) => resolve({ status, fields, body, trailers }),
        onError: reject,
      },
    ),
  )
}

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'no error',
    (error: NodeJS.ErrnoException) => error.code ?? error.message,
  )

/** A body that the test writes by hand. */
class Source implements BodySource {
  sink!: BodySink
  resumed = 0
  start(sink: BodySink): void {
    this.sink = sink
  }
  wait(): void {}
  resume(): void {
    this.resumed++
  }
}

const connectionsOf = ({ requests }: RawUpstream) => requests.map(({ connection }) => connection)

t.test('a request is written as given, with a short body in the same write as the header', async (t) => {
  const upstream = await rawUpstream(t)
  const sender = open(t, upstream.origin)
  const fields = ['Host', 'a', 'X-A', '1', 'X-a', '\xe9']
  t.match(await send(sender, { method: 'POST', path: '/p?q', fields, body: Buffer.from('h\xe9llo') }), {
    status: 200,
    fields: ['Content-Length', '2'],
    body: 'ok',
    trailers: null,
  })
  t.equal(
    upstream.requests[0]!.head,
    'POST /p?q HTTP/1.1\r\nconnection: keep-alive\r\nHost: a\r\nX-A: 1\r\nX-a: \xe9\r\ncontent-length: 6',
  )
  t.equal(upstream.requests[0]!.body, Buffer.from('h\xe9llo').toString('latin1'))
})

t.test('an exception of the reader of whole responses ends one request', async (t) => {
  const sender = open(t, (await rawUpstream(t)).origin)
  const failed = new Promise<Error>((resolve, reject) =>
    sender.dispatch(
      { method: 'GET', path: '/', fields: ['Host', 'a'], body: null, length: -1 },
      {
        onConnect() {},
        readWhole() {
          throw new Error('a fault')
        },
        onHeaders() {},
        onData: () => true,
        onComplete: reject,
        onError: resolve,
      },
    ),
  )
  t.equal((await failed).message, 'a fault')
  t.match(await send(sender), { status: 200 })
})

t.test('a request that could be read as more than one is not sent', async (t) => {
  const upstream = await rawUpstream(t)
  const sender = open(t, upstream.origin)
  for (const request of [
    { path: '/a b' },
    { path: '/a\r\nX: y' },
    { path: '/\u010d\u010a' },
    { method: 'GET /\r\n' },
    { fields: ['Host', 'a', 'X', 'a\r\nY: b'] },
    { fields: ['Host', 'a', 'X', '\u010d\u010a'] },
    { fields: ['Host', 'a', 'X', 'a\0'] },
    { fields: ['Host', 'a', 'X: y', 'a'] },
    { fields: ['Host', 'a', '', 'a'] },
  ]) {
    t.equal(await codeOf(send(sender, request)), 'UPSTREAM_UNSENDABLE', JSON.stringify(request))
  }
  await send(sender)
  t.equal(upstream.requests.length, 1)
  t.equal(upstream.connections(), 1)
})

t.test('connections are reused', async (t) => {
  const upstream = await rawUpstream(t)
  const sender = open(t, upstream.origin)
  await Promise.all([send(sender), send(sender), send(sender)])
  t.equal(upstream.connections(), 3)
  for (let i = 0; i < 8; i++) await send(sender)
  // The connection that has just answered rests for a turn.
  t.ok(new Set(connectionsOf(upstream).slice(3)).size <= 2)
  t.equal(upstream.connections(), 3)
})

t.test('a pool opens at most its maximum of connections, and other requests wait', async (t) => {
  const upstream = await rawUpstream(t)
  const sender = open(t, upstream.origin, 2)
  const answers = await Promise.all(Array.from({ length: 20 }, () => send(sender)))
  t.equal(answers.length, 20)
  t.equal(upstream.connections(), 2)
})

t.test('a connection is not reused', async (t) => {
  const cases: Record<string, [string, Partial<SenderRequest>?]> = {
    'after Connection: close': ['HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok'],
    'after HTTP/1.0': ['HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok'],
    'after HEAD': ['HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n', { method: 'HEAD' }],
    'after a body that its method does not call for': [OK, { method: 'DELETE', body: Buffer.from('x') }],
    'that the upstream keeps for two seconds only': [
      'HTTP/1.1 200 OK\r\nKeep-Alive: timeout=2\r\nContent-Length: 2\r\n\r\nok',
    ],
    'after a 304 that names a length': ['HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n'],
    'when bytes follow the response': [`${OK}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n`],
    'when bytes follow a response without a body': ['HTTP/1.1 304 Not Modified\r\n\r\nbody'],
    'when its sender says so': [OK, { last: true }],
  }
  for (const [what, [bytes, request]] of Object.entries(cases)) {
    t.test(what, async (t) => {
      const upstream = await rawUpstream(t, (received) => respond(received, bytes))
      const sender = open(t, upstream.origin)
      await send(sender, request)
      await send(sender, request)
      t.strictSame(connectionsOf(upstream), [0, 1])
      await eventually('it is closed', () => upstream.requests[0]!.closed)
    })
  }
})

t.test('an idle connection', async (t) => {
  t.test('closes when anything arrives on it', async (t) => {
    const upstream = await rawUpstream(t)
    const sender = open(t, upstream.origin)
    await send(sender)
    respond(upstream.requests[0]!, OK)
    await eventually('it is closed', () => upstream.requests[0]!.closed)
    t.equal((await send(sender)).body, 'ok')
    t.strictSame(connectionsOf(upstream), [0, 1])
  })

  t.test('moves a request that has not left to another connection, but only once', async (t) => {
    const upstream = await rawUpstream(t)
    const sender = open(t, upstream.origin)
    await send(sender)
    const source = new Source()
    const answer = send(sender, { method: 'POST', body: source, length: 1 })
    await eventually('it has the connection', () => source.sink !== undefined)
    const first = source.sink
    // A response to no request.
    respond(upstream.requests[0]!, OK)
    await eventually('it has another', () => source.sink !== first)
    first.write(Buffer.from('!'))
    source.sink.write(Buffer.from('?'))
    source.sink.end()
    t.match(await answer, { status: 200 })
    t.strictSame(
      upstream.requests.map(({ body }) => body),
      ['', '?'],
    )
    t.strictSame(connectionsOf(upstream), [0, 1])

    const unlucky = new Source()
    const code = codeOf(send(sender, { method: 'POST', body: unlucky, length: 1 }))
    await eventually('it has the connection', () => unlucky.sink !== undefined)
    const { sink } = unlucky
    respond(upstream.requests[1]!, OK)
    await eventually('it has another', () => unlucky.sink !== sink)
    upstream.stop()
    t.match(await code, /UPSTREAM_CLOSED|ECONNRESET/)
    t.equal(upstream.requests.length, 2)
  })

  t.test('closes before the upstream would, if the upstream says when', async (t) => {
    const upstream = await rawUpstream(t, (request) =>
      respond(request, 'HTTP/1.1 200 OK\r\nKeep-Alive: max=9, timeout=3\r\nContent-Length: 0\r\n\r\n'),
    )
    const sender = open(t, upstream.origin)
    await send(sender)
    await send(sender)
    t.strictSame(connectionsOf(upstream), [0, 0])
    // The upstream's timer has the same event loop: if that stands still, both are late.
    await delay(2_900)
    await send(sender)
    t.strictSame(connectionsOf(upstream), [0, 0, 1])
    await eventually('it is closed', () => upstream.requests[0]!.closed)
  })

  t.test('closes at once when its pool closes', async (t) => {
    const upstream = await rawUpstream(t)
    const sender = open(t, upstream.origin)
    await send(sender)
    await sender.close()
    await eventually('it is closed', () => upstream.requests[0]!.closed)
    t.equal(await codeOf(send(sender)), 'UPSTREAM_SHUT')
  })
})

t.test('a request that asks for a new connection gets one, in place of an idle one if needed', async (t) => {
  const upstream = await rawUpstream(t)
  for (const limit of [4, 2]) {
    const before = upstream.connections()
    const sender = open(t, upstream.origin, limit)
    await Promise.all([send(sender), send(sender)])
    const [fresh] = await Promise.all([
      send(sender, { fresh: true, path: '/fresh' }),
      send(sender),
      send(sender),
    ])
    t.equal(fresh.body, 'ok')
    const { connection } = upstream.requests.findLast(({ target }) => target === '/fresh')!
    t.equal(connection, before + 2)
  }
  const { origin } = await refusingPort()
  t.equal(await codeOf(send(open(t, origin), { fresh: true })), 'ECONNREFUSED')
})

t.test('a pool that closes lets running requests finish', async (t) => {
  const upstream = await rawUpstream(t, () => {})
  const sender = open(t, upstream.origin, 1)
  const [first, second] = [send(sender), send(sender)]
  await eventually('the first has come', () => upstream.requests.length === 1)
  let closed = false
  const closing = sender.close().then(() => {
    closed = true
  })
  respond(upstream.requests[0]!, OK)
  t.equal((await first).body, 'ok')
  await eventually('the second has come', () => upstream.requests.length === 2)
  t.equal(closed, false)
  respond(upstream.requests[1]!, OK)
  t.equal((await second).body, 'ok')
  await closing
})

t.test('a destroyed pool fails running and waiting requests', async (t) => {
  const upstream = await rawUpstream(t, () => {})
  const sender = open(t, upstream.origin, 1)
  const codes = [codeOf(send(sender)), codeOf(send(sender))]
  await eventually('the first has come', () => upstream.requests.length === 1)
  await sender.destroy()
  t.strictSame(await Promise.all(codes), ['UPSTREAM_SHUT', 'UPSTREAM_SHUT'])
  await eventually('it is closed', () => upstream.requests[0]!.closed)
})

t.test('a connection that cannot be made fails one request', async (t) => {
  t.test('when it is refused', async (t) => {
    const { origin } = await refusingPort()
    const sender = open(t, origin)
    t.strictSame(await Promise.all([codeOf(send(sender)), codeOf(send(sender))]), [
      'ECONNREFUSED',
      'ECONNREFUSED',
    ])
  })

  t.test('when it takes too long', async (t) => {
    const { origin } = await hangingListener(t)
    t.equal(await codeOf(send(open(t, origin, 4, 50))), 'UPSTREAM_CONNECT_TIMEOUT')
  })

  t.test('and when its request was given up, it serves the next one', async (t) => {
    const upstream = await rawUpstream(t)
    const sender = open(t, upstream.origin, 1)
    const gone = send(sender, {}, () => {
      throw new Error('changed my mind')
    })
    t.strictSame(await Promise.all([codeOf(gone), send(sender).then(({ body }) => body)]), [
      'changed my mind',
      'ok',
    ])
    t.equal(upstream.requests.length, 1)
  })
})

t.test('an aborted request closes its connection', async (t) => {
  const upstream = await rawUpstream(t, () => {})
  const sender = open(t, upstream.origin, 1)
  let sent: Sent | undefined
  const code = codeOf(
    send(sender, {}, (it) => {
      sent = it
    }),
  )
  await eventually('it has come', () => upstream.requests.length === 1)
  sent!.abort()
  t.equal(await code, 'UPSTREAM_ABORTED')
  await eventually('it is closed', () => upstream.requests[0]!.closed)
  // A second abort does nothing: the connection is no longer its own.
  const other = send(sender)
  await eventually('the other has come', () => upstream.requests.length === 2)
  sent!.abort()
  respond(upstream.requests[1]!, OK)
  t.equal((await other).body, 'ok')
})

t.test('a streamed body', async (t) => {
  t.test('is sent with its length, or in chunks if the length is unknown', async (t) => {
    const upstream = await rawUpstream(t)
    const sender = open(t, upstream.origin)
    for (const length of [8, -1]) {
      const source = new Source()
      const answer = send(sender, { method: 'POST', body: source, length }, () => {
        queueMicrotask(() => {
          source.sink.write(Buffer.from('hell'))
          source.sink.write(Buffer.alloc(0))
          source.sink.write(Buffer.from('oooo'))
          source.sink.end()
        })
      })
      t.equal((await answer).body, 'ok')
    }
    t.strictSame(
      upstream.requests.map((request) => [
        request.body,
        request.values('content-length'),
        request.values('transfer-encoding'),
      ]),
      [
        ['helloooo', ['8'], []],
        ['helloooo', [], ['chunked']],
      ],
    )
    t.equal(upstream.connections(), 1)
  })

  t.test('whose length differs from the announced one breaks the request off', async (t) => {
    const upstream = await rawUpstream(t, () => {}, { early: true })
    const sender = open(t, upstream.origin)
    for (const text of ['hell', 'helloo']) {
      const source = new Source()
      const code = codeOf(send(sender, { method: 'POST', body: source, length: 5 }))
      await eventually('it is wanted', () => source.sink !== undefined)
      source.sink.write(Buffer.from(text))
      source.sink.end()
      t.equal(await code, 'UPSTREAM_UNSENDABLE', text)
    }
    t.notOk(upstream.requests.some(({ complete }) => complete))
  })

  t.test('is read no faster than the upstream takes it', async (t) => {
    const server = createServer({ pauseOnConnect: true }, (socket) => socket.on('error', () => {}))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.teardown(() => server.close())
    const taken = once(server, 'connection')
    const source = new Source()
    const sender = open(t, `http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    const answer = send(sender, { method: 'POST', body: source, length: -1 })
    const [socket] = await taken
    await eventually('it is wanted', () => source.sink !== undefined)
    let given = 0
    while (source.sink.write(Buffer.alloc(65_536, 'x'))) given++
    t.ok(given < 1_000, `${given} pieces`)
    t.equal(source.resumed, 0)
    socket.resume()
    await eventually('more is wanted', () => source.resumed === 1)
    source.sink.end()
    socket.write(OK)
    t.equal((await answer).body, 'ok')
    socket.destroy()
  })

  t.test('may be answered before its end: the response counts, and the connection closes', async (t) => {
    const upstream = await rawUpstream(t, (request) => respond(request, OK), { early: true })
    const sender = open(t, upstream.origin)
    const source = new Source()
    const answer = send(sender, { method: 'POST', body: source, length: 10 })
    await eventually('it is wanted', () => source.sink !== undefined)
    source.sink.write(Buffer.from('hello'))
    t.equal((await answer).body, 'ok')
    // Nobody receives the rest.
    t.equal(source.sink.write(Buffer.from('world')), true)
    source.sink.end()
    await eventually('it is closed', () => upstream.requests[0]!.closed)
    t.equal(upstream.requests[0]!.complete, false)
  })
})

t.test('a response is read no faster than its reader takes it', async (t) => {
  const BIG = 32 * 1024 * 1024
  let socket: import('node:net').Socket | undefined
  const upstream = await rawUpstream(t, (request) => {
    socket = request.socket
    respond(request, `HTTP/1.1 200 OK\r\nContent-Length: ${BIG}\r\n\r\n`)
    socket.write(Buffer.alloc(BIG, 'x'))
  })
  const sender = open(t, upstream.origin)
  let sent: Sent | undefined
  let got = 0
  let slow = true
  const done = new Promise<void>((resolve, reject) =>
    sender.dispatch(
      { method: 'GET', path: '/', fields: ['Host', 'a'], body: null, length: -1 },
      {
        onConnect(it) {
          sent = it
        },
        onHeaders() {},
        onData(piece) {
          got += piece.length
          return !slow
        },
        onComplete: () => resolve(),
        onError: reject,
      },
    ),
  )
  await eventually('it has begun', () => got > 0)
  const first = got
  t.ok(first <= 65_536)
  sent!.resume()
  await eventually('it goes on', () => got > first)
  t.ok(got <= 131_072, 'by one piece')
  t.ok(socket!.writableLength > 0)
  slow = false
  sent!.resume()
  await done
  t.equal(got, BIG)
})

t.test('a long response that comes fast lets others have their turn', async (t) => {
  const BIG = 16 * 1024 * 1024
  const upstream = await rawUpstream(t, (request) => {
    respond(request, `HTTP/1.1 200 OK\r\nContent-Length: ${BIG}\r\n\r\n`)
    request.socket.write(Buffer.alloc(BIG, 'x'))
  })
  const sender = open(t, upstream.origin)
  let got = 0
  let inTurn = 0
  let most = 0
  let turns = setImmediate(function next() {
    inTurn = 0
    turns = setImmediate(next)
  })
  await new Promise<void>((resolve, reject) =>
    sender.dispatch(
      { method: 'GET', path: '/', fields: ['Host', 'a'], body: null, length: -1 },
      {
        onConnect() {},
        onHeaders() {},
        onData(piece) {
          got += piece.length
          inTurn += piece.length
          most = Math.max(most, inTurn)
          // Until the socket buffers more than one read takes.
          for (const end = performance.now() + 1; performance.now() < end; );
          return true
        },
        onComplete: () => resolve(),
        onError: reject,
      },
    ),
  )
  clearImmediate(turns)
  t.equal(got, BIG)
  t.ok(most <= 131_072 + 65_536, `${most} bytes in a turn`)
})

t.test('a connection whose reading stopped on its last bytes reads the next response', async (t) => {
  const authority = createAuthority(t)
  const pair = pairOf(authority.issue('upstream', 'IP:127.0.0.1'))
  // Several TLS records arrive together, and Node hands them over one by one, stopped or not.
  const head = `HTTP/1.1 200 OK\r\nContent-Length: ${60_000}\r\n\r\n`
  const server = createTlsServer(pair, (socket) => {
    socket.on('data', () => socket.write(head + 'x'.repeat(60_000)))
    socket.on('error', () => {})
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const origin = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
  const sender = open(t, origin, 1, 10_000, authority.ca)
  for (let i = 0; i < 20; i++) {
    let got = 0
    await new Promise<void>((resolve, reject) => {
      let sent: Sent | undefined
      sender.dispatch(
        { method: 'GET', path: '/', fields: ['Host', 'a'], body: null, length: -1 },
        {
          onConnect(given) {
            sent = given
          },
          onHeaders() {},
          onData(piece) {
            got += piece.length
            setImmediate(() => sent!.resume())
            return false
          },
          onComplete: () => resolve(),
          onError: reject,
        },
      )
    })
    t.equal(got, 60_000)
  }
})

t.test('pieces of a body do not change while others are read', async (t) => {
  // Each response is of one letter, of any length; a buffer that was used twice would mix them.
  const upstream = await rawUpstream(t, ({ target, socket }) => {
    const [, letter, length] = target.split('/')
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\n\r\n`)
    socket.write(letter!.repeat(Number(length)))
  })
  const sender = open(t, upstream.origin, 6)
  const lengths = [1, 100, 20_000, 70_000, 300_000, 2]
  const letters = [...'abcdefghijklmnopqrstuvwxyz']
  const read = (letter: string, length: number, takesText: boolean) =>
    new Promise<(Buffer | string)[]>((resolve, reject) => {
      const pieces: (Buffer | string)[] = []
      sender.dispatch(
        { method: 'GET', path: `/${letter}/${length}`, fields: ['Host', 'a'], body: null, length: -1 },
        {
          takesText,
          onConnect() {},
          onHeaders() {},
          onData: (piece) => pieces.push(piece) > 0,
          onComplete: () => resolve(pieces),
          onError: reject,
        },
      )
    })
  const all = await Promise.all(
    Array.from({ length: 120 }, async (_, i) => {
      const [letter, length] = [letters[i % 26]!, lengths[i % 6]!]
      return { letter, length, pieces: await read(letter, length, i % 4 < 2) }
    }),
  )
  let short = 0
  for (const { letter, length, pieces } of all) {
    const texts = pieces.filter((piece) => typeof piece === 'string')
    const body = Buffer.concat(
      pieces.map((piece) => (typeof piece === 'string' ? Buffer.from(piece, 'latin1') : piece)),
    )
    short += texts.length
    if (body.length !== length || !body.equals(Buffer.alloc(length, letter))) t.fail(`${letter} × ${length}`)
  }
  t.equal(all.length, 120)
  t.ok(short > 0, 'short ones came as text where that was asked for')
})
