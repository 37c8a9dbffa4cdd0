// Tests src/gateway/forward/{client-response,upstream-response}.ts
import { METHODS } from 'node:http'
import t from 'tap'
import { eventually } from '../../support/eventually.js'
import { startGateway } from '../../support/gateway/gateway.js'
import { openRaw, rawExchange } from '../../support/http/raw.js'
import { type RawRequest, rawUpstream, respond } from '../../support/http/raw-upstream.js'

function yamlFor(origin: string, { route = '', top = '' } = {}): string {
  return `
tiers: [free]
services: { api: { upstreams: ['${origin}'] } }
routes: [{ path: /*, service: api${route} }]
${top}`
}

const names = (request: RawRequest) => request.fields.map(([name]) => name.toLowerCase())

t.test('the request to the upstream', async (t) => {
  const upstream = await rawUpstream(t)
  const gateway = await startGateway(t, yamlFor(upstream.origin))
  const send = async (bytes: string, head = false) => {
    const { responses } = await rawExchange(gateway.port, bytes, { head })
    t.equal(responses[0]!.status, 200, responses[0]!.body)
    return upstream.requests.at(-1)!
  }

  t.test("keeps the client's end-to-end fields as they were", async (t) => {
    const got = await send(
      'GET /a/b?c=%20d&c=e HTTP/1.1\r\nHost: api.example.com\r\nX-One: 1\r\nx-two: caf\xe9\r\nCookie: a=b; c=d\r\nX-One: 2\r\nAccept:\r\n\r\n',
    )
    t.equal(got.method, 'GET')
    t.equal(got.target, '/a/b?c=%20d&c=e')
    t.strictSame(got.values('x-one'), ['1', '2'])
    t.strictSame(got.values('x-two'), ['caf\xe9'], 'bytes beyond ASCII are not re-encoded')
    t.strictSame(got.values('cookie'), ['a=b; c=d'])
    t.strictSame(got.values('accept'), [''])
    t.match(got.head, /^X-One: 1$/m, 'names keep their case')
    t.equal(got.body, '')
    t.notOk(names(got).includes('content-length'))
    t.notOk(names(got).includes('transfer-encoding'))
  })

  t.test("has the upstream's own Host, and X-Forwarded-* fields that tell what the client saw", async (t) => {
    const got = await send('GET / HTTP/1.1\r\nHost: api.example.com:81\r\n\r\n')
    t.strictSame(got.values('host'), [upstream.authority])
    t.strictSame(got.values('x-forwarded-host'), ['api.example.com:81'])
    t.strictSame(got.values('x-forwarded-proto'), ['http'])
    t.strictSame(got.values('x-forwarded-for'), ['127.0.0.1'])
    t.strictSame(got.values('via'), ['1.1 tidegate'])
  })

  t.test('loses the forwarding fields of an untrusted client', async (t) => {
    const got = await send(
      'GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 8.8.8.8\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 444\r\nForwarded: for=8.8.8.8\r\nX-Real-IP: 8.8.8.8\r\n\r\n',
    )
    t.strictSame(got.values('x-forwarded-for'), ['127.0.0.1'])
    t.strictSame(got.values('x-forwarded-host'), ['a'])
    t.strictSame(got.values('x-forwarded-proto'), ['http'])
    for (const name of ['x-forwarded-port', 'forwarded', 'x-real-ip']) t.strictSame(got.values(name), [])
  })

  t.test('keeps Via of earlier proxies, and adds the protocol it came by', async (t) => {
    const got = await send('GET / HTTP/1.0\r\nHost: a\r\nVia: 1.1 one\r\nVia: 1.1 two\r\n\r\n')
    t.strictSame(got.values('via'), ['1.1 one, 1.1 two, 1.0 tidegate'])
  })

  t.test('has no hop-by-hop field, nor one that Connection names', async (t) => {
    const got = await send(
      'GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop , x-case,\r\nX-Hop: 1\r\nX-CASE: 2\r\nx-hop: 3\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nTE: trailers\r\nTrailer: X-T\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nX-End: 4\r\n\r\n',
    )
    t.strictSame(got.values('x-end'), ['4'])
    for (const name of [
      'x-hop',
      'x-case',
      'keep-alive',
      'proxy-connection',
      'proxy-authorization',
      'te',
      'trailer',
      'upgrade',
      'http2-settings',
    ]) {
      t.strictSame(got.values(name), [], name)
    }
    t.strictSame(got.values('connection'), ['keep-alive'], 'its own, for its own connection')
  })

  t.test("has the request id: the client's, if valid", async (t) => {
    const theirs = await send('GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: abc.DEF-1_2\r\n\r\n')
    t.strictSame(theirs.values('x-request-id'), ['abc.DEF-1_2'])
    const made = await send('GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: a b"\r\n\r\n')
    t.match(made.values('x-request-id')[0], /^[0-9a-f]{12}-\w+$/)
  })

  t.test("frames its body by length, or in chunks of the gateway's own", async (t) => {
    const sized = await send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0003\r\n\r\nabc')
    t.strictSame(sized.values('content-length'), ['3'], 'the number, not the text')
    t.equal(sized.body, 'abc')
    const chunked = await send(
      'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3;ext="x"\r\nabc\r\n2\r\nde\r\n0\r\nX-T: dropped\r\n\r\n',
    )
    t.strictSame(chunked.values('transfer-encoding'), ['chunked'])
    t.strictSame(chunked.values('content-length'), [])
    t.equal(chunked.body, 'abcde')
    t.notMatch(chunked.head, /x-t/i)
  })

  t.test('has a body with any method that can have one', async (t) => {
    for (const method of METHODS) {
      if (method === 'CONNECT' || method === 'TRACE' || method === 'HEAD') continue
      const bytes = `${method} /m HTTP/1.1\r\nHost: a\r\n`
      const sized = await send(`${bytes}Content-Length: 5\r\n\r\nhello`)
      t.match(sized, { method, body: 'hello', complete: true })
      const chunked = await send(`${bytes}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`)
      t.match(chunked, { method, body: 'hello', complete: true })
    }
  })

  t.test('distinguishes no body from an empty one', async (t) => {
    const none = await send('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
    t.strictSame([none.values('content-length'), none.values('transfer-encoding')], [[], []])
    const empty = await send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n')
    t.strictSame(empty.values('content-length'), ['0'])
    const chunks = await send('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n')
    t.strictSame([chunks.values('content-length'), chunks.body], [['0'], ''])
  })

  t.test('is HTTP/1.1 whatever the client speaks', async (t) => {
    const got = await send('GET / HTTP/1.0\r\n\r\n')
    t.match(got.head, /^GET \/ HTTP\/1\.1\r\n/)
    t.strictSame(got.values('x-forwarded-host'), [])
  })
})

t.test("a trusted proxy's forwarding fields are kept and added to", async (t) => {
  const upstream = await rawUpstream(t)
  const gateway = await startGateway(
    t,
    yamlFor(upstream.origin, { top: 'trusted_proxies: [127.0.0.1]', route: ', preserve_host: true' }),
  )
  await rawExchange(
    gateway.port,
    'GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\nX-Forwarded-Port: 443\r\nForwarded: for=203.0.113.9\r\n\r\n',
  )
  const got = upstream.requests[0]!
  t.strictSame(got.values('x-forwarded-for'), ['203.0.113.9,10.0.0.1, 127.0.0.1'])
  t.strictSame(got.values('x-forwarded-proto'), ['https'])
  t.strictSame(got.values('x-forwarded-host'), ['shop.example'])
  t.strictSame(got.values('x-forwarded-port'), ['443'])
  t.strictSame(got.values('forwarded'), ['for=203.0.113.9'])
  t.strictSame(got.values('host'), ['a.example'], 'preserve_host')
})

t.test('the upstream gets its base path, then the path without the stripped prefix', async (t) => {
  const upstream = await rawUpstream(t)
  const gateway = await startGateway(
    t,
    `
tiers: [free]
services:
  one: { upstreams: ['${upstream.origin}/base/one'] }
  two: { upstreams: ['${upstream.origin}/two'] }
  bare: { upstreams: ['${upstream.origin}'] }
routes:
  - { path: /one/*, service: one, strip_prefix: /one }
  - { path: /two/*, service: two }
  - { path: /bare/*, service: bare, strip_prefix: /bare }
`,
  )
  const cases = [
    ['/one/x', '/base/one/x'],
    ['/one', '/base/one/'],
    ['/one/', '/base/one/'],
    ['/one/x?y=/one', '/base/one/x?y=/one'],
    ['/one?q', '/base/one/?q'],
    ['/two/x', '/two/two/x'],
    ['/bare', '/'],
    ['/bare//x//', '/x/'],
    ['/bare/%7Ea%2d/caf%c3%a9', '/~a-/caf%C3%A9'],
    ['/bare/x?a=%2F..%2f&b=//', '/x?a=%2F..%2f&b=//'],
  ]
  for (const [asked, got] of cases) {
    await rawExchange(gateway.port, `GET ${asked} HTTP/1.1\r\nHost: a\r\n\r\n`)
    t.equal(upstream.requests.at(-1)!.target, got, `of ${asked}`)
  }
  t.equal(
    upstream.connections(),
    3,
    'each service has connections of its own, also where they name the same address',
  )
})

t.test('the response to the client', async (t) => {
  let answer = ''
  const upstream = await rawUpstream(t, (request) => respond(request, answer))
  const gateway = await startGateway(t, yamlFor(upstream.origin))
  const get = async (bytes: string, request = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n') => {
    answer = bytes
    const { responses, text } = await rawExchange(gateway.port, request, { head: request.startsWith('HEAD') })
    t.equal(responses.length, 1)
    return { ...responses[0]!, text }
  }

  t.test("keeps the upstream's end-to-end fields as they were", async (t) => {
    const got = await get(
      'HTTP/1.1 201 Made It\r\nContent-Length: 5\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-L: caf\xe9\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nServer: x\r\nEmpty:\r\n\r\nhello',
    )
    t.equal(got.body, 'hello')
    t.match(
      got.head,
      /^HTTP\/1\.1 201 Made It\r\nContent-Length: 5\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-L: caf\xe9\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nServer: x\r\nEmpty: \r\nVia: 1\.1 tidegate\r\nX-Request-Id: /,
    )
  })

  t.test('keeps bytes beyond ASCII when the body comes later than the header', async (t) => {
    answer = ''
    const before = upstream.requests.length
    const connection = await openRaw(gateway.port)
    connection.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
    await eventually('the request arrives', () => upstream.requests.length > before)
    respond(upstream.requests.at(-1)!, 'HTTP/1.1 200 OK\r\nX-L: caf\xe9\r\nContent-Length: 2\r\n\r\n')
    await connection.until('header', () => connection.received().includes('\r\n\r\n'))
    t.match(connection.received(), /X-L: caf\xe9\r\n/)
    respond(upstream.requests.at(-1)!, 'ok')
    await connection.until('body', () => connection.responses().length === 1)
    connection.socket.destroy()
  })

  t.test('has no hop-by-hop field, nor one that Connection names', async (t) => {
    const got = await get(
      'HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-HOP: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nProxy-Authenticate: Basic\r\nTE: x\r\nTrailer: X-T\r\nUpgrade: h2c\r\nX-Request-Id: theirs\r\nVia: 1.1 back\r\nX-End: 1\r\nContent-Length: 0\r\n\r\n',
    )
    for (const name of ['x-hop', 'proxy-connection', 'proxy-authenticate', 'te', 'trailer', 'upgrade']) {
      t.equal(got.header(name), undefined, name)
    }
    t.equal(got.header('x-end'), '1')
    t.equal(got.header('via'), '1.1 back, 1.1 tidegate')
    t.not(got.header('x-request-id'), 'theirs')
    t.equal(got.header('connection'), 'keep-alive')
    t.equal(got.header('keep-alive'), 'timeout=72', 'its own, for its own connection')
  })

  t.test('has the body of a chunked response without its trailers', async (t) => {
    const got = await get(
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nX-T: dropped\r\n\r\n',
    )
    t.equal(got.body, 'abcde')
    t.equal(got.header('transfer-encoding'), 'chunked')
    t.notMatch(got.text, /dropped/)
  })

  t.test('ends with the connection for HTTP/1.0 when the length is unknown', async (t) => {
    const request = 'GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n'
    const got = await get(
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n',
      request,
    )
    t.equal(got.header('transfer-encoding'), undefined)
    t.equal(got.header('connection'), 'close')
    t.equal(got.body, 'abc')
  })

  t.test('keeps an HTTP/1.0 connection on request when the length is known', async (t) => {
    answer = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
    const connection = await openRaw(gateway.port)
    for (const count of [1, 2]) {
      connection.write('GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n')
      await connection.until('response', () => connection.responses().length === count)
    }
    t.strictSame(
      connection.responses().map((response) => response.header('connection')),
      ['keep-alive', 'keep-alive'],
    )
    connection.socket.destroy()
  })

  t.test("has the upstream's reason phrase, or the usual one", async (t) => {
    t.match(
      (await get('HTTP/1.1 299 Own Words!\r\nContent-Length: 0\r\n\r\n')).head,
      /^HTTP\/1.1 299 Own Words!\r/,
    )
    t.match((await get('HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n')).head, /^HTTP\/1.1 404 Not Found\r/)
    t.match((await get('HTTP/1.1 404 \xe9\r\nContent-Length: 0\r\n\r\n')).head, /^HTTP\/1.1 404 Not Found\r/)
  })

  t.test("may end with the upstream's connection", async (t) => {
    const upstream = await rawUpstream(t, (request) => {
      respond(request, 'HTTP/1.0 200 OK\r\nX-A: b\r\n\r\nuntil the end')
      request.socket.end()
    })
    const gateway = await startGateway(t, yamlFor(upstream.origin))
    const { responses } = await rawExchange(gateway.port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n')
    t.match(responses, [{ status: 200, body: 'until the end' }])
    t.equal(responses[0]!.header('transfer-encoding'), 'chunked')
  })

  t.test('has no body after HEAD, but its length', async (t) => {
    const head = 'HEAD / HTTP/1.1\r\nHost: a\r\n\r\n'
    const sized = await get('HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n', head)
    t.equal(sized.header('content-length'), '1234')
    const chunked = await get('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n', head)
    t.equal(chunked.header('transfer-encoding'), undefined)
    t.equal(chunked.header('content-length'), undefined)
    const none = await get('HTTP/1.1 404 Not Found\r\n\r\n', head)
    t.equal(none.status, 404)
    t.match(none.text, /\r\n\r\n$/)
  })

  t.test('has no body after 204 and 304', async (t) => {
    const empty = await get('HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n')
    t.match(empty, { status: 204 })
    t.equal(empty.header('content-length'), undefined)
    t.equal(empty.header('transfer-encoding'), undefined)
    const zero = await get('HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n')
    t.match(zero, { status: 204 })
    t.equal(zero.header('content-length'), undefined, 'which a 204 must not have')
    const unchanged = await get('HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n')
    t.match(unchanged, { status: 304 })
    t.equal(unchanged.header('content-length'), undefined)
    const sized = await get('HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 1234\r\n\r\n')
    t.match(sized, { status: 304 })
    t.equal(sized.header('content-length'), '1234', 'the length that a 200 would have had')
    t.match(sized.text, /\r\n\r\n$/)
  })

  t.test("is preceded by the upstream's 103, and never by 100 or 102", async (t) => {
    const hints =
      'HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.js>; rel=preload\r\nX-Secret: 1\r\n\r\n'
    const got = await get(`${hints}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok`)
    t.match(
      got.text,
      /^HTTP\/1.1 103 Early Hints\r\nLink: <\/a.css>; rel=preload, <\/b.js>; rel=preload\r\n\r\nHTTP\/1.1 200 OK\r\n/,
    )
    const old = await get(`${hints}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok`, 'GET / HTTP/1.0\r\n\r\n')
    t.match(old.text, /^HTTP\/1.1 200 OK\r\n/, 'HTTP/1.0 knows no 1xx')
  })

  t.test('is preceded by 8 hints at most', async (t) => {
    const hint = 'HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n'
    const got = await get(`${hint.repeat(50)}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok`)
    t.equal(got.status, 200)
    t.equal(got.text.split('HTTP/1.1 103').length - 1, 8)
  })

  t.test('drops a hint with a malformed link, quickly however long it is', async (t) => {
    const link = `</a.css>${'; a=b'.repeat(2_000)}`
    for (const [end, sent] of [
      ['"', false],
      [' c', false],
      ['; rel="preload"', true],
    ] as const) {
      // Node reads and answers the second one.
      for (const blank of ['', ' ']) {
        const got = await get(
          `HTTP/1.1 103 Early Hints\r\nLink: ${link}${end}\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok`,
          `GET / HTTP/1.1\r\nHost: ${blank}gateway.example\r\n\r\n`,
        )
        t.equal(got.status, 200)
        t.equal(got.text.includes('HTTP/1.1 103'), sent, end)
      }
    }
  })

  t.strictSame(gateway.logged, [])
})

t.test('Expect: 100-continue', async (t) => {
  const upstream = await rawUpstream(t)
  const gateway = await startGateway(
    t,
    `
tiers: [free]
services: { api: { upstreams: ['${upstream.origin}'], limits: { free: 3/min } } }
routes: [{ path: /*, service: api }]
`,
  )
  const header = 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n'

  t.test('is answered by the gateway and not forwarded', async (t) => {
    const connection = await openRaw(gateway.port)
    connection.write(header)
    await connection.until('100', () => connection.received() === 'HTTP/1.1 100 Continue\r\n\r\n')
    connection.write('hello')
    await connection.until('200', () => connection.responses().length === 1)
    t.match(upstream.requests.at(-1), { body: 'hello' })
    t.strictSame(upstream.requests.at(-1)!.values('expect'), [])
    connection.socket.destroy()
  })

  t.test('gets no 100 when there is no body to send, nor in HTTP/1.0', async (t) => {
    const empty = 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n'
    t.match((await rawExchange(gateway.port, empty)).text, /^HTTP\/1.1 200/)
    const old = 'POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello'
    t.match((await rawExchange(gateway.port, old)).text, /^HTTP\/1.1 200/)
  })

  t.test('gets the refusal instead of 100 when the quota is spent', async (t) => {
    const { text, closed } = await rawExchange(gateway.port, header)
    t.match(text, /^HTTP\/1.1 429 /)
    t.ok(closed)
  })
})

t.test("the gateway replaces the upstream's RateLimit fields on limited routes only", async (t) => {
  const upstream = await rawUpstream(t, (request) =>
    respond(
      request,
      'HTTP/1.1 200 OK\r\nRateLimit: theirs\r\nX-RateLimit-Limit: 7\r\nContent-Length: 0\r\n\r\n',
    ),
  )
  const gateway = await startGateway(
    t,
    `
tiers: [free]
services:
  limited: { upstreams: ['${upstream.origin}'], limits: { free: 3/min } }
  open: { upstreams: ['${upstream.origin}'] }
routes: [{ path: /limited, service: limited }, { path: /open, service: open }]
`,
  )
  const [limited] = (await rawExchange(gateway.port, 'GET /limited HTTP/1.1\r\nHost: a\r\n\r\n')).responses
  t.equal(limited!.header('ratelimit'), '"minute";r=2;t=60')
  t.equal(limited!.header('x-ratelimit-limit'), '3')
  const [open] = (await rawExchange(gateway.port, 'GET /open HTTP/1.1\r\nHost: a\r\n\r\n')).responses
  t.equal(open!.header('ratelimit'), 'theirs')
  t.equal(open!.header('x-ratelimit-limit'), '7')
})

t.test('while draining, a response closes its connection', async (t) => {
  const upstream = await rawUpstream(t)
  const gateway = await startGateway(t, yamlFor(upstream.origin))
  gateway.drain(true)
  const { responses, closed } = await rawExchange(gateway.port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n')
  t.equal(responses[0]!.header('connection'), 'close')
  t.ok(closed)
})

t.test('requests of one connection are answered in order, each with its own response', async (t) => {
  const upstream = await rawUpstream(t, (request) => {
    const body = `for ${request.target}`
    const delay = request.target === '/1' ? 30 : 0
    setTimeout(
      () => respond(request, `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`),
      delay,
    )
  })
  const gateway = await startGateway(t, yamlFor(upstream.origin))
  const bytes = [1, 2, 3].map((i) => `GET /${i} HTTP/1.1\r\nHost: a\r\n\r\n`).join('')
  const { responses } = await rawExchange(gateway.port, bytes, { responses: 3 })
  t.strictSame(
    responses.map(({ body }) => body),
    ['for /1', 'for /2', 'for /3'],
  )
})

t.test("the record counts the bytes of both bodies and the upstream's time", async (t) => {
  const upstream = await rawUpstream(t)
  const gateway = await startGateway(t, yamlFor(upstream.origin))
  await rawExchange(gateway.port, 'POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello')
  await gateway.recorded(1)
  t.match(gateway.records, [
    { status: 200, error: undefined, bytesIn: 5, bytesOut: 2, upstream: { origin: upstream.origin } },
  ])
  const [record] = gateway.records
  t.ok(record!.upstreamMs > 0 && record!.upstreamMs <= record!.durationMs)
})
