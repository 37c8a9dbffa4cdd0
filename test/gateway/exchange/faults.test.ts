import { once } from 'node:events'
import type { OutgoingHttpHeaders } from 'node:http2'
import t, { type Test } from 'tap'
import { createWatchdog } from '../../../src/gateway/exchange/watchdog.js'
import { createUpstreams } from '../../../src/upstream/pool/pool.js'
import { eventually } from '../../support/eventually.js'
import { snapshotOf, startGateway } from '../../support/gateway/gateway.js'
import { http2Client } from '../../support/http/http2-client.js'
import { openRaw } from '../../support/http/raw.js'
import { type RawRequest, rawUpstream, respond } from '../../support/http/raw-upstream.js'
import { handshake, SWITCHING, startBare } from '../../support/http/websocket.js'
import { within } from '../../support/within.js'

/** Wraps an object so that one call to it throws after it has done its work, so nobody learns how far it came. */
class Thrower {
  calls = 0
  /** Number of the call that throws, from now on; 0: none. */
  #at = 0
  threw: string | undefined

  arm(at: number): void {
    this.calls = 0
    this.#at = at
    this.threw = undefined
  }

  /** @param spared calls that work: undoing something requires knowing that it began */
  before<T extends object>(part: T, name: string, spared: readonly string[] = []): T {
    return new Proxy(part, {
      get: (_, key) => {
        const member = Reflect.get(part, key)
        if (typeof member !== 'function' || spared.includes(String(key))) return member
        return (...args: unknown[]) => {
          const result = member.apply(part, args)
          if (++this.calls === this.#at) {
            this.threw = `${name}.${String(key)}`
            throw new Error(`injected after ${this.threw}`)
          }
          return result
        }
      },
    })
  }
}

function configOf(origin: string, other: string): string {
  return `
tiers: [free]
services:
  api:
    upstreams: ['${origin}']
    max_connections: 2
    max_wait: 1s
    outliers: false
    concurrency: { initial: 10 }
    circuit_breaker: { min_requests: 1000 }
    limits: { free: { amount: 3, algorithm: concurrency } }
  other: { upstreams: ['${other}'], outliers: false, concurrency: { initial: 10 } }
routes:
  - { path: /*, service: api, timeouts: { total: 2s, idle: 1s } }
  - { path: /zip, service: api, compress: true }
  - { path: /copied, service: api, mirror: { service: other } }
  - { path: /late, service: api, timeouts: { headers: 60ms } }
  - { path: /room, service: other, websocket: { handshake: 500ms } }
  - { path: /refusing, service: other, websocket: true }
server: { http2: true }
`
}

const LONG = 'x'.repeat(3000)

function answer(request: RawRequest): void {
  if (request.target === '/late') return
  const kind = 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n'
  if (request.target === '/whole') respond(request, `${kind}Content-Length: 2\r\n\r\nok`)
  else {
    respond(request, `${kind}Transfer-Encoding: chunked\r\n\r\nbb8\r\n${LONG}\r\n`)
    setImmediate(() => respond(request, '2\r\nok\r\n0\r\nX-Trailer: 1\r\n\r\n'))
  }
}

async function site(t: Test) {
  const thrower = new Thrower()
  const backend = await rawUpstream(t, answer)
  const bare = await startBare(t, (socket, head) => {
    if (head.startsWith('GET /room')) socket.write(SWITCHING)
    else socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno')
  })
  const yaml = configOf(backend.origin, bare.origin)
  const upstreams = createUpstreams(snapshotOf(yaml))
  const watchdog = createWatchdog(20)
  t.teardown(async () => {
    await upstreams.close()
    watchdog.close()
  })
  const gateway = await startGateway(t, yaml, {
    upstreams: thrower.before(upstreams, 'upstreams', ['begun', 'wait', 'tunnelBegun']),
    watchdog: thrower.before(watchdog, 'watchdog', ['delete']),
    top: thrower.before({ record() {} }, 'top'),
    accessLog: thrower.before({ write() {} }, 'accessLog'),
  })
  /** Checks that the gateway holds nothing of a finished request. */
  const released = () =>
    eventually('nothing is held', () => {
      const held = gateway.guards.describe(gateway.snapshot()).map((one) => one.concurrency!.in_flight)
      return watchdog.size() === 0 && held.every((count) => count === 0)
    })
  return { thrower, gateway, released }
}

