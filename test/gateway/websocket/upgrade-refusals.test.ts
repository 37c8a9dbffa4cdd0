// Tests src/gateway/websocket/{handshake,relay}.ts
import t from 'tap'
import { eventually } from '../../support/eventually.js'
import { startGateway } from '../../support/gateway/gateway.js'
import { MALFORMED } from '../../support/http/malformed-responses.js'
import { openRaw, rawExchange } from '../../support/http/raw.js'
import { ALICE, chatConfig, handshake, KEY, quiet, startBare } from '../../support/http/websocket.js'

t.test('a refused handshake', async (t) => {
  const refused: [
    what: string,
    bytes: string,
    status: number,
    code: string,
    rest?: Record<string, string>,
  ][] = [
    ['a path without a route', handshake('/nowhere', ALICE), 404, 'no_route'],
    [
      'no credential',
      handshake('/chat/room'),
      401,
      'unauthorized',
      { 'www-authenticate': 'ApiKey realm="tidegate"' },
    ],
    ['a bad credential', handshake('/chat/room', { 'X-Api-Key': 'wrong' }), 401, 'unauthorized'],
    ['a path with a dot segment', handshake('/chat/../plain', ALICE), 400, 'bad_target'],
    ['two credentials', handshake('/chat/room', { ...ALICE, 'x-api-key': 'other' }), 400, 'bad_header'],
    ['no Host', handshake('/chat/room', { ...ALICE, Host: undefined }), 400, 'bad_host'],
    ['a route without websocket', handshake('/plain/room', ALICE), 501, 'upgrade_not_supported'],
    [
      'a choice of protocols',
      handshake('/chat/room', { ...ALICE, Upgrade: 'h2c, websocket' }),
      501,
      'upgrade_not_supported',
    ],
    ['POST', handshake('/chat/room', ALICE, 'POST /chat/room HTTP/1.1'), 501, 'upgrade_not_supported'],
    [
      'POST with a body',
      `${handshake('/chat/room', { ...ALICE, 'Content-Length': '5' }, 'POST /chat/room HTTP/1.1')}12345`,
      501,
      'upgrade_not_supported',
    ],
    ['HTTP/1.0', handshake('/chat/room', ALICE, 'GET /chat/room HTTP/1.0'), 501, 'upgrade_not_supported'],
    [
      'a body by length',
      `${handshake('/chat/room', { ...ALICE, 'Content-Length': '5' })}12345`,
      400,
      'bad_request',
    ],
    [
      'a body in chunks',
      `${handshake('/chat/room', { ...ALICE, 'Transfer-Encoding': 'chunked' })}0\r\n\r\n`,
      400,
      'bad_request',
    ],
    ['no key', handshake('/chat/room', { ...ALICE, 'Sec-WebSocket-Key': undefined }), 400, 'bad_request'],
    [
      'a short key',
      handshake('/chat/room', { ...ALICE, 'Sec-WebSocket-Key': 'c2hvcnQ=' }),
      400,
      'bad_request',
    ],
    ['two keys', handshake('/chat/room', { ...ALICE, 'sec-websocket-key': KEY }), 400, 'bad_request'],
    [
      'a key that Connection takes away',
      handshake('/chat/room', { ...ALICE, Connection: 'Upgrade, Sec-WebSocket-Key' }),
      400,
      'bad_request',
    ],
    [
      'no version',
      handshake('/chat/room', { ...ALICE, 'Sec-WebSocket-Version': undefined }),
      400,
      'bad_request',
    ],
    [
      'another version',
      handshake('/chat/room', { ...ALICE, 'Sec-WebSocket-Version': '8' }),
      426,
      'upgrade_required',
      { upgrade: 'websocket', connection: 'Upgrade, close', 'sec-websocket-version': '13' },
    ],
  ]

  t.test('gets its error from the table, is closed, and neither charged nor forwarded', async (t) => {
    const upstream = await startBare(t)
    const gateway = await startGateway(t, chatConfig([upstream.origin]))
    let count = 0
    for (const [what, bytes, status, code, rest = {}] of refused) {
      const raw = await openRaw(gateway.port)
      raw.write(bytes)
      await raw.closed()
      const [response, ...more] = raw.responses()
      t.same(more, [], what)
      t.equal(response!.status, status, what)
      t.match(
        JSON.parse(response!.body),
        { code, status, request_id: response!.header('x-request-id') },
        what,
      )
      t.equal(response!.header('content-type'), 'application/problem+json', what)
      t.match(response!.header('connection'), /close$/, what)
      for (const [name, value] of Object.entries(rest)) t.equal(response!.header(name), value, what)
      await gateway.recorded(++count)
      t.match(gateway.records.at(-1), { status, error: code, decision: undefined, upstream: undefined }, what)
      t.equal(gateway.records.at(-1)!.bytesOut, response!.body.length, what)
    }
    t.equal(upstream.sockets.length, 0)
    t.equal(gateway.records.length, refused.length)
    await quiet(gateway)
    t.same(gateway.logged, [])
  })

  t.test('with HEAD gets no body', async (t) => {
    const gateway = await startGateway(t, chatConfig(['http://127.0.0.1:1']))
    const raw = await openRaw(gateway.port, true)
    raw.write(handshake('/chat/room', ALICE, 'HEAD /chat/room HTTP/1.1'))
    await raw.closed()
    t.equal(raw.responses()[0]!.status, 501)
    t.ok(raw.received().endsWith('\r\n\r\n'))
  })

  t.test('reaches a client that is still sending', async (t) => {
    const gateway = await startGateway(t, chatConfig(['http://127.0.0.1:1']))
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/nowhere', ALICE) + 'x'.repeat(60_000))
    await raw.until('404', () => raw.responses().length === 1)
    raw.socket.destroy()
  })

  t.test('cuts a client that does not stop sending', async (t) => {
    const gateway = await startGateway(t, chatConfig(['http://127.0.0.1:1']))
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/nowhere', ALICE))
    const flood = setInterval(() => raw.socket.writableNeedDrain || raw.socket.write(Buffer.alloc(65_536)), 1)
    t.teardown(() => clearInterval(flood))
    raw.socket.on('end', () => {})
    await raw.closed()
    t.equal(gateway.records.length, 1)
  })
})

