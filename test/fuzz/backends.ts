import fc from 'fast-check'
import type { Test } from 'tap'
import { eventually } from '../support/eventually.js'
import { startGateway, type TestGateway } from '../support/gateway/gateway.js'
import { type Http2Client, http2Client } from '../support/http/http2-client.js'
import { FLAG, frame, headerBlock, rawHttp2Upstream, TYPE, uint32 } from '../support/http/http2-frames.js'
import { openRaw } from '../support/http/raw.js'
import { rawUpstream, respond } from '../support/http/raw-upstream.js'
import { ACCEPT, handshake } from '../support/http/websocket.js'
import { within } from '../support/within.js'
import { answer } from './responses.js'
import { type Cleanup, type Holds, holds, must, mutated, type Target } from './target.js'

/** Longer than anything takes that ends at all, on a machine however busy, in ms. */
const PATIENCE_MS = 20_000
/** The bytes after a 101 are no HTTP response. */
const SWITCHED = /^HTTP\/1\.1 101 .*?\r\n\r\n/s
const MAX_CONNECTIONS = 128
/** Concurrent requests of one input: most of them wait for a timeout. */
const AT_ONCE = 100
const LIMITS = 'timeouts: { headers: 60ms, idle: 60ms, total: 200ms }'

/** Requests `/bad` in one way, and waits until that is over. */
type Ask = (id: string) => Promise<void>
type Face = 'plain' | 'parser' | 'http2' | 'upgrade'

/** Starts a gateway in front of a backend, with every way to send it requests. */
async function facesOf(t: Cleanup, origin: string, protocol: string) {
  const gateway = await startGateway(
    t as Test,
    `
tiers: [free]
trusted_proxies: [127.0.0.1]
services:
  api:
    upstreams: ['${origin}']
    protocol: ${protocol}
    max_connections: ${MAX_CONNECTIONS}
    max_wait: 20s
    outliers: false
    concurrency: { min: 1000, initial: 1000 }
routes:
  - { path: /good, service: api }
  - { path: /bad, service: api, ${LIMITS} }
  - { path: /room, service: api, websocket: { handshake: 200ms }, ${LIMITS} }
server: { http2: true }
`,
  )
  let session: Http2Client | undefined

  async function raw(bytes: string, more = ''): Promise<void> {
    const client = await openRaw(gateway.port)
    client.write(bytes)
    if (more !== '') setImmediate(() => client.write(more))
    await client.until('an answer', () => client.received() !== '' || client.isClosed())
    // After a head, the response may take until the gateway's timeouts.
    const over = (): boolean => SWITCHED.test(client.received()) || client.responses().length > 0
    await client.until('its end', over, 300).catch(() => {})
    client.socket.destroy()
  }

  const ask: Record<Face, Ask> = {
    plain: (id) => raw(`GET /bad HTTP/1.1\r\nHost: a\r\nX-Request-Id: ${id}\r\n\r\n`),
    parser: (id) =>
      raw(
        `POST /bad HTTP/1.1\r\nHost: a\r\nX-Request-Id: ${id}\r\nTransfer-Encoding: chunked\r\n\r\n`,
        '2\r\nab\r\n0\r\n\r\n',
      ),
    upgrade: (id) => raw(handshake('/room', { 'X-Request-Id': id }), 'hello'),
    async http2(id) {
      if (session === undefined || session.isClosed()) session = await http2Client(t as Test, gateway.origin)
      const { status } = await session.ask('/bad', { 'x-request-id': id })
      must(status === 0 || (status >= 200 && status < 600), `a status of ${status}`)
    },
  }

  async function statusOfGood(id: string): Promise<number> {
    const client = await openRaw(gateway.port)
    client.write(`GET /good HTTP/1.1\r\nHost: a\r\nX-Request-Id: ${id}\r\n\r\n`)
    await client.until('an answer', () => client.responses().length > 0)
    client.socket.destroy()
    return client.responses()[0]!.status
  }
  return { gateway, ask, statusOfGood }
}

/** Clears what the previous input, which may have failed, has left. */
async function forget(gateway: TestGateway): Promise<number> {
  await eventually('what was before is over', () => gateway.watchdog.size() === 0)
  gateway.records.length = 0
  gateway.accessLines.length = 0
  gateway.logged.length = 0
  return gateway.internalErrors()
}

