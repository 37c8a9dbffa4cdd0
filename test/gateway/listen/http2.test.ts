// Tests src/gateway/listen/http2/request-head.ts
import { once } from 'node:events'
import { constants } from 'node:http2'
import { connect } from 'node:net'
import t, { type Test } from 'tap'
import { eventually } from '../../support/eventually.js'
import { startGateway } from '../../support/gateway/gateway.js'
import { answerOn, http2Client } from '../../support/http/http2-client.js'
import { FLAG, frame, headerBlock, PREFACE, rawHttp2, TYPE, uint32 } from '../../support/http/http2-frames.js'
import { http2Upstream } from '../../support/http/http2-upstream.js'
import { proxyV1 } from '../../support/http/proxy-header.js'
import { rawExchange } from '../../support/http/raw.js'
import { recordingUpstream } from '../../support/http/upstream.js'

function config(
  origin: string,
  { route = '', service = '', server = 'http2: true', limit = 'unlimited' } = {},
): string {
  return `
tiers: [free]
consumers:
  - api_key: { keys: [{ key: k, consumer: acme }] }
  - ip: {}
services:
  api: { upstreams: ["${origin}"], limits: { free: ${limit} }${service} }
routes: [{ path: /*, service: api${route} }]
server: { ${server} }
`
}

async function site(
  t: Test,
  options: Parameters<typeof config>[1] = {},
  handler?: Parameters<typeof recordingUpstream>[1],
) {
  const upstream = await recordingUpstream(t, handler)
  const gateway = await startGateway(t, config(upstream.origin, options))
  return { upstream, gateway, client: await http2Client(t, gateway.origin) }
}

t.test('an HTTP/2 request passes the same stages as any other', async (t) => {
  const { upstream, gateway, client } = await site(t, { limit: '2/min' }, (req, res) => {
    req.on('end', () => {
      res.writeHead(201, [
        'X-Twice',
        '1',
        'X-Twice',
        '2',
        'Connection',
        'x-hop',
        'X-Hop',
        '1',
        'Content-Length',
        '2',
      ])
      res.end('ok')
    })
  })
  const first = await client.ask(
    '/a%20b?c=d',
    {
      'x-api-key': 'k',
      cookie: ['a=1', 'b=2'],
      te: 'trailers',
      'x-bytes': '\xe9',
      'x-forwarded-for': '9.9.9.9',
    },
    'hello',
  )
  t.match(first, { status: 201, body: 'ok', code: 0 })
  t.match(first.headers, {
    'x-twice': '1, 2',
    'content-length': '2',
    via: '1.1 tidegate',
    'ratelimit-policy': '"minute";q=2;w=60',
    ratelimit: /^"minute";r=1;/,
  })
  t.same([first.headers.connection, first.headers['x-hop']], [undefined, undefined])
  const [received] = upstream.received
  t.match(received, { method: 'POST', url: '/a%20b?c=d', body: 'hello', complete: true })
  t.same(received!.values('host'), [upstream.authority])
  t.same(received!.values('x-forwarded-host'), ['api.example'])
  t.same(received!.values('x-forwarded-for'), ['127.0.0.1'])
  t.same(received!.values('cookie'), ['a=1; b=2'])
  t.same(received!.values('via'), ['2.0 tidegate'])
  t.same(received!.values('x-bytes'), ['\xe9'])
  t.same(received!.values('te'), [])
  t.same(received!.values('transfer-encoding'), ['chunked'])
  t.match(gateway.records[0], {
    status: 201,
    consumer: 'acme',
    method: 'POST',
    target: '/a%20b?c=d',
    host: 'api.example',
    bytesIn: 5,
    bytesOut: 2,
  })

  await client.ask('/', { 'x-api-key': 'k' })
  const denied = await client.ask('/', { 'x-api-key': 'k' })
  t.match(denied, {
    status: 429,
    headers: { 'content-type': 'application/problem+json', 'retry-after': /^\d+$/ },
  })
  t.match(JSON.parse(denied.body), { code: 'quota_exceeded', 'violated-policies': ['minute'] })
  t.equal((await client.ask('/', { 'x-api-key': 'wrong' })).status, 401)
  t.equal(client.isClosed(), false, 'a refusal ends its stream alone')
  await gateway.recorded(4)
  t.match(gateway.records.slice(2), [{ status: 429 }, { status: 401 }])
})