t.test('an upstream that refuses', async (t) => {
  type Answer = [what: string, answer: string, body: string, framing: Record<string, string | undefined>]
  const answers: Answer[] = [
    [
      'in chunks',
      'HTTP/1.1 403 Not you\r\nTransfer-Encoding: chunked\r\nX-Why: because\r\n\r\n3;x=y\r\nno \r\n4\r\nway!\r\n0\r\nTrailer: t\r\n\r\n',
      'no way!',
      { 'transfer-encoding': 'chunked', 'content-length': undefined, 'x-why': 'because' },
    ],
    [
      'by length',
      'HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\nWWW-Authenticate: Basic\r\n\r\nwho?',
      'who?',
      { 'transfer-encoding': undefined, 'content-length': '4', 'www-authenticate': 'Basic' },
    ],
    [
      'up to the end of its connection',
      'HTTP/1.0 404 Not Found\r\n\r\nnowhere',
      'nowhere',
      { 'transfer-encoding': 'chunked', 'content-length': undefined },
    ],
    [
      'without a body',
      'HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n',
      '',
      { 'content-length': undefined },
    ],
    [
      'with a redirection',
      'HTTP/1.1 307 Elsewhere\r\nLocation: /other\r\nContent-Length: 0\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n',
      '',
      { location: '/chat/other', 'content-length': '0', 'x-hop': undefined },
    ],
    [
      'by asking for another version',
      'HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 7\r\nContent-Length: 0\r\n\r\n',
      '',
      { upgrade: 'websocket', connection: 'Upgrade, close', 'sec-websocket-version': '7' },
    ],
    [
      'after hints',
      'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n',
      '',
      {},
    ],
  ]
  for (const [what, answer, body, framing] of answers) {
    t.test(`${what} is relayed in a framing that fits`, async (t) => {
      const upstream = await startBare(t, (socket) => {
        if (answer.startsWith('HTTP/1.0')) socket.end(answer)
        else socket.write(answer)
      })
      const gateway = await startGateway(t, chatConfig([upstream.origin]))
      const raw = await openRaw(gateway.port)
      raw.write(handshake('/chat/room', ALICE))
      await raw.closed()
      const [response, ...more] = raw.responses()
      t.same(more, [])
      const status = Number(/ ([1-9]{3}|[0-9]{3}) (?!Early)/.exec(answer)![1])
      t.match(response, { status, body })
      for (const [name, value] of Object.entries(framing)) t.equal(response!.header(name), value, name)
      t.match(response!.header('connection'), /close$/)
      t.equal(response!.header('ratelimit'), '"minute";r=9;t=60')
      t.equal(response!.header('via'), '1.1 tidegate')
      await gateway.recorded(1)
      t.match(gateway.records[0], { status, error: undefined, bytesOut: body.length })
      await eventually('the upstream is let go', () => upstream.open() === 0)
      await quiet(gateway)
    })
  }

  t.test('with 5 MB is relayed completely', async (t) => {
    const upstream = await startBare(t, (socket) => {
      socket.end(`HTTP/1.0 503 Later\r\n\r\n${'x'.repeat(5 << 20)}`)
    })
    const gateway = await startGateway(t, chatConfig([upstream.origin]))
    const { responses } = await rawExchange(gateway.port, handshake('/free/room', ALICE))
    t.equal(responses[0]!.body.length, 5 << 20)
    await gateway.recorded(1)
    t.equal(gateway.records[0]!.bytesOut, 5 << 20)
  })

  for (const framing of [
    'Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n',
    'Content-Length: 100\r\n\r\npart',
  ]) {
    t.test(`and is cut off (${framing.slice(0, 8)}) does not look complete`, async (t) => {
      const upstream = await startBare(t, (socket) => {
        socket.write(`HTTP/1.1 403 Forbidden\r\n${framing}`)
        setTimeout(() => socket.resetAndDestroy(), 50)
      })
      const gateway = await startGateway(t, chatConfig([upstream.origin]))
      const raw = await openRaw(gateway.port)
      raw.write(handshake('/free/room', ALICE))
      await raw.closed()
      t.match(raw.received(), /^HTTP\/1.1 403 Forbidden/)
      t.match(raw.received(), 'part')
      t.same(raw.responses(), [], 'no complete response')
      await gateway.recorded(1)
      t.match(gateway.records[0], { status: 403, error: 'upstream_cut' })
      await quiet(gateway)
    })
  }

  t.test('and never ends its response is cut by the handshake timeout', async (t) => {
    const upstream = await startBare(t, (socket) => {
      socket.write('HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\npart')
    })
    const gateway = await startGateway(t, chatConfig([upstream.origin], '{ handshake: 1s }'))
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/free/room', ALICE))
    await raw.closed()
    t.same(raw.responses(), [])
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 403, error: 'upstream_cut', cause: /handshake/ })
    await eventually('the upstream is let go', () => upstream.open() === 0)
    await quiet(gateway)
  })
})

