import fc from 'fast-check'
import type { Test } from 'tap'
import { createHttp2Counts } from '../../src/gateway/listen/http2/server.js'
import { startGateway } from '../support/gateway/gateway.js'
import { http2Client } from '../support/http/http2-client.js'
import { frame, headerBlock, rawHttp2, TYPE, uint32 } from '../support/http/http2-frames.js'
import { rawUpstream, respond } from '../support/http/raw-upstream.js'
import { checkReceived } from './received.js'
import { holds, must, type Target } from './target.js'

const NAMES = [
  ...[
    ':method',
    ':path',
    ':scheme',
    ':authority',
    ':status',
    ':protocol',
    'x-user-id',
    'X-User-Id',
    'host',
    'cookie',
    'te',
  ],
  ...[
    'connection',
    'transfer-encoding',
    'content-length',
    'upgrade',
    'x_user_id',
    'x-a',
    '',
    'x: y',
    'x\r\ny',
    'expect',
    'via',
  ],
]
const VALUES = [
  'GET',
  'POST',
  'CONNECT',
  'get',
  '/api/a',
  '/api/../b',
  '*',
  '',
  'http',
  'https',
  'a',
  'b',
  'alice',
  'bob',
  'a\r\nx: y',
  '5',
  '0',
  'chunked',
  'trailers',
  '\xff',
  'a\0b',
]
const field = fc.tuple(fc.constantFrom(...NAMES), fc.constantFrom(...VALUES))
const GOOD: [string, string][] = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':path', '/api/a'],
  [':authority', 'a'],
  ['x-user-id', 'alice'],
]
const fields = fc.oneof(
  fc.constant(GOOD),
  fc.array(field, { minLength: 1, maxLength: 3 }).map((more) => [...GOOD, ...more]),
  fc.tuple(fc.nat(4), field).map(([i, other]) => GOOD.map((one, at) => (at === i ? other : one))),
  fc.array(field, { maxLength: 8 }),
)

const stream = fc.constantFrom(0, 1, 1, 1, 3, 3, 5, 2, 0x7fffffff, 0x80000001)
const payload = fc.oneof(
  { weight: 4, arbitrary: fields.map(headerBlock) },
  fc.constantFrom(
    '',
    'hello',
    '12345678',
    '\0\0\0\0',
    '\x7f\xff\xff\xff',
    '\x80\0\0\0\x10',
    '\xff'.repeat(30),
    '\x82\x86\x84',
  ),
  fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  fc
    .tuple(fc.constantFrom(1, 2, 3, 4, 5, 6, 99), fc.constantFrom(0, 1, 100, 16_384, 2 ** 31, 2 ** 32 - 1))
    .map(([id, value]) => Buffer.concat([Buffer.from([0, id]), uint32(value)])),
)
/** Header blocks with indices, changes of the table and Huffman code, good and bad. */
const block = fc
  .array(
    fc.oneof(
      fc.constantFrom('\x82', '\x86', '\x84', '\xbe', '\xbf', '\x20', '\x3f\xe1\x1f', '\x41\x01a'),
      fc.constantFrom(
        '\x40\x01x\x03a\0b',
        '\x40\x01x\x01y',
        '\x40\x83\xf2\xb4\xff\x81\x1f',
        '\x10\x01:\x01x',
      ),
      fc.uint8Array({ maxLength: 4 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
    ),
    { maxLength: 8 },
  )
  .map((pieces) => Buffer.concat([headerBlock(GOOD.slice(4)), Buffer.from(pieces.join(''), 'latin1')]))
const oneFrame = fc.oneof(
  { weight: 2, arbitrary: fc.tuple(stream, block).map(([id, bytes]) => frame(TYPE.headers, 5, id, bytes)) },
  {
    weight: 3,
    arbitrary: fc
      .tuple(fc.constantFrom(4, 5, 5, 0, 1), stream, fields)
      .map(([flags, id, all]) => frame(TYPE.headers, flags, id, headerBlock(all))),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(
        fc.integer({ min: 0, max: 11 }),
        fc.constantFrom(0, 1, 4, 5, 8, 9, 0x20, 0x25, 0xff),
        stream,
        payload,
      )
      .map(([type, flags, id, bytes]) => frame(type, flags, id, bytes)),
  },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 30 }).map((bytes) => Buffer.from(bytes)) },
)

export const http2: Target = {
  name: 'http2',
  what: 'whatever frames a client sends, upstreams get plain, recorded requests, and the next client is served',
  short: 10,
  async open(t) {
    const upstream = await rawUpstream(t as Test, (request) =>
      respond(request, 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'),
    )
    const gateway = await startGateway(
      t as Test,
      `
tiers: [free]
consumers: [{ header: { name: x-user-id, from: anyone } }, { ip: {} }]
services: { api: { upstreams: ['${upstream.origin}'] } }
routes: [{ path: /api/*, service: api }]
server: { http2: true }
`,
      { http2: createHttp2Counts() },
    )
    /** rawHttp2 registers a teardown for each client. */
    const ends: (() => unknown)[] = []
    const own = { teardown: (fn: () => unknown) => void ends.push(fn) } as unknown as Test

    async function send(frames: readonly Buffer[]): Promise<void> {
      const client = await rawHttp2(own, gateway.port)
      client.send(...frames)
      let heard = -1
      while (!client.isClosed() && client.frames.length > heard) {
        heard = client.frames.length
        await new Promise((resolve) => setTimeout(resolve, 15))
      }
    }

    return holds(
      fc.array(fc.array(oneFrame, { maxLength: 8 }), { minLength: 1, maxLength: 6 }),
      async (connections) => {
        await Promise.all(connections.map(send))
        const next = await http2Client(own, gateway.origin)
        const answer = await next.ask('/api/next', { 'x-user-id': 'carol' })
        must(answer.status === 200, `the next client gets ${answer.status}`)
        for (const end of ends.splice(0)) await end()
        await checkReceived(gateway, upstream)
      },
    )
  },
}
