import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { ExtensionResponse } from '../../../src/extension/define.js'
import { createShares, type Shares } from '../../../src/shares.js'
import { eventually } from '../../support/eventually.js'
import { startGateway } from '../../support/gateway/gateway.js'
import { instances } from '../../support/gateway/hooks.js'
import { problemOf } from '../../support/gateway/site.js'
import { http2Client } from '../../support/http/http2-client.js'
import { http2Upstream } from '../../support/http/http2-upstream.js'
import { openRaw, rawExchange } from '../../support/http/raw.js'
import { rawUpstream, respond } from '../../support/http/raw-upstream.js'

/** `onResponse` of extensions: the header, the status, and the body of an upstream's response. */

type Hook = NonNullable<Parameters<typeof instances>[0][string]['onResponse']>

const GET = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
const heldOf = (shares: Shares) => [...shares.all()].reduce((sum, { held }) => sum + held, 0)
const text = { max: 1_000, as: 'text' } as const

interface Settings {
  readonly onError?: 'deny' | 'skip'
  readonly route?: string
  readonly service?: string
  readonly timeout?: string
}

async function start(t: Test, onResponse: Hook, origin: string, settings: Settings = {}) {
  const { onError = 'deny', route = '', service = '', timeout = '60s' } = settings
  const yaml = `
tiers: [free]
extensions: [{ name: own, module: ./own.js, on_error: ${onError}, timeout: ${timeout} }]
services: { api: { upstreams: ['${origin}']${service} } }
routes: [{ path: /*, service: api, use: [own]${route} }]
server: { http2: { enabled: true } }
`
  const shares = createShares()
  const gateway = await startGateway(t, yaml, { shares, extensions: instances({ own: { onResponse } }) })
  t.teardown(() => {
    if (gateway.internalErrors() > 0) throw new Error(`thrown: ${JSON.stringify(gateway.logged)}`)
  })
  return {
    gateway,
    shares,
    ask: async (bytes = GET, head = false) =>
      (await rawExchange(gateway.port, bytes, { head })).responses[0]!,
  }
}

const answering = (t: Test, response: string) =>
  rawUpstream(t, (request) => {
    respond(request, response)
    if (response === UNFRAMED) request.socket.end()
  })

const OK =
  'HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nETag: "a"\r\nX-Secret: s\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\nhello'
const UNFRAMED = 'HTTP/1.1 200 OK\r\n\r\nhello'
const CHUNKED = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n'

t.test('a hook sees the response, and changes its header and status', async (t) => {
  const upstream = await answering(t, OK)
  for (const later of [false, true]) {
    const { ask, gateway } = await start(
      t,
      (request: { path: string }, response: ExtensionResponse) => {
        t.equal(request.path, '/')
        t.equal(response.status, 200)
        t.equal(response.header('X-SECRET'), 's')
        t.equal(response.header('set-cookie'), 'a, b')
        t.equal(response.header('none'), undefined)
        t.throws(() => Object.assign(response, { status: 1 }))
        const change = { status: 418, headers: { 'X-Secret': null, 'X-Two': ['1', '2'] } }
        return later ? sleep(5).then(() => change) : change
      },
      upstream.origin,
    )
    const response = await ask()
    t.match(response.head, /^HTTP\/1\.1 418 I'm a Teapot\r\n/i)
    t.equal(response.body, 'hello')
    t.equal(response.header('x-secret'), undefined)
    t.equal(response.header('x-two'), '1, 2')
    t.equal(response.header('etag'), '"a"')
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 418, error: undefined, bytesOut: 5 })
  }
})

t.test('a change of status is no news about the upstream', async (t) => {
  const upstream = await answering(t, OK)
  const { ask, gateway } = await start(t, () => ({ status: 503 }), upstream.origin, {
    service: ', outliers: { consecutive_failures: 2 }',
  })
  for (let i = 0; i < 5; i++) t.equal((await ask()).body, 'hello')
  t.ok(gateway.upstreams)
  t.equal(upstream.requests.length, 5, 'it is not ejected')
})