/** Checks that the gateway keeps nothing of finished requests, recorded each one, and threw nothing. */
async function checkOver(gateway: TestGateway, asked: number, thrownBefore: number): Promise<void> {
  await eventually('nothing is held', () => {
    const [state] = gateway.guards.describe(gateway.snapshot())
    return gateway.watchdog.size() === 0 && state!.concurrency!.in_flight === 0
  })
  await eventually('each is recorded', () => gateway.records.length >= asked)
  must(gateway.records.length === asked, `${gateway.records.length} outcomes of ${asked} requests`)
  must(gateway.internalErrors() === thrownBefore, `threw: ${JSON.stringify(gateway.logged)}`)
  must(gateway.logged.length === 0, `logged ${JSON.stringify(gateway.logged)}`)
}

interface Turn {
  readonly bytes: string
  /** Number of packets that the bytes are cut into. */
  readonly pieces: number
  readonly ends: boolean
}

function turnOf(bytes: fc.Arbitrary<string>): fc.Arbitrary<Turn> {
  return fc.record({ bytes, pieces: fc.constantFrom(1, 1, 2, 3), ends: fc.boolean() })
}

/** Starts an HTTP/1.1 backend that sends anything, and clients that use one of the ways. */
async function http1Backend(t: Cleanup, turn: fc.Arbitrary<Turn>, faces: readonly Face[]): Promise<Holds> {
  const turns = new Map<string, Turn>()
  const upstream = await rawUpstream(t as Test, (request) => {
    const turn = turns.get(request.values('x-request-id')[0]!)
    if (turn === undefined) {
      respond(request, 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood')
      return
    }
    const { bytes, pieces, ends } = turn
    const size = Math.max(1, Math.ceil(bytes.length / pieces))
    const say = (from: number): void => {
      respond(request, bytes.slice(from, from + size))
      if (from + size < bytes.length) setImmediate(() => say(from + size))
      else if (ends) request.socket.end()
    }
    say(0)
  })
  const { gateway, ask, statusOfGood } = await facesOf(t, upstream.origin, 'http1')
  const askWell = async (id: string) => {
    const status = await statusOfGood(id)
    must(status === 200, `a good one gets ${status}`)
  }
  let ids = 0
  const asked = fc.record({ face: fc.constantFrom(...faces), turn })
  return holds(fc.array(asked, { minLength: 1, maxLength: AT_ONCE, size: 'max' }), async (all) => {
    const thrown = await forget(gateway)
    const bad = all.map(async ({ face, turn }) => {
      const id = `bad-${ids++}`
      turns.set(id, turn)
      await within(PATIENCE_MS, `the end of ${face} with ${JSON.stringify(turn)}`, ask[face](id))
      turns.delete(id)
    })
    await Promise.all([...bad, askWell(`good-${ids++}`)])
    await askWell(`good-${ids++}`)
    await checkOver(gateway, all.length + 2, thrown)
    upstream.requests.length = 0
  })
}

export const http1Backends: Target = {
  name: 'http1-backends',
  what: 'whatever an HTTP/1.1 backend sends, an HTTP/2 request ends, and the gateway throws and keeps nothing',
  short: 8,
  open: (t) => http1Backend(t, turnOf(answer), ['http2', 'http2', 'parser', 'plain']),
}

const switched = mutated(
  fc
    .record({
      status: fc.constantFrom(
        '101 Switching Protocols',
        '101 x',
        '200 OK',
        '426 No',
        '600 x',
        '100 x',
        '204 x',
      ),
      fields: fc.subarray(
        [
          'Upgrade: websocket',
          'Connection: Upgrade',
          `Sec-WebSocket-Accept: ${ACCEPT}`,
          'Sec-WebSocket-Protocol: x',
          'Content-Length: 5',
          'Transfer-Encoding: chunked',
          'Set-Cookie: a\x80',
          'ETag: a\r\nETag: b',
        ],
        { minLength: 3 },
      ),
      after: fc.constantFrom(
        '',
        'hello',
        '\x81\x05hello',
        '\x88\x02\x03\xe8',
        '5\r\nhello\r\n0\r\n\r\n',
        '\xff\xff\xff',
      ),
    })
    .map(({ status, fields, after }) => `HTTP/1.1 ${status}\r\n${fields.join('\r\n')}\r\n\r\n${after}`),
  ['\r\n', '\r\n\r\n', '\0', ':', 'HTTP/1.1 101 x\r\n', 'Upgrade: x\r\n', '\xff', '101', '600'],
  2,
)

export const upgradeBackends: Target = {
  name: 'upgrades',
  what: 'whatever a backend sends to a WebSocket, it ends, and the gateway throws and keeps nothing',
  short: 8,
  open: (t) => http1Backend(t, turnOf(fc.oneof(switched, answer)), ['upgrade']),
}

const NAMES = [
  ...['content-length', 'etag', 'date', 'host', 'referer', 'x-a', 'set-cookie', 'grpc-status', 'link'],
  ...['connection', 'te', 'transfer-encoding', 'X-A', ':path', ':status', '', 'x a', 'x\r\ny'],
]
const VALUES = [
  '',
  '5',
  '0',
  '2',
  'a',
  '\xff',
  'a\0b',
  'a\r\nx: y',
  '200',
  'gzip',
  '<a>; rel=preload',
  'x'.repeat(300),
]
const STATUSES = [
  '200',
  '200',
  '200',
  '204',
  '205',
  '304',
  '103',
  '100',
  '101',
  '500',
  '600',
  '999',
  '099',
  '0',
  '',
  'x',
]

/** Generates a frame of the response, or one that nobody waits for; the stream is filled in when it is sent. */
const part: fc.Arbitrary<(stream: number) => Buffer> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .record({
        status: fc.option(fc.constantFrom(...STATUSES), { freq: 8 }),
        fields: fc.array(fc.tuple(fc.constantFrom(...NAMES), fc.constantFrom(...VALUES)), { maxLength: 4 }),
        ends: fc.boolean(),
      })
      .map(({ status, fields, ends }) => {
        const block = headerBlock(status === null ? fields : [[':status', status], ...fields])
        return (stream: number) =>
          frame(TYPE.headers, FLAG.endHeaders | (ends ? FLAG.endStream : 0), stream, block)
      }),
  },
  {
    weight: 4,
    arbitrary: fc.tuple(fc.constantFrom('', 'ok', 'hello', 'x'.repeat(16_384)), fc.boolean()).map(
      ([data, ends]) =>
        (stream: number) =>
          frame(TYPE.data, ends ? FLAG.endStream : 0, stream, data),
    ),
  },
  {
    weight: 2,
    arbitrary: fc
      .record({
        type: fc.integer({ min: 0, max: 11 }),
        flags: fc.integer({ min: 0, max: 255 }),
        own: fc.boolean(),
        payload: fc.oneof(
          fc.constantFrom(uint32(0), uint32(8), uint32(0x7fffffff), Buffer.alloc(8), Buffer.alloc(0)),
          fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes)),
        ),
      })
      .map(
        ({ type, flags, own, payload }) =>
          (stream: number) =>
            frame(type, flags, own ? stream : 0, payload),
      ),
  },
)

