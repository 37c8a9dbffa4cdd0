// Tests src/gateway/listen/http2/{frames,output}.ts
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { Http2Connection, type Http2Listening } from '../../../../src/gateway/listen/http2/connection.js'
import { createHttp2Counts } from '../../../../src/gateway/listen/http2/server.js'
import type { Http2Response } from '../../../../src/gateway/listen/http2/stream.js'
import { eventually } from '../../../support/eventually.js'
import { snapshotOf, startGateway } from '../../../support/gateway/gateway.js'
import { http2Client } from '../../../support/http/http2-client.js'
import {
  FLAG,
  frame,
  headerBlock,
  PREFACE,
  type RawHttp2,
  rawHttp2,
  readFrames,
  TYPE,
  uint32,
} from '../../../support/http/http2-frames.js'
import { rawUpstream, respond } from '../../../support/http/raw-upstream.js'
import { recordingUpstream } from '../../../support/http/upstream.js'

/** The rules of RFC 9113 and RFC 7541, each as the frames that break it and what comes back. The cases are those of h2spec, and some more. */

type Field = readonly [name: string, value: string]

const request = (method: string, ...more: readonly Field[]): Buffer =>
  headerBlock([[':method', method], [':scheme', 'http'], [':path', '/'], [':authority', 'a'], ...more])
const GET = request('GET')
const POST = request('POST')
const BOTH = FLAG.endHeaders | FLAG.endStream
const PRIORITY = 0x20

const get = (id: number, block = GET): Buffer => frame(TYPE.headers, BOTH, id, block)
const post = (id: number, block = POST): Buffer => frame(TYPE.headers, FLAG.endHeaders, id, block)
const data = (id: number, payload: string | Buffer, flags = 0): Buffer => frame(TYPE.data, flags, id, payload)
const setting = (id: number, value: number): Buffer =>
  frame(TYPE.settings, 0, 0, Buffer.concat([Buffer.from([0, id]), uint32(value)]))
const priority = (id: number, on: number): Buffer =>
  frame(TYPE.priority, 0, id, Buffer.concat([uint32(on), Buffer.from([16])]))
const reset = (id: number, code = 8): Buffer => frame(TYPE.reset, 0, id, uint32(code))
const window = (id: number, more: number): Buffer => frame(TYPE.window, 0, id, uint32(more))
const bytes = (...all: number[]): Buffer => Buffer.from(all)

const CODES = [
  'NO_ERROR',
  'PROTOCOL',
  'INTERNAL',
  'FLOW_CONTROL',
  'SETTINGS_TIMEOUT',
  'STREAM_CLOSED',
  'FRAME_SIZE',
].concat(['REFUSED', 'CANCEL', 'COMPRESSION', 'CONNECT', 'CALM'])

