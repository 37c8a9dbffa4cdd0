// Tests src/gateway/{forward,stages}/read-body.ts
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { respond as respondWith } from '../../../src/extension/respond.js'
import { createShares, type Shares } from '../../../src/shares.js'
import { signed } from '../../support/credentials/signing.js'
import { eventually } from '../../support/eventually.js'
import { startGateway } from '../../support/gateway/gateway.js'
import { instances } from '../../support/gateway/hooks.js'
import { problemOf } from '../../support/gateway/site.js'
import { http2Client } from '../../support/http/http2-client.js'
import { http2Upstream } from '../../support/http/http2-upstream.js'
import { openRaw, rawExchange } from '../../support/http/raw.js'
import { type RawUpstream, rawUpstream, respond } from '../../support/http/raw-upstream.js'

/** A body that hooks want is read before the request is forwarded, and goes on as it came. */

interface Settings {
  readonly service?: string
  readonly server?: string
  readonly route?: string
  readonly more?: string
}

const EXTENSIONS = 'extensions: [{ name: reader, module: ./reader.js, on_error: ON_ERROR }]'

const config = (origin: string, { service = '', server = '', route = '', more = '' }: Settings = {}) => `
tiers: [free]
${EXTENSIONS}
services: { api: { upstreams: ['${origin}'], max_wait: 100ms${service} } }
routes: [{ path: /*, service: api, use: [reader]${route} }]
server: { http2: { enabled: true }, ${server} }
${more}
`
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
const post = (framing: string) => `POST / HTTP/1.1\r\nHost: a\r\n${framing}\r\n\r\n`
const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`

/** Extension whose hook wants the body. */
interface Reader {
  readonly extensions: ReturnType<typeof instances>
  readonly onError: 'deny' | 'skip'
}

const wants = (max: number, onError: Reader['onError'] = 'deny', as: 'bytes' | 'json' = 'bytes'): Reader => ({
  extensions: instances({ reader: { onUpstreamRequest: { run() {}, body: { max, as } } } }),
  onError,
})

/** Starts a gateway with this extension. */
const startWith = (t: Test, yaml: string, { extensions, onError }: Reader, shares = createShares()) =>
  startGateway(t, yaml.replace('ON_ERROR', onError), { shares, extensions })

const heldOf = (shares: Shares) => [...shares.all()].reduce((sum, { held }) => sum + held, 0)

interface Started {
  readonly port: number
  readonly upstream: RawUpstream
  readonly shares: Shares
  readonly gateway: Awaited<ReturnType<typeof startGateway>>
}

async function start(t: Test, reader: Reader, settings?: Settings, upstream?: RawUpstream): Promise<Started> {
  const backend = upstream ?? (await rawUpstream(t, (request) => respond(request, OK)))
  const shares = createShares()
  const text = config(backend.origin, settings)
  const gateway = await startWith(t, text, reader, shares)
  t.teardown(() => {
    if (gateway.internalErrors() > 0) throw new Error(`thrown: ${JSON.stringify(gateway.logged)}`)
  })
  return { port: gateway.port, upstream: backend, shares, gateway }
}

t.test('a body goes on as it came, however it comes, and nothing of the share stays taken', async (t) => {
  const { port, upstream, shares } = await start(t, wants(100_000))
  const long = 'x'.repeat(90_000)
  for (const [bytes, body] of [
    [`${post('Content-Length: 5')}hello`, 'hello'],
    [`${post('Transfer-Encoding: chunked')}${chunk('hel')}${chunk('lo')}0\r\n\r\n`, 'hello'],
    [`${post('Transfer-Encoding: chunked')}0\r\n\r\n`, ''],
    [`${post('Content-Length: 90000')}${long}`, long],
    [`${post('Content-Length: 0')}`, ''],
    ['GET / HTTP/1.1\r\nHost: a\r\n\r\n', ''],
  ] as const) {
    const { responses } = await rawExchange(port, bytes)
    t.equal(responses[0]!.status, 200)
    t.equal(upstream.requests.at(-1)!.body, body)
    t.equal(upstream.requests.at(-1)!.complete, true)
  }
  await eventually('all is given back', () => heldOf(shares) === 0)
})

t.test(
  'a slow body takes no connection, is charged, and goes on in one piece when it is complete',
  async (t) => {
    const { port, upstream, shares, gateway } = await start(t, wants(1_000))
    const client = await openRaw(port)
    client.write(`${post('Content-Length: 10')}hello`)
    await eventually('it is charged', () => heldOf(shares) === 5 + 128)
    t.equal(upstream.connections(), 0)
    client.write('world')
    await client.until('the answer', () => client.responses().length === 1)
    t.equal(upstream.requests[0]!.body, 'helloworld')
    t.equal(heldOf(shares), 0, 'given back with the response')
    t.equal(gateway.records[0]!.bytesIn, 10)
    // The connection goes on.
    client.write(`${post('Content-Length: 2')}ok${post('Content-Length: 3')}two`)
    await client.until('two answers', () => client.responses().length === 3)
    t.same(
      upstream.requests.map(({ body }) => body),
      ['helloworld', 'ok', 'two'],
    )
    client.socket.destroy()
  },
)

t.test('a client that leaves while its body is read leaves nothing behind', async (t) => {
  const { port, upstream, shares, gateway } = await start(t, wants(1_000))
  const clients = await Promise.all(Array.from({ length: 20 }, () => openRaw(port)))
  for (const client of clients) client.write(`${post('Content-Length: 10')}hello`)
  await eventually('all are read', () => gateway.watchdog.size() === 20)
  for (const client of clients) client.socket.destroy()
  await gateway.recorded(20)
  t.equal(heldOf(shares), 0)
  t.equal(gateway.watchdog.size(), 0)
  t.equal(upstream.requests.length, 0)
  t.same(new Set(gateway.records.map(({ error }) => error)), new Set(['client_closed']))
})

t.test('a body that stops, or takes too long, gets 408', async (t) => {
  const { port, shares } = await start(t, wants(1_000), {
    route: ', timeouts: { idle: 100ms, request: 300ms }',
  })
  const stopped = await openRaw(port)
  stopped.write(`${post('Content-Length: 10')}hello`)
  await stopped.until('the answer', () => stopped.responses().length === 1)
  t.equal(problemOf(stopped.responses()[0]!).code, 'request_timeout')
  await stopped.closed()
  const slow = await openRaw(port)
  slow.write(post('Content-Length: 1000'))
  const drip = setInterval(() => slow.write('x'), 20)
  await slow.until('the answer', () => slow.responses().length === 1)
  clearInterval(drip)
  t.equal(problemOf(slow.responses()[0]!).code, 'request_timeout')
  slow.socket.destroy()
  t.equal(heldOf(shares), 0)
})

t.test('a body longer than the hook takes is refused unread with deny, and goes on with skip', async (t) => {
  const denied = await start(t, wants(1_000))
  for (const bytes of [
    `${post('Content-Length: 1001')}`,
    `${post('Transfer-Encoding: chunked')}${chunk('x'.repeat(1_001))}`,
  ]) {
    const { responses } = await rawExchange(denied.port, bytes)
    t.match(problemOf(responses[0]!), { status: 413, code: 'payload_too_large', detail: /1000 bytes/ })
  }
  t.equal(denied.upstream.requests.length, 0)
  const expecting = await rawExchange(denied.port, post('Content-Length: 1001\r\nExpect: 100-continue'))
  t.equal(expecting.responses[0]!.status, 413)
  t.notMatch(expecting.text, /100 Continue/)
  await eventually('all is given back', () => heldOf(denied.shares) === 0)

  const skipped = await start(t, wants(1_000, 'skip'))
  const long = `${'a'.repeat(900)}${'b'.repeat(900)}${'c'.repeat(200_000)}`
  for (const bytes of [
    `${post(`Content-Length: ${long.length}`)}${long}`,
    `${post('Transfer-Encoding: chunked')}${chunk(long.slice(0, 900))}${chunk(long.slice(900, 1_800))}${chunk(long.slice(1_800))}0\r\n\r\n`,
  ]) {
    const { responses } = await rawExchange(skipped.port, bytes)
    t.equal(responses[0]!.status, 200)
    t.ok(skipped.upstream.requests.at(-1)!.body === long, 'unchanged')
  }
  await skipped.gateway.recorded(2)
  t.same(
    skipped.gateway.records.map(({ bytesIn }) => bytesIn),
    [long.length, long.length],
  )
  await eventually('all is given back', () => heldOf(skipped.shares) === 0)
})

t.test('a body goes on unchanged however its pieces come and whatever the hook takes', async (t) => {
  const { port, upstream } = await start(t, wants(50, 'skip'))
  const pieces = fc.array(fc.stringMatching(/^[ -~]{1,40}$/), { maxLength: 6 })
  await fc.assert(
    fc.asyncProperty(pieces, fc.boolean(), async (parts, waits) => {
      const client = await openRaw(port)
      client.write(post('Transfer-Encoding: chunked'))
      for (const part of parts) {
        client.write(chunk(part))
        if (waits) await new Promise(setImmediate)
      }
      client.write('0\r\n\r\n')
      await client.until('the answer', () => client.responses().length === 1)
      client.socket.destroy()
      return upstream.requests.at(-1)!.body === parts.join('')
    }),
    { numRuns: 60 },
  )
})

t.test('a body longer than the route accepts is refused, whatever the hook takes', async (t) => {
  const { port, shares } = await start(t, wants(5_000, 'skip'), { route: ', body_limit: 1000B' })
  for (const bytes of [
    post('Content-Length: 1001'),
    `${post('Transfer-Encoding: chunked')}${chunk('x'.repeat(600))}${chunk('x'.repeat(600))}`,
  ]) {
    const { responses } = await rawExchange(port, bytes)
    t.match(problemOf(responses[0]!), { status: 413, detail: /1000 bytes/ })
  }
  await eventually('all is given back', () => heldOf(shares) === 0)
})

t.test('100 Continue is sent once, when the body is wanted, and in its turn', async (t) => {
  const slow: (() => void)[] = []
  const backend = await rawUpstream(t, (request) => {
    if (request.target === '/slow') slow.push(() => respond(request, OK))
    else respond(request, OK)
  })
  for (const reader of [wants(1_000), wants(3, 'skip')]) {
    const { port } = await start(t, reader, {}, backend)
    const client = await openRaw(port)
    client.write(post('Content-Length: 5\r\nExpect: 100-continue'))
    await client.until('100', () => client.received().includes('100 Continue'))
    client.write('hello')
    await client.until('the answer', () => client.responses().length === 1)
    client.write(post('Transfer-Encoding: chunked\r\nExpect: 100-continue'))
    await client.until('100', () => client.received().split('100 Continue').length === 3)
    client.write(`${chunk('hello')}0\r\n\r\n`)
    await client.until('the answer', () => client.responses().length === 2)
    t.equal(client.received().split('100 Continue').length, 3)
    // Behind another one, whose response is not there yet.
    client.write(`GET /slow HTTP/1.1\r\nHost: a\r\n\r\n${post('Content-Length: 5\r\nExpect: 100-continue')}`)
    await eventually('the first is under way', () => slow.length === 1)
    await new Promise(setImmediate)
    slow.pop()!()
    await client.until('100', () => client.received().split('100 Continue').length === 4)
    t.equal(client.responses().length, 3)
    client.write('hello')
    await client.until('the answer', () => client.responses().length === 4)
    // Without waiting for it.
    client.write(
      `GET /slow HTTP/1.1\r\nHost: a\r\n\r\n${post('Content-Length: 5\r\nExpect: 100-continue')}hello`,
    )
    await eventually('the first is under way', () => slow.length === 1)
    await new Promise((resolve) => setTimeout(resolve, 20))
    slow.pop()!()
    await client.until('the answers', () => client.responses().length === 6)
    t.same(
      client.responses().map(({ status, body }) => [status, body]),
      Array.from({ length: 6 }, () => [200, 'ok']),
    )
    client.socket.destroy()
  }
})

t.test('over HTTP/2 the same holds: pieces, windows, a reset', async (t) => {
  const { gateway, upstream, shares } = await start(t, wants(300_000))
  const client = await http2Client(t, gateway.origin)
  const long = 'x'.repeat(250_000)
  t.equal((await client.ask('/', {}, long)).status, 200)
  t.ok(upstream.requests[0]!.body === long)
  t.equal((await client.ask('/', { 'content-length': '5' }, 'hello')).status, 200)
  t.equal(upstream.requests[1]!.body, 'hello')
  t.equal((await client.ask('/', {}, 'y'.repeat(300_001))).status, 413)
  const stream = client.begin('/', { ':method': 'POST' })
  stream.write('hello')
  await eventually('it is read', () => heldOf(shares) > 0)
  stream.close(8)
  await eventually('all is given back', () => heldOf(shares) === 0)
  t.equal((await client.ask('/', {}, 'again')).status, 200, 'the connection goes on')

  const skipping = await start(t, wants(100_000, 'skip'))
  const other = await http2Client(t, skipping.gateway.origin)
  const all = await Promise.all(Array.from({ length: 8 }, () => other.ask('/', {}, long)))
  t.same(new Set(all.map(({ status }) => status)), new Set([200]))
  t.ok(skipping.upstream.requests.every(({ body }) => body === long))
  await eventually('all is given back', () => heldOf(skipping.shares) === 0)
})

t.test('an upstream over HTTP/2 gets the body, too, and its share is given back at the end', async (t) => {
  const upstream = await http2Upstream(t)
  const shares = createShares()
  const text = `