t.test('an upstream whose response has a status above 599 is 502', async (t) => {
  for (const status of [600, 999]) {
    const upstream = await startBare(
      t,
      (socket) => void socket.write(`HTTP/1.1 ${status} Odd\r\nContent-Length: 2\r\n\r\nok`),
    )
    const gateway = await startGateway(t, chatConfig([upstream.origin]))
    const { responses } = await rawExchange(gateway.port, handshake('/free/room', ALICE))
    t.equal(responses[0]!.status, 502)
    t.equal(JSON.parse(responses[0]!.body).code, 'upstream_bad_response')
    await quiet(gateway)
    t.match(gateway.records[0], { cause: `the status ${status} is above 599` })
    await eventually('nothing is open', () => upstream.open() === 0)
  }
})

t.test('a response to a handshake is read as strictly as any other', async (t) => {
  for (const [what, bytes] of Object.entries(MALFORMED)) {
    const upstream = await startBare(t, (socket) => void socket.write(bytes, 'latin1'))
    const gateway = await startGateway(t, chatConfig([upstream.origin], '{ handshake: 1s }'))
    const { responses } = await rawExchange(gateway.port, handshake('/free/room', ALICE))
    t.equal(responses.length, 1, what)
    t.equal(responses[0]!.status, 502, what)
    t.equal(JSON.parse(responses[0]!.body || '{}').code, 'upstream_bad_response', what)
  }
})

t.test('a 204 and a 304 to a handshake end with their head', async (t) => {
  for (const status of [204, 304]) {
    for (const framing of ['Content-Length: 5', 'Transfer-Encoding: chunked', 'Transfer-Encoding: gzip']) {
      const upstream = await startBare(
        t,
        (socket) => void socket.write(`HTTP/1.1 ${status} X\r\n${framing}\r\n\r\nhello`),
      )
      const gateway = await startGateway(t, chatConfig([upstream.origin], '{ handshake: 1s }'))
      const raw = await openRaw(gateway.port)
      raw.write(handshake('/free/room', ALICE))
      await raw.closed()
      const what = `${status} ${framing}`
      t.match(raw.responses(), [{ status }], what)
      t.match(raw.received(), /\r\n\r\n$/, `${what}: nothing behind it`)
      t.equal(raw.responses()[0]!.header('transfer-encoding'), undefined, what)
    }
  }
})
