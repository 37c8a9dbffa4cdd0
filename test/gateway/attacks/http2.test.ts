// Runs alone: it measures the memory of the process, and counts its HTTP/2 sessions.
import { connect } from 'node:net'
import { queryObjects } from 'node:v8'
import t, { type Test } from 'tap'
import { Http2Connection } from '../../../src/gateway/listen/http2/connection.js'
import { createHttp2Counts } from '../../../src/gateway/listen/http2/server.js'
import { eventually } from '../../support/eventually.js'
import { startGateway, type TestGateway } from '../../support/gateway/gateway.js'
import { http2Client } from '../../support/http/http2-client.js'
import {
  FLAG,
  frame,
  headerBlock,
  PREFACE,
  type RawHttp2,
  rawHttp2,
  TYPE,
  uint32,
} from '../../support/http/http2-frames.js'
import { type RecordingUpstream, recordingUpstream } from '../../support/http/upstream.js'

/** Sends what a hostile HTTP/2 client may try, as frames, and checks what an HTTP/1.1 upstream received. */

interface Site {
  readonly gateway: TestGateway
  readonly upstream: RecordingUpstream
  readonly counts: ReturnType<typeof createHttp2Counts>
}

async function startSite(t: Test, server = 'http2: true'): Promise<Site> {
  const upstream = await recordingUpstream(t)
  const counts = createHttp2Counts()
  const yaml = `
tiers: [free]
consumers:
  - header: { name: x-user-id, from: anyone }
services: { api: { upstreams: ["${upstream.origin}"] } }
routes: [{ path: /*, service: api }]
server: { ${server} }
`
  return { gateway: await startGateway(t, yaml, { http2: counts }), upstream, counts }
}

type Field = readonly [name: string, value: string]
const PSEUDO: readonly Field[] = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':path', '/ok'],
  [':authority', 'api.example'],
]
const USER: Field = ['x-user-id', 'alice']

function headers(id: number, fields: readonly Field[], flags = FLAG.endHeaders | FLAG.endStream): Buffer {
  return frame(TYPE.headers, flags, id, headerBlock(fields))
}

function withPseudo(name: string, value: string | undefined): readonly Field[] {
  const rest = PSEUDO.filter(([key]) => key !== name)
  return value === undefined ? rest : [...rest, [name, value]]
}

/** Returns the status of the response on a stream: Node's server sends it as its first field. */
function statusOf(client: RawHttp2, id: number): boolean {
  return client.frames.some(({ type, stream }) => type === TYPE.headers && stream === id)
}