/** By what the connection does: `goaway CODE`, `reset CODE` of stream 1 (or the one behind `@`), or `goes on`. */
const RULES: Record<string, readonly (readonly [what: string, frames: readonly Buffer[]])[]> = {
  'goes on': [
    ['4.1: a frame of an unknown type', [frame(0x16, 0, 0, 'x')]],
    ['4.1: a flag that is not defined', [frame(TYPE.ping, 0x16, 0, '12345678')]],
    ['4.1: the reserved bit', [frame(TYPE.ping, 0, 0x80000000, '12345678')]],
    ['4.2: the longest frame', [post(1), data(1, Buffer.alloc(16_384), FLAG.endStream)]],
    ['5.1: DATA on a stream that the gateway has reset', [get(1, request('GET', ['X', '1'])), data(1, 'x')]],
    ['5.1: HEADERS on a stream that the gateway has reset', [post(1, request('POST', ['X', '1'])), get(1)]],
    ['5.1: PRIORITY on an idle stream', [priority(3, 1)]],
    ['5.1: WINDOW_UPDATE and RST_STREAM on a closed stream', [get(1), reset(1), window(1, 1), reset(1)]],
    [
      '5.3.1: a dependency on another stream',
      [frame(TYPE.headers, BOTH | PRIORITY, 1, Buffer.concat([uint32(3), bytes(16), GET]))],
    ],
    ['6.1: padding', [post(1), data(1, `\x05hello\0\0\0\0\0`, FLAG.padded | FLAG.endStream)]],
    [
      '6.2: padding',
      [frame(TYPE.headers, BOTH | FLAG.padded, 1, Buffer.concat([bytes(3), GET, bytes(0, 0, 0)]))],
    ],
    ['6.5.2: a setting that nobody knows', [setting(0xff, 1)]],
    [
      '6.5.2: a setting twice',
      [frame(TYPE.settings, 0, 0, Buffer.concat([bytes(0, 4), uint32(1), bytes(0, 4), uint32(2)]))],
    ],
    ['6.7: a PING that acknowledges none', [frame(TYPE.ping, FLAG.ack, 0, '12345678')]],
    [
      '6.10: a header in several frames',
      [
        frame(TYPE.headers, FLAG.endStream, 1, GET.subarray(0, 9)),
        frame(TYPE.continuation, 0, 1, GET.subarray(9, 20)),
        frame(TYPE.continuation, FLAG.endHeaders, 1, GET.subarray(20)),
      ],
    ],
    ['7: a code that nobody knows', [get(1), reset(1, 0xff)]],
    [
      '8.2.3: a cookie in many pieces, each a field',
      [get(1, request('GET', ...Array.from({ length: 200 }, (): Field => ['cookie', 'a=b'])))],
    ],
    [
      'HPACK 4.2: two changes of the table in front of a header',
      [get(1, Buffer.concat([bytes(0x20, 0x3f, 0xe1, 0x1f), GET]))],
    ],
    [
      'HPACK 4.4: a field that is larger than the table',
      [get(1, Buffer.concat([GET, bytes(0x40, 1, 0x78, 0x7f, 0x81, 0x1f), Buffer.alloc(4_096, 'y')]))],
    ],
  ],
  'goaway NO_ERROR': [
    ['6.8: a GOAWAY', [frame(TYPE.goaway, 0, 0, Buffer.alloc(8))]],
    ['7: a GOAWAY for a reason that nobody knows', [frame(TYPE.goaway, 0, 0, Buffer.alloc(8, 1)), get(1)]],
  ],
  'goaway PROTOCOL': [
    ['4.3: PRIORITY within a header', [frame(TYPE.headers, 0, 1, GET), priority(1, 3)]],
    ['4.3: HEADERS of another stream within a header', [frame(TYPE.headers, 0, 1, GET), get(3)]],
    ['5.1: DATA on an idle stream', [data(1, 'x')]],
    ['5.1: RST_STREAM on an idle stream', [reset(1)]],
    ['5.1: WINDOW_UPDATE on an idle stream', [window(1, 1)]],
    ['5.1: CONTINUATION without a header', [frame(TYPE.continuation, FLAG.endHeaders, 1, GET)]],
    ['5.1.1: a stream of the server', [get(2)]],
    ['5.1.1: a stream that was passed over', [get(5), get(3)]],
    ['5.3.1: PRIORITY on itself, idle', [priority(3, 3)]],
    ['5.5: an unknown frame within a header', [frame(TYPE.headers, 0, 1, GET), frame(0x16, 0, 1)]],
    ['6.1: DATA on stream 0', [data(0, 'x')]],
    ['6.1: more padding than frame', [post(1), data(1, '\x06hello', FLAG.padded)]],
    ['6.2: HEADERS on stream 0', [get(0)]],
    [
      '6.2: more padding than frame',
      [frame(TYPE.headers, BOTH | FLAG.padded, 1, Buffer.concat([bytes(255), GET]))],
    ],
    ['6.3: PRIORITY on stream 0', [priority(0, 3)]],
    ['6.4: RST_STREAM on stream 0', [reset(0)]],
    ['6.5: SETTINGS of a stream', [frame(TYPE.settings, 0, 1)]],
    ['6.5.2: ENABLE_PUSH that is neither 0 nor 1', [setting(2, 2)]],
    ['6.5.2: frames that are too short', [setting(5, 16_383)]],
    ['6.5.2: frames that are too long', [setting(5, 16_777_216)]],
    ['6.6: PUSH_PROMISE', [frame(TYPE.push, FLAG.endHeaders, 1, Buffer.concat([uint32(2), GET]))]],
    ['6.7: PING of a stream', [frame(TYPE.ping, 0, 1, '12345678')]],
    ['6.8: GOAWAY of a stream', [frame(TYPE.goaway, 0, 1, Buffer.alloc(8))]],
    ['6.9: a window that grows by nothing', [window(0, 0)]],
    [
      '6.10: CONTINUATION on stream 0',
      [frame(TYPE.headers, 0, 1, GET), frame(TYPE.continuation, FLAG.endHeaders, 0)],
    ],
    ['6.10: CONTINUATION behind the end', [post(1), frame(TYPE.continuation, FLAG.endHeaders, 1)]],
  ],
  'goaway FRAME_SIZE': [
    ['4.2: DATA that is too long', [post(1), data(1, Buffer.alloc(16_385))]],
    ['4.2: HEADERS that are too long', [get(1, Buffer.alloc(16_385))]],
    ['6.4: RST_STREAM of another length', [get(1), frame(TYPE.reset, 0, 1, 'abc')]],
    ['6.5: an acknowledgement with a payload', [frame(TYPE.settings, FLAG.ack, 0, 'abcdef')]],
    ['6.5: SETTINGS of another length', [frame(TYPE.settings, 0, 0, 'abc')]],
    ['6.7: PING of another length', [frame(TYPE.ping, 0, 0, '123456')]],
    ['6.8: GOAWAY that is too short', [frame(TYPE.goaway, 0, 0, 'abc')]],
    ['6.9: WINDOW_UPDATE of another length', [frame(TYPE.window, 0, 0, 'abc')]],
  ],
  'goaway FLOW_CONTROL': [
    ['6.5.2: a window above 2^31-1', [setting(4, 0x80000000)]],
    ['6.9.1: the window of the connection above 2^31-1', [window(0, 0x7fffffff)]],
    [
      '6.9.2: SETTINGS that bring the window of a stream above 2^31-1',
      [post(1), window(1, 0x7fff0000), setting(4, 0x7fffffff)],
    ],
  ],
  'goaway STREAM_CLOSED': [
    ['5.1: DATA behind RST_STREAM', [post(1), reset(1), data(1, 'x')]],
    ['5.1: HEADERS behind RST_STREAM', [post(1), reset(1), get(1)]],
  ],
  'goaway COMPRESSION': [
    ['4.3: a header that cannot be decoded', [get(1, bytes(0x41, 0x88, 0x41))]],
    ['HPACK 2.3.3: an index behind the tables', [get(1, Buffer.concat([GET, bytes(0xc6)]))]],
    ['HPACK 4.2: a change of the table behind a field', [get(1, Buffer.concat([GET, bytes(0x20)]))]],
    ['HPACK 5.1: an integer without end', [get(1, bytes(0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0))]],
    ['HPACK 5.2: padding of Huffman code above 7 bits', [get(1, bytes(0, 0x84, 0x9c, 0x50, 0x5f, 0xff, 0))]],
    ['HPACK 5.2: padding of zeros', [get(1, bytes(0, 0x81, 0x00, 0))]],
    ['HPACK 5.2: the end of a string within it', [get(1, bytes(0, 0x84, 0xff, 0xff, 0xff, 0xff, 0))]],
    ['HPACK 6.1: index 0', [get(1, Buffer.concat([GET, bytes(0x80)]))]],
    ['HPACK 6.3: a table above the limit', [get(1, Buffer.concat([bytes(0x3f, 0xe2, 0x1f), GET]))]],
    ['HPACK: a string that is cut', [get(1, bytes(0, 5, 0x78))]],
  ],
  'goaway CALM': [
    ['of PRIORITY', Array.from({ length: 2_000 }, () => priority(3, 1))],
    ['of WINDOW_UPDATE', Array.from({ length: 2_000 }, () => window(0, 1))],
    ['of frames of no known type', Array.from({ length: 2_000 }, () => frame(0x16, 0, 0))],
    [
      'of padding',
      [
        post(1),
        ...Array.from({ length: 2_000 }, () =>
          data(1, Buffer.concat([bytes(255), Buffer.alloc(255)]), FLAG.padded),
        ),
      ],
    ],
    [
      'of empty CONTINUATION',
      [frame(TYPE.headers, 0, 1, GET), ...Array.from({ length: 50 }, () => frame(TYPE.continuation, 0, 1))],
    ],
    [
      'of RST_STREAM without an error',
      Array.from({ length: 300 }, (_, i) => [post(1 + 2 * i), reset(1 + 2 * i, 0)]).flat(),
    ],
    [
      'of malformed requests',
      Array.from({ length: 300 }, (_, i) => get(1 + 2 * i, request('GET', ['X', '1']))),
    ],
    ['of acknowledgements', Array.from({ length: 2_000 }, () => frame(TYPE.settings, FLAG.ack, 0))],
  ],
  'reset PROTOCOL': [
    [
      '5.3.1: HEADERS on itself',
      [frame(TYPE.headers, BOTH | PRIORITY, 1, Buffer.concat([uint32(1), bytes(16), GET]))],
    ],
    ['5.3.1: PRIORITY on itself', [post(1), priority(1, 1)]],
    ['6.9: a window of a stream that grows by nothing', [post(1), window(1, 0)]],
    ['8.1: a trailer that is not the end', [post(1), post(1, headerBlock([['x', '1']]))]],
    ['8.1: a pseudo-header field in a trailer', [post(1), get(1, headerBlock([[':method', 'POST']]))]],
    ['8.1: a trailer with CR', [post(1), get(1, headerBlock([['x', 'a\rb']]))]],
    [
      '8.1.1: more body than Content-Length',
      [post(1, request('POST', ['content-length', '1'])), data(1, 'ab', FLAG.endStream)],
    ],
    [
      '8.1.1: less, in several frames',
      [post(1, request('POST', ['content-length', '9'])), data(1, 'ab'), data(1, 'c', FLAG.endStream)],
    ],
    [
      '8.1.1: less, with a trailer',
      [post(1, request('POST', ['content-length', '9'])), data(1, 'ab'), get(1, headerBlock([['x', '1']]))],
    ],
    ['8.1.1: no body, but a length', [get(1, request('POST', ['content-length', '9']))]],
    ['8.2.1: a name in capitals', [get(1, request('GET', ['X', '1']))]],
    ['8.2.2: te', [get(1, request('GET', ['te', 'gzip']))]],
    [
      '8.3.1: no path',
      [
        get(
          1,
          headerBlock([
            [':method', 'GET'],
            [':scheme', 'http'],
            [':authority', 'a'],
          ]),
        ),
      ],
    ],
    [
      '8.3.1: a path that is none',
      [
        get(
          1,
          headerBlock([
            [':method', 'GET'],
            [':scheme', 'http'],
            [':path', 'x'],
            [':authority', 'a'],
          ]),
        ),
      ],
    ],
    [
      '8.3.1: a path that is not ASCII',
      [
        get(
          1,
          headerBlock([
            [':method', 'GET'],
            [':scheme', 'http'],
            [':path', '/?a\xa0b'],
            [':authority', 'a'],
          ]),
        ),
      ],
    ],
    ['8.5: CONNECT with a path', [get(1, request('CONNECT'))]],
    [
      'RFC 8441: extended CONNECT',
      [get(1, Buffer.concat([request('CONNECT'), headerBlock([[':protocol', 'websocket']])]))],
    ],
  ],
  'reset FRAME_SIZE': [['6.3: PRIORITY of another length', [post(1), frame(TYPE.priority, 0, 1, 'abc')]]],
  'reset FLOW_CONTROL': [['6.9.1: the window of a stream above 2^31-1', [post(1), window(1, 0x7fffffff)]]],
  'reset STREAM_CLOSED': [
    ['5.1: DATA behind the end of the request', [get(1, request('GET', ['x-hold', '1'])), data(1, 'x')]],
    ['5.1: HEADERS behind the end of the request', [get(1, request('GET', ['x-hold', '1'])), get(1)]],
  ],
}

