import { once } from 'node:events'
import { createServer, type ServerHttp2Stream } from 'node:http2'
import { type AddressInfo, connect, createServer as listen, type Socket } from 'node:net'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { createHttp2, createHttp2Counts } from '../../../../src/gateway/listen/http2/server.js'
import { snapshotOf } from '../../../support/gateway/gateway.js'
import { http2Client } from '../../../support/http/http2-client.js'
import { frame, headerBlock, PREFACE, readFrames, TYPE } from '../../../support/http/http2-frames.js'

/** The gateway's reader beside Node's: both get the same bytes, and have to see the same requests. */

type Field = readonly [name: string, value: string]

/** What a reader has seen of a connection: each request as text, those that it reset, and the end by a GOAWAY. */
interface Seen {
  readonly requests: Map<number, string>
  readonly resets: Set<number>
  ended: boolean
}

const described = (fields: readonly string[], body: string): string => JSON.stringify([fields, body])

/** A server of Node's, which tells what it has read on each connection. */
async function startNode(t: Test): Promise<{ port: number; seen(): Map<number, string> }> {
  let requests = new Map<number, string>()
  const server = createServer({ settings: { maxConcurrentStreams: 100 }, maxSessionInvalidFrames: 1_000 })
  server.on('stream', (stream: ServerHttp2Stream, _: unknown, __: number, raw: unknown) => {
    let body = ''
    stream.on('error', () => {})
    stream.on('data', (chunk: Buffer) => {
      body += chunk.toString('latin1')
    })
    stream.on('end', () => {
      if (stream.rstCode === 0 || stream.rstCode === undefined)
        requests.set(stream.id!, described(inTerms(raw as string[]), body))
      if (!stream.destroyed && !stream.closed) {
        stream.respond({ ':status': 200 })
        stream.end()
      }
    })
  })
  server.on('sessionError', () => {})
  return {
    port: await open(t, server),
    seen: () => {
      const all = requests
      requests = new Map()
      return all
    },
  }
}

/** Pseudo-header fields in a fixed order, then the others: the two readers give them in different forms. */
function inTerms(raw: readonly string[]): string[] {
  const pseudo: Record<string, string> = {}
  const rest: string[] = []
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i]!.startsWith(':') || raw[i] === 'host') pseudo[raw[i]!] = raw[i + 1]!
    else if (raw[i] === 'cookie' && rest.includes('cookie'))
      rest[rest.indexOf('cookie') + 1] += `; ${raw[i + 1]}`
    else rest.push(raw[i]!, raw[i + 1]!)
  }
  return [pseudo[':method']!, pseudo[':path']!, 'host', pseudo[':authority'] ?? pseudo.host!, ...rest]
}

/** The gateway's reader, without the gateway. */
async function startOwn(t: Test): Promise<{ port: number; seen(): Map<number, string> }> {
  let requests = new Map<number, string>()
  const http2 = createHttp2({
    settings: snapshotOf(
      'tiers: [free]\nservices: { a: { upstreams: ["http://a"] } }\nroutes: [{ path: /, service: a }]\nserver: { http2: true }',
    ).config.server,
    counts: createHttp2Counts(),
    draining: () => false,
    accept(req, res, refused) {
      let body = ''
      const end = (): void => {
        const fields = req.rawHeaders.filter((_, i, all) => all[i - (i % 2)] !== 'transfer-encoding')
        if (refused === undefined) requests.set(req.id, described([req.method, req.url, ...fields], body))
        res.writeHead(200, [])
        res.end()
      }
      if (req.readableEnded) end()
      else {
        req.on('data', (chunk: Buffer) => {
          body += chunk.toString('latin1')
        })
        req.on('end', end)
      }
    },
  })
  const server = listen((socket) => http2.speak(socket, (other) => other.destroy()))
  t.teardown(() => http2.destroy())
  return {
    port: await open(t, server),
    seen: () => {
      const all = requests
      requests = new Map()
      return all
    },
  }
}

async function open(
  t: Test,
  server: ReturnType<typeof listen> | ReturnType<typeof createServer>,
): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

/** Sends bytes, in pieces of the given size, and reads until the reader has answered a last ping or ended the connection. */
async function exchange(port: number, bytes: Buffer, size: number): Promise<Seen> {
  const socket: Socket = connect({ port, host: '127.0.0.1', noDelay: true })
  await once(socket, 'connect')
  const seen: Seen = { requests: new Map(), resets: new Set(), ended: false }
  const over = new Promise<void>((resolve) => {
    socket.on('error', () => {})
    socket.on('close', resolve)
    readFrames(socket, ({ type, stream }) => {
      if (type === TYPE.reset) seen.resets.add(stream)
      if (type === TYPE.goaway) seen.ended = true
      // Whatever was in front of the ping has been answered, a turn later.
      if (type === TYPE.ping) setTimeout(resolve, 5)
    })
  })
  const all = Buffer.concat([
    Buffer.from(PREFACE),
    frame(TYPE.settings, 0, 0),
    bytes,
    frame(TYPE.ping, 0, 0, '87654321'),
  ])
  for (let at = 0; at < all.length && socket.writable; at += size) {
    socket.write(all.subarray(at, at + size))
    if (size < 200) await new Promise((resolve) => setImmediate(resolve))
  }
  await over
  socket.destroy()
  return seen
}