t.test('what a hook may not change is its failure', async (t) => {
  const upstream = await answering(t, OK)
  for (const change of [
    { status: 199 },
    { status: 600 },
    { status: 200.5 },
    { status: 'ok' },
    { status: 204 },
    { headers: { 'Content-Length': '1' } },
    { headers: { 'transfer-encoding': 'chunked' } },
    { headers: { Connection: 'close' } },
    { headers: { 'X-Request-Id': 'mine' } },
    { headers: { 'X-A': 'b\r\nX-Evil: c' } },
    { headers: { 'X A': 'b' } },
    { body: 'hello' },
    7,
    [],
  ]) {
    const denied = await start(t, () => change, upstream.origin)
    const refused = await denied.ask()
    t.equal(refused.status, 503, JSON.stringify(change))
    t.equal(problemOf(refused).code, 'extension_failed')
    await denied.gateway.recorded(1)
    const skipped = await start(t, () => change, upstream.origin, { onError: 'skip' })
    const passed = await skipped.ask()
    t.equal(passed.status, 200)
    t.equal(passed.body, 'hello')
    t.equal(passed.header('x-secret'), 's')
  }
})

t.test(
  'a hook that throws, rejects or never ends denies or is skipped, and the connection goes on',
  async (t) => {
    const upstream = await answering(t, CHUNKED)
    for (const run of [
      () => {
        throw new Error('no')
      },
      () => Promise.reject(new Error('no')),
      () => new Promise(() => {}),
    ])
      for (const body of [undefined, text]) {
        const denied = await start(t, { run, body }, upstream.origin, { timeout: '20ms' })
        const { responses } = await rawExchange(denied.gateway.port, GET + GET, { responses: 2 })
        t.same(
          responses.map(({ status }) => status),
          [503, 503],
        )
        const skipped = await start(t, { run, body }, upstream.origin, { timeout: '20ms', onError: 'skip' })
        t.equal((await skipped.ask()).body, 'hello')
        await eventually('all is given back', () => heldOf(skipped.shares) + heldOf(denied.shares) === 0)
      }
  },
)

t.test('a hook with `body` gets all of it, and may replace it', async (t) => {
  for (const response of [OK, CHUNKED, UNFRAMED]) {
    const upstream = await answering(t, response)
    const seen: string[] = []
    const run = async (_: unknown, __: unknown, body: string) => {
      seen.push(body)
      return { body: `${body} w€rld`, headers: { 'X-New': 'yes' } }
    }
    const { ask, gateway, shares } = await start(t, { run, body: text }, upstream.origin)
    const replaced = await ask()
    t.same(seen, ['hello'])
    t.equal(Buffer.from(replaced.body, 'latin1').toString(), 'hello w€rld')
    t.equal(replaced.header('content-length'), '13')
    t.equal(replaced.header('transfer-encoding'), undefined)
    t.equal(replaced.header('etag'), undefined, 'it is another one')
    t.equal(replaced.header('x-new'), 'yes')
    await gateway.recorded(1)
    t.equal(gateway.records[0]!.bytesOut, 13)
    t.equal(heldOf(shares), 0)
  }
})

t.test('one that reads and changes nothing leaves everything as it was', async (t) => {
  for (const [response, transfer] of [
    [OK, undefined],
    [CHUNKED, 'chunked'],
  ] as const) {
    const upstream = await answering(t, response)
    const { ask } = await start(t, { run() {}, body: text }, upstream.origin)
    const passed = await ask()
    t.equal(passed.body, 'hello')
    t.equal(passed.header('transfer-encoding'), transfer)
    if (transfer === undefined) t.equal(passed.header('etag'), '"a"')
  }
})