async function site(t: Test, server = 'http2: true, min_rate: 0', service = '') {
  const upstream = await recordingUpstream(t, (req, res) => {
    if (req.headers['x-hold'] === undefined) req.on('end', () => res.end('ok'))
    else req.pause()
  })
  const counts = createHttp2Counts()
  const yaml = `
tiers: [free]
services: { api: { upstreams: ['${upstream.origin}']${service} } }
routes: [{ path: /*, service: api }]
server: { ${server} }
`
  return { upstream, counts, gateway: await startGateway(t, yaml, { http2: counts }) }
}

function said(client: RawHttp2): string | undefined {
  const [goaway, code] = [client.goaway(), client.resetOf(1)]
  if (goaway !== undefined) return `goaway ${CODES[goaway]}`
  return code === undefined ? undefined : `reset ${CODES[code]}`
}

for (const [expected, rules] of Object.entries(RULES)) {
  t.test(`what the gateway says: ${expected}`, async (t) => {
    const { gateway, counts } = await site(t)
    for (const [what, frames] of rules) {
      for (const cut of frames.length > 100 ? [0] : [0, 1]) {
        const client = await rawHttp2(t, gateway.port)
        const all = Buffer.concat([...frames, frame(TYPE.ping, 0, 0, 'and then')])
        if (cut === 0 || all.length > 2_000) client.send(all)
        else {
          client.socket.setNoDelay()
          for (const byte of all) client.send(Buffer.from([byte]))
        }
        const pong = () =>
          client.frames.some(
            ({ type, payload }) => type === TYPE.ping && payload.equals(Buffer.from('and then')),
          )
        await eventually(`${what}: it is said`, () =>
          expected === 'goes on' ? pong() : said(client) !== undefined,
        )
        const other = what.includes('has reset') ? 'reset PROTOCOL' : undefined
        t.equal(said(client), expected === 'goes on' ? other : expected, what)
        if (expected.startsWith('goaway'))
          await eventually(`${what}: the connection ends`, () => client.isClosed())
        else if (expected.startsWith('reset')) await eventually(`${what}: the connection goes on`, pong)
        client.socket.destroy()
      }
    }
    await eventually('all have gone', () => counts.open === 0)
    t.same(gateway.logged, [])
    await eventually('all is over', () => gateway.watchdog.size() === 0)
  })
}