t.test('HTTP/1.1 works on the same port, however its bytes arrive', async (t) => {
  const { gateway, upstream } = await site(t)
  const { responses } = await rawExchange(
    gateway.port,
    'GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello',
    { responses: 2 },
  )
  t.match(responses, [{ status: 200 }, { status: 200 }])
  const slow = connect(gateway.port, '127.0.0.1')
  await once(slow, 'connect')
  let text = ''
  slow.on('data', (chunk) => {
    text += chunk
  })
  // The preface begins with the same two letters.
  for (const byte of 'PROPFIND /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n') {
    slow.write(byte)
    await new Promise((resolve) => setImmediate(resolve))
  }
  await once(slow, 'close')
  t.match(text, /^HTTP\/1.1 200 OK/)
  t.same(
    upstream.received.map(({ method, url, body }) => [method, url, body]),
    [
      ['GET', '/1', ''],
      ['POST', '/2', 'hello'],
      ['PROPFIND', '/3', ''],
    ],
  )
})

t.test('HTTP/2 works behind a PROXY header, whether or not both arrive together', async (t) => {
  const upstream = await recordingUpstream(t)
  const gateway = await startGateway(
    t,
    `trusted_proxies: [127.0.0.1]\n${config(upstream.origin, { server: 'http2: true, proxy_protocol: true' })}`,
  )
  const fields = [
    [':method', 'GET'],
    [':scheme', 'http'],
    [':path', '/proxied'],
    [':authority', 'a'],
  ] as const
  const bytes = Buffer.concat([
    proxyV1('198.51.100.7', 4711),
    Buffer.from(PREFACE),
    frame(TYPE.settings, 0, 0),
    frame(TYPE.headers, FLAG.endHeaders | FLAG.endStream, 1, headerBlock(fields)),
  ])
  for (const size of [bytes.length, 7]) {
    const before = upstream.received.length
    const socket = connect(gateway.port, '127.0.0.1')
    t.teardown(() => socket.destroy())
    for (let at = 0; at < bytes.length; at += size) {
      socket.write(bytes.subarray(at, at + size))
      await new Promise((resolve) => setImmediate(resolve))
    }
    await eventually('it has come', () => upstream.received.length > before)
    t.same(upstream.received.at(-1)?.values('x-forwarded-for'), ['198.51.100.7'])
    await once(socket, 'data')
  }
})

t.test('each stream of a connection is answered when its upstream answers', async (t) => {
  const held: (() => void)[] = []
  const { client } = await site(t, {}, (req, res) => void held.push(() => res.end(req.url)))
  const answers = Array.from({ length: 30 }, (_, i) => client.ask(`/${i}`))
  await eventually('all have come', () => held.length === 30)
  for (const answer of held.reverse()) answer()
  t.same(
    (await Promise.all(answers)).map(({ body }) => body),
    Array.from({ length: 30 }, (_, i) => `/${i}`),
  )
})

t.test('HEAD, 204 and 304 have no body, and 1xx come first', { timeout: 60_000 }, async (t) => {
  const { client } = await site(t, {}, (req, res) => {
    if (req.url === '/hints') res.writeEarlyHints({ link: '</a.css>; rel=preload' })
    if (req.url === '/head') res.setHeader('content-length', 7)
    req.resume()
    res.writeHead(Number(req.headers['x-status'] ?? 200)).end(req.method === 'HEAD' ? undefined : '')
  })
  const head = await client.ask('/head', { ':method': 'HEAD' })
  t.match(head, { status: 200, body: '', headers: { 'content-length': '7' }, headerOnly: true })
  t.match(await client.ask('/', { 'x-status': '204' }), { status: 204, headerOnly: true, code: 0 })
  t.match(await client.ask('/', { 'x-status': '304' }), { status: 304, headerOnly: true, code: 0 })
  const hinted = client.begin('/hints')
  hinted.end()
  const answer = answerOn(hinted)
  const [hints] = await once(hinted, 'headers')
  t.match(hints, { ':status': 103, link: '</a.css>; rel=preload' })
  t.match(await answer, { status: 200 })
  const expecting = client.begin('/', { ':method': 'POST', expect: '100-continue', 'content-length': '5' })
  const continued = answerOn(expecting)
  await once(expecting, 'continue')
  expecting.end('hello')
  t.match(await continued, { status: 200 })
})

