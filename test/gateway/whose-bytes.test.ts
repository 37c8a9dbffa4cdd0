import { once } from 'node:events'
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { gunzipSync } from 'node:zlib'
import t from 'tap'
import { createAuthority, pairOf } from '../support/credentials/authority.js'
import { eventually } from '../support/eventually.js'
import { startGateway } from '../support/gateway/gateway.js'

/**
 * Buffers are shared between connections, passed on without a copy, and held by encoders, mirrors and slow clients. This tests
 * that every byte stays with its own exchange.
 */

const LENGTHS = [0, 1, 900, 15_000, 16_384, 40_000, 65_536, 150_000, 400_000]
const KINDS = ['plain', 'tls', 'zip', 'copied'] as const
const CLIENTS = 24
const EACH = 14

/** Makes a body in which every place says whose it is, and where. */
function bodyOf(id: number, length: number): Buffer {
  const words: string[] = []
  for (let at = 0; at < length; at += 16) words.push(`${id}:${at}:`.padEnd(16, '.'))
  return Buffer.from(words.join('').slice(0, length), 'latin1')
}

t.test('whatever goes on at once, every byte belongs to its own exchange', async (t) => {
  const authority = createAuthority(t)
  const seen = new Set<string>()
  const wrong: string[] = []
  let broken = 0

  /** The target says what the upstream does: /kind/id/length/framing. */
  async function answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const [, , id, length, framing] = req.url!.split('/')
    const pieces: Buffer[] = []
    for await (const piece of req) pieces.push(piece as Buffer)
    const sent = Buffer.concat(pieces)
    const due = bodyOf(-Number(id), Number(req.headers['x-length'] ?? 0))
    if (!sent.equals(due)) wrong.push(`the request ${req.url} of ${due.length}`)
    if (req.headers['x-tidegate-mirror'] !== undefined) {
      res.end('the answer to a copy')
      return
    }
    if (framing === 'again' && !seen.has(id!)) {
      seen.add(id!)
      broken++
      req.socket.destroy()
      return
    }
    const body = bodyOf(Number(id), Number(length))
    res.setHeader('Content-Type', 'text/plain')
    if (framing === 'sized') res.setHeader('Content-Length', body.length)
    if (framing === 'close') res.shouldKeepAlive = false
    const half = body.length >> 1
    if (framing === 'cut') {
      res.write(body.subarray(0, half), () => req.socket.destroy())
      return
    }
    res.write(body.subarray(0, half))
    if (Number(id) % 3 === 0) await new Promise(setImmediate)
    res.end(body.subarray(half))
  }

  const handler = (req: IncomingMessage, res: ServerResponse) => void answer(req, res).catch(() => {})
  const open = createServer(handler)
  const secure = createSecureServer(pairOf(authority.issue('upstream', 'IP:127.0.0.1')), handler)
  for (const server of [open, secure]) {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.teardown(() => {
      server.closeAllConnections()
      server.close()
    })
  }
  const portOf = (server: typeof open) => (server.address() as AddressInfo).port
  const gateway = await startGateway(
    t,
    `
tiers: [free]
services:
  open: { upstreams: ['http://127.0.0.1:${portOf(open)}'], max_connections: 12, max_waiting: 100, max_wait: 30s, retries: { budget: 100 } }
  secure: { upstreams: ['https://127.0.0.1:${portOf(secure)}'], max_connections: 6, max_waiting: 100, max_wait: 30s, retries: { budget: 100 }, tls: { ca: ${authority.ca} } }
  second: { upstreams: ['http://127.0.0.1:${portOf(open)}'] }
routes:
  - { path: /plain/*, service: open }
  - { path: /tls/*, service: secure }
  - { path: /zip/*, service: secure, compress: true }
  - { path: /copied/*, service: open, mirror: { service: second } }
`,
  )

  /** Reads the response at its own pace, and leaves in the middle of some. */
  async function ask(agent: Agent, id: number, i: number): Promise<boolean> {
    const kind = KINDS[id % KINDS.length]!
    const length = LENGTHS[(id * 7) % LENGTHS.length]!
    const framing = ['sized', 'chunked', 'close', 'again', 'sized', 'cut'][(id * 5 + i) % 6]!
    // A long request may still be on its way when the connection breaks, and is then not sent again.
    const up = id % 5 === 0 ? bodyOf(-id, LENGTHS[(id * 3) % (framing === 'again' ? 5 : 7)]!) : undefined
    const req = request({
      agent,
      port: gateway.port,
      path: `/${kind}/${id}/${length}/${framing}`,
      method: up === undefined ? 'GET' : 'PUT',
      headers: {
        'Accept-Encoding': 'gzip',
        ...(up === undefined ? undefined : { 'Content-Length': up.length, 'X-Length': up.length }),
        // Only Node's parser accepts this one.
        ...(id % 4 === 1 ? { 'X-Odd': 'ü' } : undefined),
      },
    })
    req.end(up)
    try {
      const [res] = (await once(req, 'response')) as [IncomingMessage]
      const pieces: Buffer[] = []
      for await (const piece of res) {
        pieces.push(piece as Buffer)
        if (id % 11 === 7 && pieces.length === 2) {
          req.destroy()
          return false
        }
        if (id % 6 === 2) await new Promise((resolve) => setTimeout(resolve, 1))
      }
      if (res.statusCode !== 200) throw new Error(`${res.statusCode}: ${Buffer.concat(pieces)}`)
      const got = Buffer.concat(pieces)
      const plain = res.headers['content-encoding'] === 'gzip' ? gunzipSync(got) : got
      if (framing === 'cut') throw new Error('looks complete')
      if (!plain.equals(bodyOf(id, length))) wrong.push(`the answer to ${req.path}, ${plain.length} bytes`)
      return true
    } catch (error) {
      if (framing !== 'cut') wrong.push(`${req.path}: ${(error as Error).message}`)
      return false
    }
  }

  let id = 0
  let whole = 0
  await Promise.all(
    Array.from({ length: CLIENTS }, async () => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 })
      for (let i = 0; i < EACH; i++) if (await ask(agent, ++id, i)) whole++
      agent.destroy()
    }),
  )
  t.strictSame(wrong, [])
  t.ok(whole > id / 2, `${whole} of ${id} answers were whole`)
  t.ok(broken > 10, `${broken} were asked for again`)
  await eventually('nothing is under way', () => gateway.watchdog.size() === 0)
  const copies = gateway.mirrored.filter(([, result]) => result === 'answered').length
  t.ok(copies > 20, `${copies} copies`)
  t.strictSame(gateway.logged, [])
})