t.test('a request that HTTP/1.1 would read differently never reaches the upstream', async (t) => {
  const { gateway, upstream, counts } = await startSite(t)
  const attempts: [what: string, fields: readonly Field[], body?: string][] = [
    ['upper-case name', [...PSEUDO, USER, ['X-Upper', '1']]],
    ['CRLF in the method', [...withPseudo(':method', 'GET /admin HTTP/1.1\r\nx: y'), USER]],
    ['a method that nobody knows', [...withPseudo(':method', 'GPC'), USER]],
    ['empty method', [...withPseudo(':method', ''), USER]],
    ['space in the path', [...withPseudo(':path', '/ok HTTP/1.1'), USER]],
    ['CRLF in the path', [...withPseudo(':path', '/ok\r\nx: y'), USER]],
    ['path that is none', [...withPseudo(':path', 'ok'), USER]],
    ['empty path', [...withPseudo(':path', ''), USER]],
    ['dot segments', [...withPseudo(':path', '/ok/../admin'), USER]],
    ['CRLF in the authority', [...withPseudo(':authority', 'a\r\nx: y'), USER]],
    ['a path in the authority', [...withPseudo(':authority', 'a/admin'), USER]],
    ['credentials in the authority', [...withPseudo(':authority', 'a@b'), USER]],
    ['a scheme with a host', [...withPseudo(':scheme', 'http://evil/?'), USER]],
    ['no method', [...withPseudo(':method', undefined), USER]],
    ['no path', [...withPseudo(':path', undefined), USER]],
    ['no scheme', [...withPseudo(':scheme', undefined), USER]],
    ['no host', [...withPseudo(':authority', undefined), USER]],
    ['two paths', [...PSEUDO, [':path', '/admin'], USER]],
    ['two methods', [...PSEUDO, [':method', 'POST'], USER]],
    ['two authorities', [...PSEUDO, [':authority', 'b'], USER]],
    ['pseudo-header behind a field', [USER, ...PSEUDO]],
    ['unknown pseudo-header', [...PSEUDO, [':x', '1'], USER]],
    [':status in a request', [...PSEUDO, [':status', '200'], USER]],
    ['extended CONNECT', [...withPseudo(':method', 'CONNECT'), [':protocol', 'websocket'], USER]],
    ['CONNECT', [[':method', 'CONNECT'], [':authority', 'a:1'], USER]],
    ['TRACE', [...withPseudo(':method', 'TRACE'), USER]],
    ['another host', [...PSEUDO, ['host', 'evil'], USER]],
    ['two hosts', [...PSEUDO, ['host', 'api.example'], ['host', 'evil'], USER]],
    ['Transfer-Encoding', [...PSEUDO, USER, ['transfer-encoding', 'chunked']]],
    ['Connection', [...PSEUDO, USER, ['connection', 'x-user-id']]],
    ['Keep-Alive', [...PSEUDO, USER, ['keep-alive', '5']]],
    ['Proxy-Connection', [...PSEUDO, USER, ['proxy-connection', 'close']]],
    ['Upgrade', [...PSEUDO, USER, ['upgrade', 'websocket']]],
    ['TE', [...PSEUDO, USER, ['te', 'gzip']]],
    ['length without a body', [...withPseudo(':method', 'POST'), USER, ['content-length', '5']]],
    ['length that is too short', [...withPseudo(':method', 'POST'), USER, ['content-length', '1']], 'hello'],
    ['length that is too long', [...withPseudo(':method', 'POST'), USER, ['content-length', '9']], 'hello'],
    [
      'two lengths',
      [...withPseudo(':method', 'POST'), USER, ['content-length', '5'], ['content-length', '5']],
      'hello',
    ],
    ['length that is no number', [...withPseudo(':method', 'POST'), USER, ['content-length', '+5']], 'hello'],
    ['identity twice', [...PSEUDO, USER, ['x-user-id', 'bob']]],
    ['identity under another spelling', [...PSEUDO, ['x_user_id', 'bob']]],
  ]
  for (const [what, fields, body] of attempts) {
    const client = await rawHttp2(t, gateway.port)
    const before = upstream.received.length
    if (body === undefined) client.send(headers(1, fields))
    else {
      client.send(headers(1, fields, FLAG.endHeaders), frame(TYPE.data, FLAG.endStream, 1, body))
    }
    await eventually(
      `${what} is refused`,
      () => statusOf(client, 1) || client.resetOf(1) !== undefined || client.goaway() !== undefined,
    )
    // A request whose body does not keep to its length may have been begun, but never reaches its end.
    const reached = upstream.received.slice(before)
    t.same(
      reached.filter(({ complete }) => complete),
      [],
      `${what}: nothing reached the upstream`,
    )
    client.socket.destroy()
  }
  t.ok(counts.closed.protocol <= attempts.length)
  const good = await http2Client(t, gateway.origin)
  t.match(await good.ask('/ok', { 'x-user-id': 'alice' }), { status: 200 })
  t.same(upstream.received.at(-1)?.values('x-user-id'), ['alice'])
  t.same(gateway.logged, [])
})