const NAME = fc.oneof(
  fc.stringMatching(/^x-[a-z0-9!#$%&'*+.^_`|~-]{1,20}$/),
  fc.constantFrom('accept', 'cookie', 'user-agent', 'content-type', 'te', 'x-api-key'),
)
const VALUE = fc.oneof(
  { weight: 5, arbitrary: fc.stringMatching(/^[!-~\x80-\xff]([\t !-~\x80-\xff]{0,60}[!-~\x80-\xff])?$/) },
  { weight: 1, arbitrary: fc.constantFrom('', 'trailers', 'a=1') },
)
const fields = fc.array(fc.tuple(NAME, VALUE), { maxLength: 6 })

t.test("requests of Node's client: both see the same, however their bytes are cut", async (t) => {
  const [node, own] = [await startNode(t), await startOwn(t)]
  // The client's bytes go to both: what it hears is the answer of Node's server.
  let captured: Buffer[] = []
  const relay = listen((socket) => {
    const onward = connect(node.port, '127.0.0.1')
    socket.on('data', (chunk: Buffer) => {
      captured.push(chunk)
      onward.write(chunk)
    })
    onward.on('data', (chunk) => socket.write(chunk))
    for (const one of [socket, onward]) one.on('error', () => {})
    socket.on('close', () => onward.destroy())
  })
  const port = await open(t, relay)
  const request = fc.record({
    method: fc.constantFrom('GET', 'POST', 'PUT', 'HEAD'),
    path: fc.webPath(),
    fields,
    body: fc.option(fc.string({ maxLength: 3_000 }), { nil: undefined }),
  })
  let count = 0
  await fc.assert(
    fc.asyncProperty(
      fc.array(request, { minLength: 1, maxLength: 4 }),
      fc.integer({ min: 1, max: 400 }),
      async (all, size) => {
        captured = []
        const client = await http2Client(t, `http://127.0.0.1:${port}`)
        const asked = all.map(({ method, path, fields, body }) => {
          const headers = Object.fromEntries(
            fields.filter(([name, value]) => name !== 'te' || value === 'trailers'),
          )
          return client.ask(
            path === '' ? '/' : path,
            { ':method': method, ...headers },
            method === 'GET' || method === 'HEAD' ? undefined : (body ?? ''),
          )
        })
        await Promise.all(asked)
        client.session.destroy()
        const expected = node.seen()
        const bytes = Buffer.concat(captured).subarray(PREFACE.length)
        await exchange(own.port, bytes, size)
        const got = own.seen()
        count += expected.size
        t.same([...got].toSorted(), [...expected].toSorted())
        return expected.size === all.length
      },
    ),
    { numRuns: Number(process.env.CONTRACT_RUNS ?? 40) },
  )
  t.ok(count > 40)
})

const odd: fc.Arbitrary<Field> = fc.tuple(
  fc.constantFrom(
    ':method',
    ':path',
    ':scheme',
    ':authority',
    ':x',
    'host',
    'te',
    'connection',
    'content-length',
    'cookie',
    'X',
    'x y',
    'x',
  ),
  fc.constantFrom(
    'GET',
    '/',
    '*',
    'http',
    'a',
    '5',
    '0',
    'trailers',
    '',
    'a\rb',
    'a\0',
    ' a',
    '\xff',
    'close',
  ),
)
const PSEUDO: readonly Field[] = [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/p'],
  [':authority', 'a'],
]
const oddFields = fc.oneof(
  fc.array(odd, { maxLength: 2 }).map((more) => [...PSEUDO, ...more]),
  fc.tuple(fc.nat(3), odd).map(([i, one]) => PSEUDO.map((field, at) => (at === i ? one : field))),
  fields.map((more) => [...PSEUDO, ...more]),
)
const id = fc.constantFrom(1, 1, 1, 3, 3, 5, 2)
const oneFrame = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .tuple(fc.constantFrom(4, 5, 5, 0x24, 0), id, oddFields)
      .map(([flags, on, all]) => frame(TYPE.headers, flags & ~0x20, on, headerBlock(all))),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(fc.constantFrom(0, 0, 1, 8), id, fc.constantFrom('', 'hello', '\x02hi\0\0'))
      .map(([flags, on, bytes]) => frame(TYPE.data, flags, on, bytes)),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(
        fc.integer({ min: 2, max: 10 }),
        fc.constantFrom(0, 4),
        id,
        fc.constantFrom('', '1234', '12345678', '\0\0\0\x08'),
      )
      .map(([type, flags, on, bytes]) => frame(type, flags, on, bytes)),
  },
)

t.test('frames as they should not be: whatever the gateway takes, Node takes the same way', async (t) => {
  const [node, own] = [await startNode(t), await startOwn(t)]
  let both = 0
  await fc.assert(
    fc.asyncProperty(
      fc.array(oneFrame, { minLength: 1, maxLength: 7 }),
      fc.integer({ min: 1, max: 60 }),
      async (frames, size) => {
        const bytes = Buffer.concat(frames)
        const [other] = [
          await exchange(node.port, bytes, bytes.length + 100),
          await exchange(own.port, bytes, size),
        ]
        const [expected, got] = [node.seen(), own.seen()]
        for (const [stream, text] of got) {
          const same = expected.get(stream)
          // Node may end the connection for a later frame before it has told of this request.
          if (same === undefined && (other.ended || other.resets.has(stream))) continue
          if (same !== undefined) both++
          if (same !== text) throw new Error(`stream ${stream}: ${text}, Node: ${same}`)
        }
        return true
      },
    ),
    { numRuns: Number(process.env.CONTRACT_RUNS ?? 150) },
  )
  t.ok(both > 0)
})