t.test('a response before the end of an upload ends the upload', async (t) => {
  const { client, gateway } = await site(t, { route: ', body_limit: 10' })
  const announced = client.begin('/', { ':method': 'POST', 'content-length': '20' })
  t.match(await answerOn(announced), { status: 413, code: 0 })
  const streamed = client.begin('/', { ':method': 'POST' })
  const answer = answerOn(streamed)
  streamed.write('12345678901')
  t.match(await answer, { status: 413, code: 0 })
  t.match(await client.ask('/'), { status: 200 }, 'and nothing else')
  await gateway.recorded(3)
})

t.test('a client that leaves aborts only its own upstream request', async (t) => {
  const closed: string[] = []
  let answerStays = () => {}
  const { client, gateway, upstream } = await site(t, {}, (req, res) => {
    res.on('close', () => closed.push(req.url!))
    if (req.url === '/stays') answerStays = () => void res.end('ok')
  })
  const stays = client.ask('/stays')
  const leaves = client.begin('/leaves')
  leaves.end()
  await eventually('both have come', () => upstream.received.length === 2)
  leaves.close(constants.NGHTTP2_CANCEL)
  await eventually('the upstream sees it', () => closed.includes('/leaves'))
  await gateway.recorded(1)
  answerStays()
  t.match(await stays, { status: 200, body: 'ok' })
  await gateway.recorded(2)
  t.match(gateway.records[0], { status: 499, error: 'client_closed', target: '/leaves' })
})

t.test('a response that the client got completely is no failure in the log', async (t) => {
  const { client, gateway } = await site(t, {}, (req, res) => {
    if (req.url === '/pieces') {
      res.write('first')
      setTimeout(() => res.end('last'), 10)
    } else req.on('end', () => res.end(req.url === '/big' ? BIG : 'ok'))
    req.resume()
  })
  t.match(await client.ask('/short'), { status: 200, body: 'ok' })
  t.match(await client.ask('/pieces'), { status: 200, body: 'firstlast' })
  t.match(await client.ask('/upload', { ':method': 'POST' }, 'body'), { status: 200, body: 'ok' })
  t.match(await client.ask('/head', { ':method': 'HEAD' }), { status: 200, body: '' })
  t.equal((await client.ask('/big')).body.length, BIG.length)
  await gateway.recorded(5)
  for (const { target, error } of gateway.records) t.equal(error, undefined, target)
})

t.test('a body that the upstream cuts is reset, never ended cleanly', async (t) => {
  const { client, gateway } = await site(t, {}, (_, res) => {
    res.write('half')
    setTimeout(() => res.destroy(), 20)
  })
  t.match(await client.ask('/'), { status: 200, body: 'half', code: constants.NGHTTP2_INTERNAL_ERROR })
  await gateway.recorded(1)
  t.match(gateway.records[0], { status: 200, error: 'upstream_cut' })
})

t.test('streams that upstreams break off do not count against the connection', async (t) => {
  const { client, gateway } = await site(
    t,
    { server: 'http2: { reset_burst: 5, reset_rate: 1 }' },
    (req, res) => {
      if (req.url === '/well') res.end('ok')
      else {
        res.write('half')
        setTimeout(() => res.destroy(), 20)
      }
    },
  )
  const answers = await Promise.all(Array.from({ length: 20 }, () => client.ask('/')))
  t.ok(answers.every(({ code }) => code === constants.NGHTTP2_INTERNAL_ERROR))
  t.match(await client.ask('/well'), { status: 200, body: 'ok' })
  await gateway.recorded(21)
})

