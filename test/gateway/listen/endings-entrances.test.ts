import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import { createWatchdog } from '../../../src/gateway/exchange/watchdog.js'
import { createHttp2Counts } from '../../../src/gateway/listen/http2/server.js'
import { createConnectionCounts } from '../../../src/gateway/listen/listener.js'
import { openTls } from '../../../src/gateway/listen/tls.js'
import type { Target } from '../../../src/upstream/pool/choose.js'
import { createUpstreams, type Upstreams } from '../../../src/upstream/pool/pool.js'
import { createAuthority } from '../../support/credentials/authority.js'
import { eventually } from '../../support/eventually.js'
import { snapshotOf, startGateway } from '../../support/gateway/gateway.js'
import { http2Upstream } from '../../support/http/http2-upstream.js'
import { proxyV1, proxyV2 } from '../../support/http/proxy-header.js'
import { rawOn } from '../../support/http/raw.js'
import { type RawRequest, rawUpstream, reset, respond } from '../../support/http/raw-upstream.js'

/**
 * Tests the endings of `endings.test.ts` behind everything that may come before a request: a PROXY header and a TLS handshake, in
 * pieces or missing, HTTP/2, and gRPC.
 */

const ANSWERS = ['ok', 'ok', 'slow', 'early', 'cut', 'reset', 'silent', 'large'] as const
const HEADERS = ['v1', 'v2', 'v2', 'v2 with more', 'local', 'none', 'half', 'wrong'] as const

interface Ask {
  readonly kind: 'get' | 'put' | 'unfinished' | 'too large' | 'grpc' | 'grpc unfinished'
  readonly answer: (typeof ANSWERS)[number]
  /** Ms after which an HTTP/2 stream is reset; undefined: never. */
  readonly resets: number | undefined
}

interface Plan {
  readonly header: (typeof HEADERS)[number]
  /** Places at which header and handshake are cut in two, in bytes. */
  readonly cut: number
  readonly http2: boolean
  /** Over HTTP/1.1 only the first one. */
  readonly asks: readonly Ask[]
  /** Ms after which the client leaves; undefined: it stays to the end. */
  readonly leaves: number | undefined
}

const ask: fc.Arbitrary<Ask> = fc.record({
  kind: fc.constantFrom(
    ...(['get', 'get', 'put', 'unfinished', 'too large', 'grpc', 'grpc', 'grpc unfinished'] as const),
  ),
  answer: fc.constantFrom(...ANSWERS),
  resets: fc.option(fc.integer({ min: 0, max: 60 }), { nil: undefined, freq: 4 }),
})
const plan: fc.Arbitrary<Plan> = fc.record({
  header: fc.constantFrom(...HEADERS),
  cut: fc.integer({ min: 0, max: 60 }),
  http2: fc.boolean(),
  asks: fc.array(ask, { minLength: 1, maxLength: 4 }),
  leaves: fc.option(fc.integer({ min: 0, max: 120 }), { nil: undefined, freq: 2 }),
})

const CHUNKED = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'