t.test('5.1: what comes on a stream that is over on both sides ends the connection', async (t) => {
  const { gateway } = await site(t)
  for (const late of [data(1, 'x'), get(1)]) {
    const client = await rawHttp2(t, gateway.port)
    client.send(get(1))
    await eventually('the answer', () =>
      client.frames.some(({ flags, stream }) => stream === 1 && (flags & FLAG.endStream) !== 0),
    )
    client.send(late)
    await eventually('it ends', () => client.isClosed())
    t.equal(said(client), 'goaway STREAM_CLOSED')
  }
})

t.test('3.4: what does not begin as HTTP/2 has to gets a GOAWAY', async (t) => {
  const { gateway } = await site(t)
  for (const wrong of [frame(TYPE.ping, 0, 0, '12345678'), get(1), data(0, '')]) {
    const socket = connect(gateway.port, '127.0.0.1')
    await once(socket, 'connect')
    socket.write(Buffer.concat([Buffer.from(PREFACE), wrong]))
    let code: number | undefined
    readFrames(socket, ({ type, payload }) => {
      if (type === TYPE.goaway) code = payload.readUInt32BE(4)
    })
    await once(socket, 'close')
    t.equal(code, 1)
  }
})

t.test('6.5.3: a client that does not acknowledge the SETTINGS in time is let go', async (t) => {
  const { gateway, counts } = await site(t, 'http2: true, header_timeout: 200ms')
  const socket = connect(gateway.port, '127.0.0.1')
  await once(socket, 'connect')
  socket.write(Buffer.concat([Buffer.from(PREFACE), frame(TYPE.settings, 0, 0), get(1)]))
  let code: number | undefined
  let status = false
  readFrames(socket, ({ type, payload }) => {
    if (type === TYPE.goaway) code = payload.readUInt32BE(4)
    if (type === TYPE.headers) status = true
  })
  await once(socket, 'close')
  t.same([code, status], [4, true])
  t.equal(counts.closed.protocol, 1)
})