tiers: [free]
${EXTENSIONS}
services: { api: { upstreams: ['${upstream.origin}'], protocol: http2 } }
routes: [{ path: /*, service: api, use: [reader] }]
`
  for (const reader of [wants(1_000), wants(3, 'skip')]) {
    const gateway = await startWith(t, text, reader, shares)
    const { responses } = await rawExchange(
      gateway.port,
      `${post('Transfer-Encoding: chunked')}${chunk('hel')}${chunk('lo')}0\r\n\r\n`,
    )
    t.equal(responses[0]!.status, 200)
    await eventually('all is given back', () => heldOf(shares) === 0)
  }
  t.same(
    upstream.received.map(({ body }) => body.toString()),
    ['hello', 'hello'],
  )
})

t.test('a signed body is verified before a hook sees it', async (t) => {
  const more = `
consumers:
  - signature: { keys: [{ id: k1, secret: a-secret-of-the-partner, consumer: acme }], components: ["@method"] }`
  for (const reader of [wants(1_000), wants(3, 'skip')]) {
    const { port, upstream } = await start(t, reader, { more })
    const ask = (signedBody: string, sent: string, framing: string) => {
      const digest = `sha-256=:${createHash('sha256').update(signedBody).digest('base64')}:`
      const lines = [
        ['@method', 'POST'],
        ['content-digest', digest],
      ] as const
      const fields = [
        'Content-Digest',
        digest,
        ...signed(lines, { secret: 'a-secret-of-the-partner', keyid: 'k1' }),
      ]
      let head = framing
      for (let i = 0; i < fields.length; i += 2) head += `\r\n${fields[i]}: ${fields[i + 1]}`
      return rawExchange(port, `${post(head)}${sent}`)
    }
    for (const [framing, wire] of [
      ['Content-Length: 5', (text: string) => text],
      [
        'Transfer-Encoding: chunked',
        (text: string) => `${chunk(text.slice(0, 2))}${chunk(text.slice(2))}0\r\n\r\n`,
      ],
    ] as const) {
      t.equal((await ask('hello', wire('hello'), framing)).responses[0]!.status, 200)
      t.equal(upstream.requests.at(-1)!.body, 'hello')
      const forged = await ask('hello', wire('hellO'), framing)
      t.equal(problemOf(forged.responses[0]!).code, 'digest_mismatch')
    }
    t.equal(upstream.requests.filter(({ complete }) => complete).length, 2)
  }
})

t.test('a body that was read is sent again, whatever its length, and copied for a mirror', async (t) => {
  let broken = 0
  const backend = await rawUpstream(t, (request, number) => {
    if (number % 2 === 1) respond(request, OK)
    else {
      broken++
      request.socket.destroy()
    }
  })
  const copies = await rawUpstream(t)
  const shares = createShares()
  const text = `
tiers: [free]
services:
  api: { upstreams: ['${backend.origin}'], retries: { attempts: 1 } }
  copy: { upstreams: ['${copies.origin}'] }
routes: [{ path: /*, service: api, use: [reader], mirror: { service: copy } }]
${EXTENSIONS}
`
  const gateway = await startWith(t, text, wants(200_000), shares)
  const put = (length: number) =>
    `PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: ${length}\r\n\r\n${'x'.repeat(length)}`
  for (const length of [5, 150_000]) {
    const { responses } = await rawExchange(gateway.port, put(length))
    t.equal(responses[0]!.status, 200)
    t.ok(backend.requests.at(-1)!.body === 'x'.repeat(length))
  }
  t.equal(broken, 2)
  await eventually('one copy, the other is too long', () => gateway.mirrored.length === 2)
  t.same(gateway.mirrored.map(([, result]) => result).sort(), ['answered', 'too_large'])
  t.equal(copies.requests[0]!.body, 'xxxxx')
  await eventually('all is given back', () => heldOf(shares) === 0)
  // A longer one is read along.
  const skipping = await startWith(t, text, wants(5, 'skip'), shares)
  const { responses } = await rawExchange(
    skipping.port,
    `${post('Transfer-Encoding: chunked')}${chunk('hello')}${chunk('world')}0\r\n\r\n`,
  )
  t.equal(responses.length, 1)
  await eventually('a copy', () => copies.requests.length === 2)
  t.equal(copies.requests[1]!.body, 'helloworld')
})

t.test('a caller whose share is taken is refused, and the others are not', async (t) => {
  const { port, shares } = await start(t, wants(60_000), {
    server: '',
    more: 'consumers: [{ header: { name: x-consumer, from: anyone } }]',
  })
  const hoarders = await Promise.all(Array.from({ length: 80 }, () => openRaw(port)))
  const head = post('X-Consumer: greedy\r\nContent-Length: 60000')
  for (const client of hoarders) client.write(`${head}${'x'.repeat(59_999)}`)
  await eventually('some are refused', () => hoarders.some((client) => client.responses().length > 0))
  const refused = hoarders.find((client) => client.responses().length > 0)!
  t.equal(problemOf(refused.responses()[0]!).code, 'share_exceeded')
  t.ok(heldOf(shares) <= 4_194_304, 'a quarter at most')
  const other = await rawExchange(
    port,
    `${post('X-Consumer: modest\r\nContent-Length: 60000')}${'x'.repeat(60_000)}`,
  )
  t.equal(other.responses[0]!.status, 200)
  for (const client of hoarders) client.socket.destroy()
  await eventually('all is given back', () => heldOf(shares) === 0)
})

t.test('a JSON hook with deny refuses what is no JSON, before anything is taken', async (t) => {
  const { port, upstream } = await start(t, wants(1_000, 'deny', 'json'))
  const ask = (body: string, field = 'X-A: b') =>
    rawExchange(port, `${post(`${field}\r\nContent-Length: ${body.length}`)}${body}`)
  t.equal((await ask('{"a":1}')).responses[0]!.status, 200)
  t.match(problemOf((await ask('{"a":')).responses[0]!), {
    status: 400,
    detail: 'The body is not valid JSON.',
  })
  const compressed = await ask('{"a":1}', 'Content-Encoding: gzip')
  t.match(problemOf(compressed.responses[0]!), { status: 400, detail: /Content-Encoding/ })
  t.equal(upstream.requests.length, 1)
})

t.test('hooks of the service that a split chooses get the body', async (t) => {
  const backend = await rawUpstream(t)
  const text = `
tiers: [free]
${EXTENSIONS}
services: { one: { upstreams: ['${backend.origin}'], use: [reader] }, two: { upstreams: ['${backend.origin}'] } }
routes: [{ path: /*, split: [{ service: one, weight: 1 }, { service: two, weight: 0 }] }]
`
  const gateway = await startWith(t, text, wants(5))
  t.equal((await rawExchange(gateway.port, `${post('Content-Length: 5')}hello`)).responses[0]!.status, 200)
  t.equal((await rawExchange(gateway.port, `${post('Content-Length: 6')}hello!`)).responses[0]!.status, 413)
  t.equal(backend.requests.length, 1)
})

t.test('a body at a shutdown is read to its end', async (t) => {
  const { port, gateway } = await start(t, wants(1_000))
  const client = await openRaw(port)
  client.write(`${post('Content-Length: 10')}hello`)
  await eventually('it is read', () => gateway.watchdog.size() === 1)
  gateway.drain(true)
  const closing = gateway.app.close()
  client.write('world')
  await client.until('the answer', () => client.responses().length === 1)
  t.equal(client.responses()[0]!.status, 200)
  if (!client.isClosed()) await once(client.socket, 'close')
  await closing
})

t.test(
  'hooks get the body that came, and one that replaces it has it sent with its own framing',
  async (t) => {
    const seen: unknown[] = []
    const body = { max: 1_000, as: 'json' } as const
    const keep = (_: unknown, value: unknown) => void seen.push(value)
    const extensions = instances({
      reader: {
        onRequest: { run: keep, body },
        cost: { run: (_: unknown, value: unknown) => seen.push(value), body },
        onUpstreamRequest: {
          run: (_: unknown, value?: { mask?: boolean; bytes?: boolean }) => {
            keep(_, value)
            if (value?.mask === true)
              return { body: '{"masked":"€"}', headers: { 'Content-Type': 'text/plain' } }
            if (value?.bytes === true) return { body: new Uint8Array([0, 255]) }
            return value === undefined ? { body: 'made' } : undefined
          },
          body,
        },
      },
    })
    const limited = ', limits: { free: 100/min }'
    const { upstream, shares, gateway } = await start(
      t,
      { extensions, onError: 'deny' },
      { service: limited },
    )
    const ask = (text: string) =>
      rawExchange(
        gateway.port,
        `${post(`Content-Type: application/json\r\nContent-MD5: x\r\nDigest: y\r\nContent-Length: ${text.length}`)}${text}`,
      )
    t.equal((await ask('{"a":1}')).responses[0]!.status, 200)
    t.same(seen, [{ a: 1 }, { a: 1 }, { a: 1 }])
    t.equal(upstream.requests[0]!.body, '{"a":1}')
    t.same(upstream.requests[0]!.values('content-md5'), ['x'])
    await ask('{"mask":true}')
    t.equal(Buffer.from(upstream.requests[1]!.body, 'latin1').toString(), '{"masked":"€"}')
    t.same(upstream.requests[1]!.values('content-length'), ['16'])
    for (const name of ['content-md5', 'digest']) t.same(upstream.requests[1]!.values(name), [], name)
    t.same(upstream.requests[1]!.values('content-type'), ['text/plain'])
    await ask('{"bytes":true}')
    t.equal(upstream.requests[2]!.body, '\0\xff')
    await rawExchange(gateway.port, 'PUT / HTTP/1.1\r\nHost: a\r\n\r\n')
    t.equal(upstream.requests[3]!.body, 'made')
    const client = await http2Client(t, gateway.origin)
    t.equal((await client.ask('/', {}, '{"mask":true}')).status, 200)
    t.equal(Buffer.from(upstream.requests[4]!.body, 'latin1').toString(), '{"masked":"€"}')
    await eventually('all is given back', () => heldOf(shares) === 0)
  },
)

t.test('a hook that replaces a body that it did not want has failed', async (t) => {
  for (const body of ['text', 7, { length: 1 }]) {
    const extensions = instances({ reader: { onUpstreamRequest: () => ({ body }) } })
    const { port, upstream } = await start(t, { extensions, onError: 'deny' })
    const { responses } = await rawExchange(port, `${post('Content-Length: 5')}hello`)
    t.equal(problemOf(responses[0]!).code, 'extension_failed')
    t.equal(upstream.requests.length, 0)
  }
})

t.test('a hook that denies once it has the body leaves the connection usable', async (t) => {
  const extensions = instances({
    reader: {
      onRequest: {
        run: async (_: unknown, text: string) => (text === 'evil!' ? respondWith(403, 'no') : undefined),
        body: { max: 1_000, as: 'text' },
      },
    },
  })
  const { port, upstream, shares } = await start(t, { extensions, onError: 'deny' })
  const client = await openRaw(port)
  client.write(
    `${post('Content-Length: 5')}evil!${post('Transfer-Encoding: chunked')}${chunk('evil!')}0\r\n\r\n`,
  )
  client.write(`${post('Content-Length: 5')}hello`)
  await client.until('three answers', () => client.responses().length === 3)
  t.same(
    client.responses().map(({ status }) => status),
    [403, 403, 200],
  )
  t.equal(upstream.requests.length, 1)
  client.socket.destroy()
  await eventually('all is given back', () => heldOf(shares) === 0)
})

t.test('a hook with skip is left out when it cannot have the body', async (t) => {
  let calls = 0
  const run = () => {
    calls++
  }
  const extensions = instances({ reader: { onRequest: { run, body: { max: 5, as: 'json' } } } })
  const { port } = await start(t, { extensions, onError: 'skip' })
  for (const text of ['123456', '{', '1'])
    t.equal(
      (await rawExchange(port, `${post(`Content-Length: ${text.length}`)}${text}`)).responses[0]!.status,
      200,
    )
  t.equal(calls, 1)
})