t.test('several hooks see what those before them made', async (t) => {
  const upstream = await answering(t, OK)
  const yaml = `
tiers: [free]
extensions:
  - { name: one, module: ./one.js }
  - { name: two, module: ./two.js }
services: { api: { upstreams: ['${upstream.origin}'], use: [one] } }
routes: [{ path: /*, service: api, use: [two] }]
`
  const extensions = instances({
    one: {
      onResponse: { run: () => ({ body: '{"a":1}', status: 201, headers: { 'x-a': '1' } }), body: text },
    },
    two: {
      onResponse: {
        run: (_: unknown, response: ExtensionResponse, body: { a: number }) => ({
          headers: { 'x-b': `${response.header('x-a')} ${response.status} ${body.a}` },
        }),
        body: { max: 7, as: 'json' },
      },
    },
  })
  const gateway = await startGateway(t, yaml, { extensions })
  const { responses } = await rawExchange(gateway.port, GET)
  t.equal(responses[0]!.header('x-b'), '1 201 1')
  t.equal(responses[0]!.body, '{"a":1}')
})

t.test('the upstream is asked for all of it and not to encode it', async (t) => {
  const upstream = await answering(t, OK)
  const asked =
    'GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nRange: bytes=0-1\r\nIf-Range: "a"\r\n\r\n'
  const reading = await start(t, { run() {}, body: text }, upstream.origin)
  await reading.ask(asked)
  t.same(upstream.requests[0]!.values('accept-encoding'), ['identity'])
  t.same(upstream.requests[0]!.values('range'), [])
  t.same(upstream.requests[0]!.values('if-range'), [])
  const looking = await start(t, () => undefined, upstream.origin)
  await looking.ask(asked)
  t.same(upstream.requests[1]!.values('accept-encoding'), ['gzip'])
  t.same(upstream.requests[1]!.values('range'), ['bytes=0-1'])
})