t.test('6.9.2: a window that SETTINGS change, also below zero, is kept to', async (t) => {
  const upstream = await recordingUpstream(t, (_, res) => res.end('x'.repeat(40)))
  const yaml = `
tiers: [free]
services: { api: { upstreams: ['${upstream.origin}'] } }
routes: [{ path: /*, service: api }]
server: { http2: true }
`
  const gateway = await startGateway(t, yaml)
  const client = await rawHttp2(t, gateway.port)
  const got = () =>
    client.frames
      .filter(({ type }) => type === TYPE.data)
      .reduce((sum, { payload }) => sum + payload.length, 0)
  client.send(setting(4, 10), get(1))
  await eventually('10 bytes', () => got() === 10)
  client.send(setting(4, 3), window(1, 7), frame(TYPE.ping, 0, 0, 'one more'))
  await eventually('the ping', () => client.frames.some(({ type }) => type === TYPE.ping))
  t.equal(got(), 10, 'the window is at zero')
  client.send(window(1, 1))
  await eventually('one more', () => got() === 11)
  client.send(setting(4, 5))
  await eventually('two more', () => got() === 13)
  client.send(setting(4, 65_535))
  await eventually('all', () => got() === 40)
  await gateway.recorded(1)
  t.equal(gateway.records[0]!.error, undefined)
})