function act(request: RawRequest, answer: string): void {
  switch (answer) {
    case 'slow':
      respond(request, `${CHUNKED}2\r\nok\r\n`)
      setTimeout(respond, 30, request, '2\r\nok\r\n0\r\n\r\n')
      break
    case 'large':
      respond(request, `${CHUNKED}493e0\r\n${'x'.repeat(300_000)}\r\n0\r\n\r\n`)
      break
    case 'cut':
      respond(request, `${CHUNKED}2\r\nok\r\n`)
      request.socket.end()
      break
    case 'reset':
      reset(request.socket)
      break
    default:
      respond(request, 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
  }
}

/** Returns a client of the internet, one in ten thousand, as the proxy in front names it. */
function headerBytes(header: Plan['header']): Buffer {
  switch (header) {
    case 'v1':
      return proxyV1('192.0.2.7', 4711)
    case 'v2':
    case 'half':
      return proxyV2('2001:db8::7', 4711)
    case 'v2 with more':
      return proxyV2('192.0.2.7', 4711, Buffer.alloc(300, 4))
    case 'local':
      return proxyV2('192.0.2.7', 4711, undefined, 0)
    case 'wrong':
      return Buffer.from('PROXY TCP9 x y z\r\n')
    case 'none':
      return Buffer.alloc(0)
  }
}

t.test(
  'whatever comes before a request and however it ends, all that was taken is given back once',
  async (t) => {
    const answers = new Map<string, string>()
    const one = await rawUpstream(
      t,
      (request) => {
        const answer = answers.get(request.values('x-request-id')[0]!)!
        if (answer === 'early') act(request, answer)
        else if (answer !== 'silent') {
          const timer = setInterval(() => {
            if (request.complete) act(request, answer)
            if (request.complete || request.closed) clearInterval(timer)
          }, 2)
        }
      },
      { early: true },
    )
    const grpc = await http2Upstream(t, (received) => {
      const { stream } = received
      const answer = answers.get(received.values('x-request-id')[0]!)!
      const end = () => {
        if (stream.destroyed || stream.headersSent) return
        stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
        stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
        stream.write(Buffer.alloc(answer === 'large' ? 300_000 : 7))
        if (answer === 'cut') stream.close(2)
        else if (answer === 'slow') setTimeout(() => stream.end(), 30)
        else stream.end()
      }
      if (answer === 'reset') stream.close(2)
      else if (answer === 'early') end()
      else if (answer !== 'silent') stream.on('end', end)
      stream.resume()
    })
    const authority = createAuthority(t)
    const certificate = authority.issue('api', 'DNS:api.example')
    const yaml = `
tiers: [free]
consumers: [{ header: { name: x-user-id, from: anyone } }]
trusted_proxies: [127.0.0.1]
server:
  proxy_protocol: true
  header_timeout: 1s
  # Under Node 20 a session whose client is gone may be noticed by its silence only.
  keep_alive: 1s
  http2: true
  tls: { certificates: [${JSON.stringify(certificate)}], handshake_timeout: 1s }
services:
  api:
    upstreams: ['${one.origin}']
    max_connections: 3
    max_waiting: 3
    max_wait: 150ms
    concurrency: { min: 64, max: 64 }
    outliers: false
    limits: { free: 1000000/min }
  echo: { upstreams: ['${grpc.origin}'], protocol: http2, outliers: false, limits: { free: { amount: 1000, algorithm: concurrency } } }
routes:
  - { path: /api, service: api, body_limit: 64, timeouts: { headers: 300ms, idle: 300ms, total: 2s } }
  - { path: /echo/*, service: echo, timeouts: { headers: 300ms, idle: 300ms, total: 2s } }
`
    // Counts around the real functions: each target must be left as often as it was entered.
    const real = createUpstreams(snapshotOf(yaml))
    const inside = new Map<Target['endpoint'], number>()
    const faults: string[] = []
    const count = ({ endpoint }: Target, by: 1 | -1) => {
      const now = (inside.get(endpoint) ?? 0) + by
      inside.set(endpoint, now)
      if (now < 0) faults.push(`${endpoint.address} was left once too often`)
    }
    const upstreams: Upstreams = {
      ...real,
      begun(target) {
        count(target, 1)
        return real.begun(target)
      },
      ended(target, ...rest) {
        count(target, -1)
        real.ended(target, ...rest)
      },
    }
    const lines: string[] = []
    const say = (fields: object, message: string) => void lines.push(`${message} ${JSON.stringify(fields)}`)
    const log = { debug() {}, info() {}, warn() {}, error: say }
    const counts = createConnectionCounts()
    const http2 = createHttp2Counts()
    const settings = snapshotOf(yaml).config.server.tls!
    const tls = await openTls({ settings, alpn: ['h2', 'http/1.1'], log })
    const watchdog = createWatchdog(20)
    const gateway = await startGateway(t, yaml, {
      upstreams,
      watchdog,
      http2,
      entrance: { counts, tls, log },
    })
    t.teardown(async () => {
      tls.close()
      watchdog.close()
      await real.close()
    })

    let ids = 0
    /** Requests that were answered completely: these have to be recorded. */
    const answered: string[] = []

    function named(answer: string): string {
      const id = `r-${ids++}`
      answers.set(id, answer)
      return id
    }

    async function overHttp1(
      socket: Socket,
      { kind, answer }: Ask,
      leaves: number | undefined,
    ): Promise<void> {
      const client = rawOn(socket)
      const id = named(answer)
      const length = kind === 'too large' ? 'Content-Length: 65\r\n' : 'Transfer-Encoding: chunked\r\n'
      const [method, field] = kind === 'get' ? ['GET', ''] : ['PUT', length]
      client.write(
        `${method} /api HTTP/1.1\r\nHost: a\r\nX-User-Id: u\r\nX-Request-Id: ${id}\r\n${field}\r\n`,
      )
      if (kind !== 'get' && kind !== 'too large')
        client.write(`5\r\nhello\r\n${kind === 'put' ? '0\r\n\r\n' : ''}`)
      if (leaves !== undefined) return
      await client.until('an end', () => client.responses().length > 0 || client.isClosed())
      if (client.responses().length > 0) answered.push(id)
    }

    async function overHttp2(
      socket: Socket,
      asks: readonly Ask[],
      leaves: number | undefined,
    ): Promise<void> {
      const session = connectHttp2('https://api.example', { createConnection: () => socket })
      session.on('error', () => {})
      const streams = asks.map(async ({ kind, answer, resets }) => {
        const id = named(answer)
        const common = { ':path': '/api', 'x-user-id': 'u', 'x-request-id': id }
        const stream = kind.startsWith('grpc')
          ? session.request({
              ...common,
              ':method': 'POST',
              ':path': '/echo/x',
              'content-type': 'application/grpc',
              te: 'trailers',
            })
          : session.request(
              { ...common, ':method': kind === 'get' ? 'GET' : 'PUT' },
              { endStream: kind === 'get' },
            )
        stream.on('error', () => {})
        stream.on('response', () => answered.push(id))
        stream.resume()
        if (kind !== 'get') stream.write(kind === 'too large' ? 'x'.repeat(65) : 'hello')
        if (kind === 'put' || kind === 'grpc') stream.end()
        if (resets !== undefined) setTimeout(() => stream.close(8), resets)
        // Not by `once`, which an error of the stream would end.
        if (!stream.destroyed) await new Promise((resolve) => stream.once('close', resolve))
      })
      if (leaves === undefined) await Promise.all(streams)
      else await sleep(leaves)
      session.destroy()
    }

    async function run({ header, cut, http2: speaksHttp2, asks, leaves }: Plan): Promise<void> {
      const socket = connect(gateway.port, '127.0.0.1')
      socket.on('error', () => {})
      await once(socket, 'connect')
      const closed = () => {
        // Reads what nobody else reads, or its end would go unnoticed.
        socket.resume()
        return socket.closed ? undefined : once(socket, 'close')
      }
      const bytes = headerBytes(header)
      socket.write(bytes.subarray(0, cut))
      await new Promise(setImmediate)
      if (header !== 'half') socket.write(bytes.subarray(cut))
      else if (leaves === undefined) await closed()
      if (leaves !== undefined && leaves < 8) await sleep(leaves)
      else if (header !== 'half') {
        const secure = connectTls({
          socket,
          servername: 'api.example',
          rejectUnauthorized: false,
          ALPNProtocols: [speaksHttp2 ? 'h2' : 'http/1.1'],
        })
        secure.on('error', () => {})
        const ready = await Promise.race([
          once(secure, 'secureConnect').then(() => true),
          once(secure, 'close').then(() => false),
        ]).catch(() => false)
        if (ready) {
          await (speaksHttp2 ? overHttp2(secure, asks, leaves) : overHttp1(secure, asks[0]!, leaves))
          if (leaves !== undefined) await sleep(leaves)
        }
        secure.destroy()
      }
      socket.destroy()
    }

    const held = () => ({
      watched: watchdog.size(),
      inside: [...inside.values()].filter((requests) => requests !== 0),
      places: gateway.guards.describe(gateway.snapshot())[0]!.concurrency!.in_flight,
      waiting: [...real.waiting()].filter(([, requests]) => requests > 0),
      inFlight: real.describe().filter((state) => state.in_flight + state.tunnels !== 0),
      connections: counts.open,
      sessions: http2.open,
      unrecorded: answered.filter((id) => !gateway.records.some(({ requestId }) => requestId === id)),
      faults,
      lines,
    })
    const nothing = {
      watched: 0,
      inside: [],
      places: 0,
      waiting: [],
      inFlight: [],
      connections: 0,
      sessions: 0,
      unrecorded: [],
      faults: [],
      lines: [],
    }

    await fc.assert(
      fc.asyncProperty(fc.array(plan, { minLength: 4, maxLength: 14 }), async (batch) => {
        await Promise.all(batch.map(run))
        await eventually('nothing is under way', () => isDeepStrictEqual(held(), nothing)).catch((error) => {
          throw new Error(`${error.message}: ${JSON.stringify(held())}`)
        })
      }),
      { numRuns: 6 },
    )

    const times = new Map<string, number>()
    for (const { requestId } of gateway.records) times.set(requestId, (times.get(requestId) ?? 0) + 1)
    t.strictSame(
      [...times].filter(([, n]) => n > 1),
      [],
      'none is recorded twice',
    )
    t.comment(`${ids} requests, ${answered.length} answered, ${JSON.stringify(counts.rejected)}`)
    t.ok(
      answered.length > 0 && counts.rejected.proxy_header > 0,
      'there were those that came through, and others',
    )
    const slots = await gateway.limiter.usage(
      gateway.snapshot().services[1]!,
      gateway.snapshot().services[1]!.policies[0]!,
      'u',
    )
    t.strictSame(
      slots.map(({ used }) => used),
      [0],
      'every slot is given back',
    )
    t.strictSame(gateway.logged, [])
  },
)