function request(method: string, path: string): [name: string, value: string][] {
  return [
    [':method', method],
    [':scheme', 'http'],
    [':path', path],
    [':authority', 'api.example'],
  ]
}

t.test('an upload that is reset, even without an error, is never complete for the upstream', async (t) => {
  const { client, gateway, upstream } = await site(t, { server: 'http2: true, min_rate: 0' })
  const raw = await rawHttp2(t, gateway.port)
  for (const [i, code] of [constants.NGHTTP2_NO_ERROR, constants.NGHTTP2_CANCEL].entries()) {
    const id = 1 + 2 * i
    raw.send(
      frame(TYPE.headers, FLAG.endHeaders, id, headerBlock(request('POST', `/${code}`))),
      frame(TYPE.data, 0, id, 'half'),
    )
    await eventually('half of it is there', () => upstream.received[i]?.body === 'half')
    raw.send(frame(TYPE.reset, 0, id, uint32(code)))
  }
  await gateway.recorded(2)
  t.match(await client.ask('/after'), { status: 200 })
  t.same(
    upstream.received.map(({ url, complete }) => [url, complete]),
    [
      ['/0', false],
      ['/8', false],
      ['/after', true],
    ],
  )
})

t.test('a client that ends its side of the connection has left', async (t) => {
  const closed: string[] = []
  const { gateway, upstream } = await site(
    t,
    {},
    (req, res) => void res.on('close', () => closed.push(req.url!)),
  )
  const client = await rawHttp2(t, gateway.port)
  const block = headerBlock(request('GET', '/waits'))
  client.send(frame(TYPE.headers, FLAG.endHeaders | FLAG.endStream, 1, block))
  await eventually('it has come', () => upstream.received.length === 1)
  client.socket.end()
  await gateway.recorded(1)
  t.match(gateway.records[0], { status: 499, error: 'client_closed' })
  await eventually('the upstream sees it', () => closed.length === 1)
  await eventually('the connection is closed', () => client.isClosed())
})

const BIG = Buffer.alloc(3 << 20, 'abcdefgh')

t.test('megabytes pass both ways; a stream that nobody reads slows its own upstream only', async (t) => {
  let waiting = 0
  const { client, upstream } = await site(t, {}, (req, res, received) => {
    if (req.url === '/slow') {
      const more = (): void => {
        while (res.write(BIG)) {}
        waiting++
        res.once('drain', more)
      }
      more()
    } else if (req.method === 'GET') res.end(BIG)
    else req.on('end', () => res.end(String(received.body.length)))
  })
  const slow = client.begin('/slow')
  slow.end()
  await once(slow, 'response')
  await eventually('it is held back', () => waiting > 0)
  t.equal((await client.ask('/down')).body.length, BIG.length)
  t.match(await client.ask('/up', {}, BIG), { body: String(BIG.length) })
  const written = waiting
  t.ok(written < 40, `${written} times 3 MiB`)
  slow.close(constants.NGHTTP2_CANCEL)
  t.equal(upstream.received.length, 3)
})

t.test('a client that opens no window is cut in time, and its upstream request with it', async (t) => {
  const closed: string[] = []
  const upstream = await recordingUpstream(t, (req, res) => {
    res.on('close', () => closed.push(req.url!))
    res.end(BIG)
  })
  const gateway = await startGateway(t, config(upstream.origin, { route: ', timeouts: { idle: 300ms }' }))
  const client = await http2Client(t, gateway.origin, { settings: { initialWindowSize: 0 } })
  const answers = await Promise.all([client.ask('/1'), client.ask('/2')])
  t.match(answers, [
    { status: 200, body: '', code: constants.NGHTTP2_INTERNAL_ERROR },
    { status: 200, body: '', code: constants.NGHTTP2_INTERNAL_ERROR },
  ])
  await gateway.recorded(2)
  t.match(gateway.records, [
    { status: 200, error: 'client_closed' },
    { status: 200, error: 'client_closed' },
  ])
  await eventually('the upstream is let go', () => closed.length === 2)
})