t.test('6.9: more DATA than a window takes is an error of the stream, or of the connection', async (t) => {
  const { gateway, upstream } = await site(
    t,
    'http2: { max_session_memory: 1MiB }, min_rate: 0',
    ', max_connections: 1, max_wait: 30s',
  )
  const client = await rawHttp2(t, gateway.port)
  const held = request('GET', ['x-hold', '1'])
  client.send(get(3, held))
  await eventually('it has the one connection', () => upstream.received.length === 1)
  const piece = Buffer.alloc(16_384)
  const more = (id: number, count: number) => Array.from({ length: count }, () => data(id, piece))
  client.send(post(5), ...more(5, 17))
  await eventually('the stream is reset', () => client.resetOf(5) === 3)
  const sent = [7, 9, 11, 13].flatMap((id) => [post(id), ...more(id, 15)])
  client.send(...sent, post(15), ...more(15, 6))
  await eventually('the connection ends', () => client.isClosed())
  t.equal(said(client), 'goaway FLOW_CONTROL')
})

t.test('a header of any length comes through, both ways', async (t) => {
  const long = 'y'.repeat(40_000)
  const lengths: (number | undefined)[] = []
  const upstream = await rawUpstream(t, (request) => {
    lengths.push(request.values('x-long')[0]?.length)
    const halves = `X-Long: ${long.slice(0, 8_000)}\r\nX-Other: ${long.slice(0, 8_000)}\r\n`
    respond(request, `HTTP/1.1 200 OK\r\n${halves}X-More: z\r\nContent-Length: 2\r\n\r\nok`)
  })
  const yaml = `
tiers: [free]
services: { api: { upstreams: ['${upstream.origin}'] } }
routes: [{ path: /*, service: api, headers: { response: { set: { x-set: '${'s'.repeat(1_000)}' } } } }]
server: { http2: true, max_header_size: 64KiB }
`
  const gateway = await startGateway(t, yaml)
  const client = await http2Client(t, gateway.origin, { maxSendHeaderBlockLength: 100_000 } as object)
  // With this, the header of the response does not fit into one frame.
  const id = { 'x-request-id': 'r'.repeat(64) }
  const answer = await client.ask('/', { 'x-long': long, ...id })
  t.same([answer.status, answer.body, lengths], [200, 'ok', [40_000]])
  t.equal(answer.headers['x-more'], 'z')
  t.ok(answer.headers['x-other'] === long.slice(0, 8_000))
})