t.test('a field that is none is a stream error, never left out', async (t) => {
  const { gateway, upstream } = await startSite(t)
  const wrong: [what: string, field: Field][] = [
    ['CRLF in a value', ['x', 'a\r\nx-user-id: bob']],
    ['LF in a value', ['x', 'a\nTransfer-Encoding: chunked']],
    ['CR in a value', ['x', 'a\rb']],
    ['NUL in a value', ['x', 'a\0b']],
    ['NUL in an identity', ['x-user-id', 'bob\0']],
    ['DEL in a value', ['x', 'a\x7f']],
    ['a space in front of a value', ['x', ' a']],
    ['a space behind a value', ['x-user-id', 'bob ']],
    ['a tab behind a value', ['x', 'a\t']],
    ['nothing but a space', ['x', ' ']],
    ['CRLF in a name', ['x: 1\r\ny', '1']],
    ['colon in a name', ['transfer-encoding: chunked', '']],
    ['colon behind a name', ['x:', '1']],
    ['space in a name', ['x-a ', '1']],
    ['space in front of a name', [' x-a', '1']],
    ['NUL in a name', ['x\0', '1']],
    ['a name beyond ASCII', ['x\xe4', '1']],
    ['empty name', ['', '1']],
  ]
  const client = await rawHttp2(t, gateway.port)
  let id = 1
  for (const [what, field] of wrong) {
    for (const [how, block] of [
      ['literal', headerBlock([...PSEUDO, field])],
      ['kept in the table', Buffer.concat([headerBlock(PSEUDO), literal(field, 0x40)])],
      // Of the entry that was put there just now.
      ['out of the table', Buffer.concat([headerBlock(PSEUDO), Buffer.from([0x80 | 62])])],
    ] as const) {
      for (const cuts of [1, 3]) {
        if (how === 'kept in the table' && cuts > 1) continue
        client.send(...framesOf(id, block, cuts))
        await eventually(`${what}, ${how}, is refused`, () => client.resetOf(id) !== undefined)
        t.equal(client.resetOf(id), 1, `${what}, ${how}: PROTOCOL_ERROR`)
        t.notOk(statusOf(client, id), `${what}, ${how}`)
        id += 2
      }
    }
  }
  t.same(upstream.received, [])

  client.send(headers(id, [...PSEUDO, USER, ['x', 'a b\t\xe4'], ['x-empty', '']]))
  await eventually('one without is answered', () => statusOf(client, id))
  t.same(upstream.received.at(-1)!.values('x-user-id'), ['alice'], 'and the connection goes on')
  t.same(upstream.received.at(-1)!.values('x'), ['a b\t\xe4'])
  t.equal(client.goaway(), undefined)
})

t.test('a trailer is held to the same', async (t) => {
  const { gateway, upstream } = await startSite(t, 'http2: true, min_rate: 0')
  const client = await rawHttp2(t, gateway.port)
  client.send(headers(1, [...withPseudo(':method', 'POST'), USER], FLAG.endHeaders))
  client.send(frame(TYPE.data, 0, 1, 'half'))
  await eventually('the body has come', () => upstream.received.at(-1)?.body === 'half')
  client.send(headers(1, [['x-sum', 'a\0b']]))
  await eventually('it is refused', () => client.resetOf(1) === 1)
  t.notOk(upstream.received.at(-1)!.complete)
})

/** A field by itself; 0x40: it is kept in the dynamic table (RFC 7541 §6.2.1). */
function literal(field: Field, kind: number): Buffer {
  const block = headerBlock([field])
  block[0] = kind
  return block
}

/** A header as so many frames. */
function framesOf(id: number, block: Buffer, count: number): Buffer[] {
  const size = Math.ceil(block.length / count)
  return Array.from({ length: count }, (_, i) => {
    const last = i === count - 1 ? FLAG.endHeaders : 0
    const flags = last | (i === 0 ? FLAG.endStream : 0)
    return frame(
      i === 0 ? TYPE.headers : TYPE.continuation,
      flags,
      id,
      block.subarray(i * size, (i + 1) * size),
    )
  })
}