export const http2Backends: Target = {
  name: 'http2-backends',
  what: 'whatever an HTTP/2 backend sends, every request ends, and the gateway throws and keeps nothing',
  short: 8,
  async open(t) {
    /** Responses to the next requests, in order of arrival. */
    const turns: (readonly ((stream: number) => Buffer)[])[] = []
    const upstream = await rawHttp2Upstream(t as Test, ({ type, stream }, send) => {
      if (type !== TYPE.headers) return
      const now = turns.shift()
      if (now !== undefined) send(...now.map((one) => one(stream)))
      else
        send(
          frame(TYPE.headers, FLAG.endHeaders, stream, headerBlock([[':status', '200']])),
          frame(TYPE.data, FLAG.endStream, stream, 'good'),
        )
    })
    const { gateway, ask, statusOfGood } = await facesOf(t, upstream.origin, 'http2')
    let ids = 0
    const asked = fc.record({
      face: fc.constantFrom<Face>('plain', 'parser', 'http2', 'http2'),
      parts: fc.array(part, { maxLength: 5 }),
    })
    return holds(fc.array(asked, { minLength: 1, maxLength: AT_ONCE, size: 'max' }), async (all) => {
      const thrown = await forget(gateway)
      turns.push(...all.map(({ parts }) => parts))
      const frames = () =>
        JSON.stringify(all.map(({ parts }) => parts.map((one) => one(1).toString('latin1'))))
      const over = Promise.all(all.map(({ face }) => ask[face](`bad-${ids++}`)))
      await within(PATIENCE_MS, 'the end of all', over).catch((error) => {
        throw new Error(`${error.message}: ${frames()}`)
      })
      await eventually('they are over', () => gateway.watchdog.size() === 0)
      turns.length = 0
      // A header block that was begun but not ended breaks the connection for the next request on it: nobody can know before. The gateway
      // then closes the connection, so each costs one request at most.
      let good = 1
      while ((await statusOfGood(`good-${ids++}`)) !== 200) {
        must(good <= MAX_CONNECTIONS, `${good} good ones in a row got no 200`)
        good++
      }
      await checkOver(gateway, all.length + good, thrown)
      upstream.frames.length = 0
    })
  },
}