t.test(
  'a slow upload holds back its stream alone, and no more than the memory of its connection',
  async (t) => {
    const { gateway, upstream } = await site(t, 'http2: { max_session_memory: 1MiB }, min_rate: 0')
    const client = await http2Client(t, gateway.origin)
    // The client itself gives up streams when it holds more than 10 MB.
    const big = Buffer.alloc(2 << 20)
    const held = Array.from({ length: 3 }, () => {
      const stream = client.begin('/', { ':method': 'POST', 'x-hold': '1' })
      stream.write(big)
      return stream
    })
    await eventually('they have come', () => upstream.received.length === 3)
    t.match(await client.ask('/', {}, 'small'), { status: 200, body: 'ok', code: 0 })
    for (const stream of held) stream.close(8)
    t.match(await client.ask('/', {}, big), { status: 200, body: 'ok' }, 'what they held is given back')
  },
)

t.test('whatever goes on at once, every byte is that of its own exchange', async (t) => {
  const lengths = [0, 1, 900, 4_095, 4_096, 15_000, 16_384, 40_000, 65_536, 150_000, 400_000]
  const bodyOf = (id: number, length: number) => {
    let text = ''
    while (text.length < length) text += `${id}:${text.length}:`.padEnd(16, '.')
    return text.slice(0, length)
  }
  const upstream = await recordingUpstream(t, (req, res) => {
    const [, echoes, id, length] = req.url!.split('/')
    if (echoes === 'echo') {
      if (Number(id) % 2 === 0) res.writeHead(200, { 'content-length': length })
      req.pipe(res)
      return
    }
    req.resume()
    req.on('end', () => res.end(bodyOf(Number(id), Number(length))))
  })
  const gateway = await startGateway(
    t,
    `
tiers: [free]
services: { api: { upstreams: ['${upstream.origin}'], max_connections: 20, max_waiting: 1000, max_wait: 30s } }
routes: [{ path: /*, service: api }]
server: { http2: true }
`,
  )
  const wrong: string[] = []
  await Promise.all(
    Array.from({ length: 4 }, async (_, n) => {
      const client = await http2Client(t, gateway.origin, {
        settings: { initialWindowSize: [1_000, 65_535, 1 << 20, 200_000][n] },
      } as object)
      await Promise.all(
        Array.from({ length: 60 }, async (_, i) => {
          const id = n * 60 + i
          const length = lengths[id % lengths.length]!
          const body = bodyOf(id, length)
          const echoes = i % 3 > 0
          const answer = await client.ask(
            `/${echoes ? 'echo' : 'down'}/${id}/${length}`,
            {},
            echoes ? Buffer.from(body) : undefined,
          )
          if (answer.status !== 200 || answer.body !== body || answer.code !== 0)
            wrong.push(`${id} of ${length}: ${answer.status}, ${answer.code}, ${answer.body.length} bytes`)
        }),
      )
      client.session.destroy()
    }),
  )
  t.same(wrong, [])
  await eventually('nothing is under way', () => gateway.watchdog.size() === 0)
  t.equal(gateway.records.filter(({ error }) => error !== undefined).length, 0)
  t.same(gateway.logged, [])
})

t.test('a client whose header table is smaller than usual reads its responses (RFC 7541 §4.2)', async (t) => {
  const upstream = await recordingUpstream(t)
  const gateway = await startGateway(
    t,
    `
tiers: [free]
services: { api: { upstreams: ['${upstream.origin}'] } }
routes: [{ path: /*, service: api }]
server: { http2: true }
`,
  )
  const { ask, session } = await http2Client(t, gateway.origin, { settings: { headerTableSize: 0 } })
  t.equal((await ask('/1')).status, 200)
  t.equal((await ask('/2')).status, 200)
  for (const headerTableSize of [4_096, 100, 65_536]) {
    await new Promise((resolve) => session.settings({ headerTableSize }, resolve))
    t.equal((await ask('/3')).status, 200, `${headerTableSize} bytes`)
  }
})

/** How clients behave while they download: the windows that they open first, and what they send for each DATA frame. */
const DOWNLOADS: Record<string, readonly [Buffer[], (length: number, isPingOut: boolean) => Buffer[]]> = {
  'opens two windows for each 4 KiB, as Go does that reads so much at a time': [
    [setting(4, 4 << 20), window(0, 1 << 29)],
    (length) => {
      const sent: Buffer[] = []
      for (let left = length; left > 0; left -= 4_096) {
        const read = Math.min(left, 4_096)
        sent.push(window(0, read), window(1, read))
      }
      return sent
    },
  ],
  'sends a ping for each round trip, as gRPC does to measure it': [
    [],
    (length, isPingOut) => [
      window(0, length),
      window(1, length),
      ...(isPingOut ? [] : [frame(TYPE.ping, 0, 0, 'how long')]),
    ],
  ],
}