type Site = Awaited<ReturnType<typeof site>>
/** Sends one request, and waits until it is over, however it ends. */
type Ask = (site: Site) => Promise<void>

function plain(target: string, head = 'GET', body = ''): Ask {
  return async ({ gateway }) => {
    const client = await openRaw(gateway.port)
    client.write(
      `${head} ${target} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nConnection: close\r\n${body}`,
    )
    await client.closed()
  }
}

function upgrade(target: string): Ask {
  return async ({ gateway }) => {
    const client = await openRaw(gateway.port)
    client.write(handshake(target))
    await client.until('an answer', () => client.received() !== '').catch(() => {})
    client.write('hello')
    client.socket.end()
    await client.closed()
  }
}

function http2(target: string, headers: OutgoingHttpHeaders = {}, body?: string): (t: Test) => Ask {
  return (t) => async (site) => {
    const client = await http2Client(t, site.gateway.origin)
    await client.ask(target, { 'accept-encoding': 'gzip', ...headers }, body)
    client.session.destroy()
    if (!client.session.destroyed) await once(client.session, 'close')
  }
}

const CHUNKS = 'Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n'
const ASKED: Record<string, (t: Test) => Ask> = {
  'a request that the gateway reads itself':
    () =>
    async ({ gateway }) => {
      const client = await openRaw(gateway.port)
      client.write('GET /whole HTTP/1.1\r\nHost: a\r\n\r\n')
      await client.until('an answer', () => client.responses().length > 0).catch(() => {})
      client.socket.destroy()
    },
  'a request by Node’s parser': () => plain('/', 'GET', '\r\n'),
  'an upload in pieces': () => async (site) => {
    const client = await openRaw(site.gateway.port)
    client.write(`POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n${CHUNKS}`)
    setImmediate(() => client.write('2\r\ncd\r\n0\r\n\r\n'))
    await client.closed()
  },
  'a compressed response': () => plain('/zip', 'GET', '\r\n'),
  'a request that is copied': () => plain('/copied', 'GET', '\r\n'),
  'a request that takes too long': () => plain('/late', 'GET', '\r\n'),
  'a request over HTTP/2': http2('/'),
  'an upload over HTTP/2': http2('/', {}, 'hello'),
  'a compressed response over HTTP/2': http2('/zip'),
  'a request over HTTP/2 that takes too long': http2('/late'),
  'a WebSocket': () => upgrade('/room'),
  'a WebSocket that is refused': () => upgrade('/refusing'),
}

for (const [what, asking] of Object.entries(ASKED)) {
  t.test(`${what}, with an exception at any call, leaves nothing behind`, async (t) => {
    const here = await site(t)
    const ask = asking(t)
    const { thrower, gateway, released } = here
    const thrown = new Set<string>()
    for (let call = 1; call < 400; call++) {
      const before = gateway.internalErrors()
      const recorded = gateway.records.length
      thrower.arm(call)
      await within(5_000, `the end of it; threw ${thrower.threw}, call ${call}`, ask(here))
      await within(5_000, `nothing is held; threw ${thrower.threw}, call ${call}`, released())
      if (thrower.threw === undefined) break
      thrown.add(thrower.threw)
      t.equal(gateway.internalErrors(), before + 1, `counted once: ${thrower.threw}, call ${call}`)
      await eventually(
        `it is recorded; threw ${thrower.threw}`,
        () => gateway.records.length === recorded + 1,
        5_000,
      )
    }
    thrower.arm(0)
    t.ok(thrown.size >= 5, [...thrown].join())
    t.match(gateway.logged.at(-1), {
      fields: { error: /injected/ },
      message: 'a request failed because of a fault in the gateway',
    })
    // Shared state is as before: connections, concurrency slots, and both places of the service.
    const after = await Promise.all([1, 2, 3].map(() => fetch(`${gateway.origin}/whole`)))
    for (const { status } of after) t.equal(status, 200)
    await Promise.all(after.map((one) => one.text()))
  })
}