t.test('a drain finishes every stream that its GOAWAY names, and no later one', async (t) => {
  // Sends frames, as Node's client refuses by itself what it has not sent when a GOAWAY comes, and does not tell that apart.
  const upstream = await recordingUpstream(t, (_, res) => void setTimeout(() => res.end('ok'), 5))
  const gateway = await startGateway(t, config(upstream.origin))
  const client = await rawHttp2(t, gateway.port)
  const fields = headerBlock([
    [':method', 'GET'],
    [':scheme', 'http'],
    [':path', '/'],
    [':authority', 'api.example'],
  ])
  const answered = new Set<number>()
  let next = 1
  const ask = () => {
    client.send(frame(TYPE.headers, FLAG.endHeaders | FLAG.endStream, next, fields))
    next += 2
  }
  client.onFrame((one) => {
    if (one.type === TYPE.ping && one.flags === 0) client.send(frame(TYPE.ping, FLAG.ack, 0, one.payload))
    if (one.type !== TYPE.data || (one.flags & FLAG.endStream) === 0) return
    answered.add(one.stream)
    if (client.goaway() === undefined) ask()
  })
  for (let i = 0; i < 20; i++) ask()
  await eventually('some went through', () => answered.size > 200)
  gateway.drain(true)
  await eventually('the connection is gone', () => client.isClosed())
  t.equal(client.goaway(), constants.NGHTTP2_NO_ERROR)
  const goaways = client.frames.filter(({ type }) => type === TYPE.goaway)
  const last = goaways[0]!.payload.readUInt32BE(0)
  t.ok(
    goaways.every(({ payload }) => payload.readUInt32BE(0) === last),
    'every GOAWAY names the same last stream',
  )
  t.ok(last >= 401 && last < next, `the last stream is ${last}`)
  const taken = Array.from({ length: (last + 1) / 2 }, (_, i) => 2 * i + 1)
  t.same(
    taken.filter((stream) => !answered.has(stream)),
    [],
    'each up to that was answered',
  )
  t.equal(upstream.received.length, taken.length, 'and no other was forwarded: a client may send them again')
  t.equal(client.frames.filter(({ type }) => type === TYPE.reset).length, 0)
})

t.test('trailers pass when both sides speak HTTP/2', async (t) => {
  const upstream = await http2Upstream(t, ({ stream, headers }) => {
    const path = headers[':path']
    if (path === '/only') {
      stream.respond(
        { ':status': 200, 'grpc-status': '5', 'content-type': 'application/grpc' },
        { endStream: true },
      )
      return
    }
    stream.respond({ ':status': 200 }, { waitForTrailers: true })
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0', 'x-twice': ['1', '2'] }))
    if (path === '/late') {
      stream.write('one')
      setTimeout(() => stream.end('two'), 30)
    } else stream.end('body')
  })
  const gateway = await startGateway(t, config(upstream.origin, { service: ', protocol: http2' }))
  const client = await http2Client(t, gateway.origin)
  for (const [path, body] of [
    ['/now', 'body'],
    ['/late', 'onetwo'],
  ] as const) {
    const answer = await client.ask(path)
    t.match(answer, { status: 200, body, trailers: { 'grpc-status': '0', 'x-twice': '1, 2' }, code: 0 })
  }
  t.match(await client.ask('/only'), { status: 200, headerOnly: true, headers: { 'grpc-status': '5' } })
  t.equal(await (await fetch(`${gateway.origin}/late`)).text(), 'onetwo', 'a client of HTTP/1.1 goes without')
})

t.test('without http2 in the configuration the preface is refused', async (t) => {
  const { gateway } = await (async () => {
    const upstream = await recordingUpstream(t)
    return { gateway: await startGateway(t, config(upstream.origin, { server: 'http2: false' })) }
  })()
  const { responses } = await rawExchange(gateway.port, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
  t.match(responses, [{ status: 505 }])
})