for (const [what, [opening, answers]] of Object.entries(DOWNLOADS)) {
  t.test(`a client gets all of a large response that ${what}`, async (t) => {
    const size = 24 << 20
    const upstream = await recordingUpstream(t, (_, res) => res.end(Buffer.alloc(size)))
    const counts = createHttp2Counts()
    const yaml = `
tiers: [free]
services: { api: { upstreams: ['${upstream.origin}'] } }
routes: [{ path: /*, service: api }]
server: { http2: true }
`
    const gateway = await startGateway(t, yaml, { http2: counts })
    const client = await rawHttp2(t, gateway.port)
    let got = 0
    let isPingOut = false
    client.onFrame(({ type, payload }) => {
      client.frames.length = 0
      if (type === TYPE.ping) isPingOut = false
      if (type !== TYPE.data || payload.length === 0) return
      got += payload.length
      client.send(...answers(payload.length, isPingOut))
      isPingOut = true
    })
    client.send(...opening, get(1))
    await eventually('it ends', () => got === size || client.isClosed())
    t.same([got, counts.closed], [size, { resets: 0, pings: 0, settings: 0, protocol: 0 }])
  })
}

/** Takes a connection whose client takes no bytes until `take` is called. */
async function blockedConnection(t: Test, accept: Http2Listening['accept'], http2 = 'true') {
  const { server: settings } = snapshotOf(`
tiers: [free]
services: { api: { upstreams: ['http://127.0.0.1:1'] } }
routes: [{ path: /*, service: api }]
server: { http2: ${http2} }
`).config
  const counts = createHttp2Counts()
  const blocked: (() => void)[] = []
  const socket = new Duplex({ read() {}, write: (_, __, done) => void blocked.push(done) })
  new Http2Connection(
    socket as unknown as Socket,
    { settings, counts, draining: () => false, accept },
    () => {},
  )
  t.teardown(() => socket.destroy())
  const send = async (...frames: readonly Buffer[]) => {
    socket.push(Buffer.concat(frames))
    await new Promise(setImmediate)
  }
  await send(Buffer.from(PREFACE), frame(TYPE.settings, 0, 0))
  const take = async () => {
    while (blocked.length > 0) {
      blocked.shift()!()
      await new Promise(setImmediate)
    }
  }
  return { socket, counts, send, take }
}

t.test('a body that nobody reads counts until the client has taken the response', async (t) => {
  const accept = (_: unknown, res: Http2Response) => void res.writeHead(400, []).end()
  const { counts, send, take } = await blockedConnection(t, accept, '{ max_session_memory: 1MiB }')
  const piece = Buffer.alloc(16_384)
  const refuse = (id: number) => send(post(id), data(id, piece), data(id, piece), data(id, piece))
  for (let i = 0; i < 20; i++) await refuse(1 + 2 * i)
  t.equal(counts.closed.protocol, 0)
  await take()
  for (let i = 20; i < 40; i++) await refuse(1 + 2 * i)
  t.equal(counts.closed.protocol, 0, 'what the client has taken is given back')
  for (let i = 40; i < 80; i++) await refuse(1 + 2 * i)
  t.equal(counts.closed.protocol, 1, 'the window was not opened any more')
})

t.test('a response that is cut costs a slow client no other one', async (t) => {
  const open: Http2Response[] = []
  const { socket, send } = await blockedConnection(t, (_, res) => void open.push(res))
  await send(get(1), get(3))
  for (const res of open) res.writeHead(200, []).write('x')
  open[0]!.destroy()
  await sleep(1_500)
  t.same([open[0]!.closed, open[1]!.closed, socket.destroyed], [true, false, false])
  open[1]!.destroy()
  await eventually('a client that takes nothing is let go', () => socket.destroyed)
})