t.test('whatever passes arrives as one plain HTTP/1.1 request', async (t) => {
  const { gateway, upstream } = await startSite(t)
  const client = await rawHttp2(t, gateway.port)
  client.send(
    headers(
      1,
      [
        ...withPseudo(':method', 'POST'),
        USER,
        ['host', 'API.example'],
        ['cookie', 'a=1'],
        ['x-plain', '1'],
        ['cookie', 'b=2'],
        ['content-length', '5'],
        ['te', 'trailers'],
        ['x-method-override', 'DELETE'],
        ['http2-settings', 'x'],
      ],
      FLAG.endHeaders,
    ),
    frame(TYPE.data, 0, 1, 'hel'),
    frame(TYPE.data, 0, 1, 'lo'),
    // Trailers are dropped.
    headers(1, [['x-user-id', 'bob']]),
  )
  await eventually('the answer', () => statusOf(client, 1))
  const [received] = upstream.received
  t.match(received, { method: 'POST', url: '/ok', body: 'hello', complete: true })
  const names = received!.rawHeaders.filter((_, i) => i % 2 === 0).map((name) => name.toLowerCase())
  t.same(names.toSorted(), [
    ...['connection', 'content-length', 'cookie', 'host', 'via', 'x-forwarded-for', 'x-forwarded-host'],
    ...['x-forwarded-proto', 'x-plain', 'x-request-id', 'x-user-id'],
  ])
  t.same(received!.values('cookie'), ['a=1; b=2'])
  t.same(received!.values('x-user-id'), ['alice'])
})