t.test('a body that hooks cannot have denies, or passes unchanged', async (t) => {
  const long = 'x'.repeat(100_000)
  for (const [what, response] of [
    ['long', `HTTP/1.1 200 OK\r\nContent-Length: ${long.length}\r\n\r\n${long}`],
    [
      'long in chunks',
      `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${'400\r\n'}${'x'.repeat(1024)}\r\n${'200\r\n'}${'y'.repeat(512)}\r\n0\r\n\r\n`,
    ],
    ['encoded', 'HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 5\r\n\r\nhello'],
    [
      'a part',
      'HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/9\r\nContent-Length: 5\r\n\r\nhello',
    ],
    ['no JSON', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello'],
  ] as const) {
    const upstream = await answering(t, response)
    const hook = {
      run: () => {
        t.fail('is not called')
      },
      body: { max: 1_000, as: 'json' },
    } as const
    const denied = await start(t, hook, upstream.origin)
    const refused = await denied.ask()
    t.equal(refused.status, 503, what)
    await denied.gateway.recorded(1)
    t.match(denied.gateway.records[0], {
      error: 'extension_failed',
      cause: /^the hook onResponse of the extension own/,
    })
    const skipped = await start(t, hook, upstream.origin, { onError: 'skip' })
    const passed = await skipped.ask()
    t.ok(passed.status === 200 || passed.status === 206, what)
    t.ok(
      passed.body ===
        (what === 'long' ? long : what === 'long in chunks' ? 'x'.repeat(1024) + 'y'.repeat(512) : 'hello'),
      what,
    )
    await eventually('all is given back', () => heldOf(skipped.shares) + heldOf(denied.shares) === 0)
  }
})

t.test('without a body a hook gets none: HEAD, 204, 304', async (t) => {
  const bodies: unknown[] = []
  const hook = {
    run: (_: unknown, __: unknown, body: unknown) => {
      bodies.push(body)
      return { body: 'new', headers: { 'X-New': 'yes' } }
    },
    body: text,
  }
  for (const [bytes, response] of [
    ['HEAD / HTTP/1.1\r\nHost: a\r\n\r\n', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: "a"\r\n\r\n'],
    [GET, 'HTTP/1.1 204 No Content\r\n\r\n'],
    [GET, 'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n'],
  ] as const) {
    const upstream = await answering(t, response)
    const { ask } = await start(t, hook, upstream.origin)
    const got = await ask(bytes, true)
    t.equal(got.header('x-new'), 'yes')
    t.equal(got.body, '')
    t.equal(got.header('content-length'), undefined)
  }
  t.same(bodies, [undefined, undefined, undefined])
})

t.test('the gateway compresses what a hook has made', async (t) => {
  const upstream = await answering(
    t,
    'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello',
  )
  const hook = { run: () => ({ body: 'x'.repeat(5_000) }), body: text }
  const { gateway } = await start(t, hook, upstream.origin, { route: ', compress: true' })
  const got = await fetch(gateway.origin, { headers: { 'accept-encoding': 'gzip' } })
  t.equal(got.headers.get('content-encoding'), 'gzip')
  t.equal(await got.text(), 'x'.repeat(5_000))
})

t.test('over HTTP/2 on both sides: trailers go on, without digests of what was replaced', async (t) => {
  const upstream = await http2Upstream(t, ({ stream }) => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
    stream.on('wantTrailers', () =>
      stream.sendTrailers({ 'grpc-status': '0', 'content-digest': 'sha-256=:AA==:' }),
    )
    stream.end('hello')
  })
  for (const body of [undefined, text]) {
    const run = () => (body === undefined ? { headers: { 'x-new': 'yes' } } : { body: 'HELLO' })
    const { gateway, shares } = await start(t, { run, body }, upstream.origin, {
      service: ', protocol: http2',
    })
    const client = await http2Client(t, gateway.origin)
    const got = await client.ask('/')
    t.equal(got.body, body === undefined ? 'hello' : 'HELLO')
    t.equal(got.trailers?.['grpc-status'], '0')
    t.equal(got.trailers?.['content-digest'], body === undefined ? 'sha-256=:AA==:' : undefined)
    await eventually('all is given back', () => heldOf(shares) === 0)
  }
})

t.test('a client that leaves, and a response that stops, leave nothing behind', async (t) => {
  const upstream = await rawUpstream(t, (request) => {
    request.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello')
  })
  const { gateway, shares, ask } = await start(t, { run() {}, body: text }, upstream.origin, {
    route: ', timeouts: { idle: 200ms }',
  })
  const client = await openRaw(gateway.port)
  client.write(GET)
  await eventually('it is kept', () => heldOf(shares) > 100)
  client.socket.destroy()
  await gateway.recorded(1)
  t.equal(gateway.records[0]!.error, 'client_closed')
  await eventually('all is given back', () => heldOf(shares) === 0)
  const late = await ask()
  t.equal(problemOf(late).code, 'upstream_timeout')
  await eventually('all is given back', () => heldOf(shares) === 0)
  const waiting = await start(t, () => new Promise(() => {}), upstream.origin)
  const other = await openRaw(waiting.gateway.port)
  other.write(GET)
  await eventually('the hook runs', () => upstream.requests.length === 3)
  other.socket.destroy()
  await waiting.gateway.recorded(1)
  t.equal(waiting.gateway.watchdog.size(), 0)
})

t.test('a long response goes on at the pace of its client once the hook has finished', async (t) => {
  const server = createServer((_, res) => {
    res.writeHead(200, { 'content-length': 8_000_000 })
    res.end(Buffer.alloc(8_000_000, 'x'))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  for (const body of [undefined, text]) {
    const run = () => sleep(20).then(() => ({ headers: { 'x-new': 'yes' } }))
    const { gateway, shares } = await start(t, { run, body }, origin, { onError: 'skip' })
    const got = await fetch(gateway.origin)
    t.equal((await got.arrayBuffer()).byteLength, 8_000_000)
    t.equal(got.headers.get('x-new'), body === undefined ? 'yes' : null)
    await eventually('all is given back', () => heldOf(shares) === 0)
  }
})