t.test('a hostile HTTP/2 client', async (t) => {
  t.test('that floods with requests and resets them loses its connection (CVE-2023-44487)', async (t) => {
    const { gateway, upstream, counts } = await startSite(t)
    const client = await rawHttp2(t, gateway.port)
    for (let id = 1; id < 1_200 && !client.isClosed(); id += 2) {
      client.send(headers(id, [...PSEUDO, USER]), frame(TYPE.reset, 0, id, uint32(8)))
      if (id % 50 === 1) await new Promise((resolve) => setImmediate(resolve))
    }
    await eventually('the connection is closed', () => client.isClosed())
    t.equal(client.goaway(), 11, 'ENHANCE_YOUR_CALM')
    t.equal(counts.closed.resets, 1)
    t.ok(upstream.received.length <= 250, `${upstream.received.length} reached the upstream`)
  })

  t.test('that makes the server reset streams loses its connection (CVE-2025-8671)', async (t) => {
    const { gateway, counts } = await startSite(t)
    const client = await rawHttp2(t, gateway.port)
    for (let id = 1; id < 1_200 && !client.isClosed(); id += 2) {
      // A WINDOW_UPDATE of 0 is an error of the stream.
      client.send(headers(id, [...PSEUDO, USER]), frame(TYPE.window, 0, id, uint32(0)))
      if (id % 50 === 1) await new Promise((resolve) => setImmediate(resolve))
    }
    await eventually('the connection is closed', () => client.isClosed())
    t.equal(counts.closed.resets + counts.closed.protocol, 1)
  })

  t.test('that floods with pings loses its connection', async (t) => {
    const { gateway, counts } = await startSite(t)
    const client = await rawHttp2(t, gateway.port)
    for (let i = 0; i < 400; i++) client.send(frame(TYPE.ping, 0, 0, '12345678'))
    await eventually('the connection is closed', () => client.isClosed())
    t.equal(counts.closed.pings + counts.closed.protocol, 1)
  })

  t.test('that floods with SETTINGS loses its connection', async (t) => {
    const { gateway, counts } = await startSite(t)
    const client = await rawHttp2(t, gateway.port)
    for (let i = 0; i < 400; i++) client.send(frame(TYPE.settings, 0, 0))
    await eventually('the connection is closed', () => client.isClosed())
    t.equal(counts.closed.settings + counts.closed.protocol, 1)
  })

  t.test('that floods with CONTINUATION loses its connection (CVE-2024-27983 and others)', async (t) => {
    const { gateway, upstream, counts } = await startSite(t)
    const client = await rawHttp2(t, gateway.port)
    client.send(headers(1, [...PSEUDO, USER], 0))
    const before = process.memoryUsage.rss()
    const block = headerBlock(Array.from({ length: 100 }, (_, i) => [`x-${i}`, 'y'.repeat(100)] as const))
    for (let i = 0; i < 2_000 && !client.isClosed(); i++) {
      client.send(frame(TYPE.continuation, 0, 1, block))
      if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    await eventually('the connection is closed', () => client.isClosed())
    t.ok(process.memoryUsage.rss() - before < 100 << 20)
    t.same(upstream.received, [])
    await eventually('it is counted', () => counts.closed.protocol === 1)
  })

  t.test('that floods with empty DATA loses its connection (CVE-2019-9518)', async (t) => {
    const { gateway } = await startSite(t)
    const client = await rawHttp2(t, gateway.port)
    client.send(headers(1, [...withPseudo(':method', 'POST'), USER], FLAG.endHeaders))
    for (let i = 0; i < 2_000 && !client.isClosed(); i++) {
      client.send(frame(TYPE.data, 0, 1))
      if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    await eventually('the connection is closed', () => client.isClosed())
    await gateway.recorded(1)
  })

  t.test('that sends an HPACK bomb takes no memory', async (t) => {
    const { gateway, upstream } = await startSite(t)
    const client = await rawHttp2(t, gateway.port)
    // One entry of 4,000 bytes in the dynamic table, referred to by one byte each time.
    const entry = Buffer.concat([Buffer.from([0x40, 1, 0x78, 0x7f, 0xa1, 0x1e]), Buffer.alloc(4_000, 'a')])
    const before = process.memoryUsage.rss()
    for (let id = 1; id < 400 && !client.isClosed(); id += 2) {
      const bomb = Buffer.concat([
        headerBlock([...PSEUDO, USER]),
        id === 1 ? entry : Buffer.alloc(0),
        Buffer.alloc(8_000, 0xbe),
      ] as Buffer[])
      client.send(frame(TYPE.headers, FLAG.endHeaders | FLAG.endStream, id, bomb))
      if (id % 20 === 1) await new Promise((resolve) => setImmediate(resolve))
    }
    const other = await http2Client(t, gateway.origin)
    t.match(await other.ask('/ok', { 'x-user-id': 'alice' }), { status: 200 })
    t.ok(process.memoryUsage.rss() - before < 100 << 20)
    t.same(upstream.received.length, 1)
  })

  t.test('that sends too many or too long fields is refused', async (t) => {
    const { gateway, upstream } = await startSite(t)
    const client = await http2Client(t, gateway.origin)
    const many = Object.fromEntries(Array.from({ length: 102 }, (_, i) => [`x-${i}`, '1']))
    t.match(await client.ask('/ok', many), { status: 431 })
    const more = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`x-${i}`, '1']))
    t.match(await client.ask('/ok', more), { status: 0, code: 11 })
    t.match(await client.ask('/ok', { 'x-long': 'y'.repeat(17_000) }), { status: 0 })
    t.same(upstream.received, [])
  })

  t.test(
    'that opens too many streams has them refused, or loses its connection if it knew the limit',
    async (t) => {
      const { gateway, upstream } = await startSite(t, 'http2: { max_concurrent_streams: 5 }')
      const early = await http2Client(t, gateway.origin)
      const post = { ':method': 'POST', 'x-user-id': 'alice' }
      const streams = Array.from({ length: 8 }, () => early.begin('/ok', post))
      await eventually('three are refused', () => streams.filter(({ rstCode }) => rstCode === 7).length === 3)
      for (const stream of streams) stream.end()
      await eventually('the others have come', () => upstream.received.length === 5)

      const client = await rawHttp2(t, gateway.port)
      const known = () =>
        client.frames.some(({ type, flags }) => type === TYPE.settings && flags === FLAG.ack)
      await eventually('it knows', known)
      for (let id = 1; id < 14; id += 2)
        client.send(headers(id, [...withPseudo(':method', 'POST'), USER], FLAG.endHeaders))
      await eventually('the connection is closed', () => client.isClosed())
      t.not(client.goaway(), 0)
    },
  )

  t.test('that sends no request is cut in time', async (t) => {
    const { gateway } = await startSite(t, 'http2: true, header_timeout: 100ms')
    const client = await rawHttp2(t, gateway.port)
    await eventually('it is closed', () => client.isClosed())
    const silent = connect(gateway.port, '127.0.0.1')
    silent.write('PRI')
    await new Promise((resolve) => silent.once('close', resolve))
  })

  t.test('that sends GOAWAY among its first requests harms no other client', async (t) => {
    const { gateway, counts } = await startSite(t)
    await Promise.all(
      Array.from({ length: 16 }, async (_, client) => {
        for (let i = 0; i < 20; i++) {
          const pieces = Array.from({ length: 10 }, (_, k) => headers(1 + 2 * k, [...PSEUDO, USER]))
          pieces.splice((client + i) % 10, 0, frame(TYPE.goaway, 0, 0, Buffer.alloc(8)))
          const socket = connect(gateway.port, '127.0.0.1')
          socket.on('error', () => {})
          socket.resume()
          socket.write(Buffer.concat([Buffer.from(PREFACE), frame(TYPE.settings, 0, 0), ...pieces]))
          await new Promise((resolve) => setTimeout(resolve, (client + i) % 20))
          if (i % 2 === 0) socket.end()
          else socket.resetAndDestroy()
        }
      }),
    )
    await eventually('all have gone', () => counts.open === 0, 10_000)
    const client = await http2Client(t, gateway.origin)
    t.match(await client.ask('/ok', { 'x-user-id': 'alice' }), { status: 200 })
  })

  t.test('that sends half a header after a request is cut in time', async (t) => {
    const { gateway, counts } = await startSite(t, 'http2: true, keep_alive: 200ms')
    const client = await rawHttp2(t, gateway.port)
    client.send(headers(1, [...PSEUDO, USER]))
    await gateway.recorded(1)
    client.send(headers(3, PSEUDO.slice(0, 1), 0))
    await eventually('it is closed', () => client.isClosed(), 10_000)
    await eventually('nothing is kept of it', () => counts.open === 0)
  })

  t.test('that reads nothing is cut in time, whatever windows it opens', async (t) => {
    const upstream = await recordingUpstream(t, (_, res) => res.end(Buffer.alloc(1 << 20)))
    const counts = createHttp2Counts()
    const yaml = `
tiers: [free]
consumers: [{ ip: {} }]
services: { api: { upstreams: ["${upstream.origin}"] } }
routes: [{ path: /*, service: api, timeouts: { idle: 300ms } }]
server: { http2: true }
`
    const gateway = await startGateway(t, yaml, { http2: counts })
    const client = await rawHttp2(t, gateway.port)
    client.socket.pause()
    client.send(
      frame(TYPE.settings, 0, 0, Buffer.from([0, 4, 0x7f, 0xff, 0xff, 0xff])),
      frame(TYPE.window, 0, 0, uint32(0x7fff_0000)),
    )
    for (let id = 1; id < 100; id += 2) client.send(headers(id, PSEUDO))
    await gateway.recorded(50)
    t.equal(gateway.watchdog.size(), 0)
    await eventually('the connection has gone', () => counts.open === 0)
  })

  t.test('that opens and closes many connections leaves no sessions behind', async (t) => {
    const { gateway, counts } = await startSite(t)
    for (let i = 0; i < 40; i++) {
      const client = await http2Client(t, gateway.origin)
      await client.ask('/ok', { 'x-user-id': 'alice' })
      client.session.destroy()
    }
    await eventually('all have gone', () => counts.open === 0)
    await eventually('nothing is left', () => queryObjects(Http2Connection, { format: 'count' }) < 10, 10_000)
    t.equal(counts.open, 0)
  })
})
