import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { WebSocket } from 'ws'
import type { Decision } from '../../src/limiter/limiter.js'
import { createUpstreams } from '../../src/upstream/pool.js'
import { eventually } from '../support/eventually.js'
import { snapshotOf, startGateway, type TestGateway } from '../support/gateway.js'
import { openRaw, rawExchange } from '../support/raw.js'
import { freePort } from '../support/redis.js'
import { exampleDecision } from '../support/snapshot.js'
import { ACCEPT, handshake, KEY, SWITCHING, startBare, startChat } from '../support/websocket.js'

function config(origins: readonly string[], websocket = 'true', more = ''): string {
  const upstreams = `[${origins.join(', ')}]`
  return `
tiers: [free, pro]
consumers:
  - api_key: { keys: [{ key: secret-of-alice, consumer: alice, tier: free }] }
  - header: { name: x-user-id }
services:
  chat:
    upstreams: ${upstreams}
    limits: { free: 10/min, pro: unlimited }
  free: { upstreams: ${upstreams} }
routes:
  - { path: /chat/*, service: chat, strip_prefix: /chat, websocket: ${websocket} }
  - { path: /free/*, service: free, websocket: ${websocket} }
  - { path: /plain/*, service: chat }
${more}`
}

const ALICE = { 'X-Api-Key': 'secret-of-alice' }

function dial(
  port: number,
  path = '/free/room',
  protocols: string[] = [],
  headers: Record<string, string> = ALICE,
) {
  return new WebSocket(`ws://127.0.0.1:${port}${path}`, protocols, { headers, perMessageDeflate: false })
}

async function opened(...args: Parameters<typeof dial>): Promise<WebSocket> {
  const socket = dial(...args)
  await once(socket, 'open')
  return socket
}

async function closeOf(socket: WebSocket): Promise<{ code: number; reason: string }> {
  const [code, reason] = await once(socket, 'close')
  return { code, reason: String(reason) }
}

/** Nothing is left of what was there before. */
async function quiet(gateway: TestGateway): Promise<void> {
  await eventually('nothing is watched', () => gateway.watchdog.size() === 0)
}

t.test('the tunnel', async (t) => {
  t.test('what a client sends comes back, text and binary', async (t) => {
    const chat = await startChat(t)
    const gateway = await startGateway(t, config([chat.origin]))
    const socket = await opened(gateway.port)
    socket.send('grüße')
    t.equal(String((await once(socket, 'message'))[0]), 'grüße')
    socket.send(Buffer.from([0, 255, 128]))
    const [data, binary] = await once(socket, 'message')
    t.same([data, binary], [Buffer.from([0, 255, 128]), true])
    socket.close()
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 101, error: undefined, method: 'GET', target: '/free/room' })
    await quiet(gateway)
  })

  t.test('messages of 8 MB pass both ways unharmed, and their bytes are counted', async (t) => {
    const chat = await startChat(t)
    const gateway = await startGateway(t, config([chat.origin]))
    const socket = await opened(gateway.port)
    const big = Buffer.alloc(8 << 20)
    for (let i = 0; i < big.length; i += 4) big.writeUInt32LE(i, i)
    socket.send(big)
    const [echo] = await once(socket, 'message')
    t.ok(big.equals(echo as Buffer))
    socket.close()
    await gateway.recorded(1)
    const { bytesIn, bytesOut, durationMs, upstreamMs } = gateway.records[0]!
    // Frame headers of 14 (masked) and 10 bytes, Close frames of 6 and 2 without a code.
    t.equal(bytesIn, big.length + 14 + 6)
    t.equal(bytesOut, big.length + 10 + 2)
    t.ok(durationMs >= upstreamMs && upstreamMs > 0)
  })

  t.test('a client that does not read holds the upstream back', async (t) => {
    const chat = await startChat(t, () => {})
    const gateway = await startGateway(t, config([chat.origin]))
    const socket = await opened(gateway.port)
    await eventually('the upstream has its end', () => chat.sockets.length === 1)
    const upstream = chat.sockets[0]!
    socket.pause()
    const part = Buffer.alloc(1 << 20)
    for (let i = 0; i < 64; i++) upstream.send(part)
    let before = -1
    while (before !== upstream.bufferedAmount) {
      before = upstream.bufferedAmount
      await sleep(100)
    }
    // The rest is in the buffers of the kernel, at most some MB for each of the two connections.
    t.ok(before > 32 << 20, `${before} of ${64 << 20} bytes wait at the upstream`)
    let received = 0
    socket.on('message', (data: Buffer) => {
      received += data.length
    })
    socket.resume()
    await eventually('all has come', () => received === 64 << 20, 10_000)
    socket.terminate()
    await gateway.recorded(1)
  })

  t.test('an upstream that does not read holds the client back', async (t) => {
    let received = 0
    const chat = await startChat(t, (socket) => {
      socket.pause()
      socket.on('message', (data: Buffer) => {
        received += data.length
      })
    })
    const gateway = await startGateway(t, config([chat.origin]))
    const socket = await opened(gateway.port)
    const part = Buffer.alloc(1 << 20)
    for (let i = 0; i < 64; i++) socket.send(part)
    let before = -1
    while (before !== socket.bufferedAmount) {
      before = socket.bufferedAmount
      await sleep(100)
    }
    t.ok(before > 32 << 20, `${before} of ${64 << 20} bytes wait at the client`)
    chat.sockets[0]!.resume()
    await eventually('all has come', () => received === 64 << 20, 10_000)
    socket.terminate()
    await gateway.recorded(1)
    await quiet(gateway)
  })

  t.test('the upstream picks the subprotocol', async (t) => {
    const chat = await startChat(t, undefined, { handleProtocols: () => 'chat.v2' })
    const gateway = await startGateway(t, config([chat.origin]))
    const socket = await opened(gateway.port, '/free/room', ['chat.v1', 'chat.v2'])
    t.equal(socket.protocol, 'chat.v2')
    t.equal(chat.handshakes[0]!.headers['sec-websocket-protocol'], 'chat.v1,chat.v2')
    socket.terminate()
  })

  t.test('compression that both ends agree on passes through', async (t) => {
    const chat = await startChat(t, undefined, { perMessageDeflate: { threshold: 0 } })
    const gateway = await startGateway(t, config([chat.origin]))
    const socket = new WebSocket(`ws://127.0.0.1:${gateway.port}/free/room`, { headers: ALICE })
    await once(socket, 'open')
    t.match(socket.extensions, /permessage-deflate/)
    socket.send('a'.repeat(100_000))
    t.equal(String((await once(socket, 'message'))[0]).length, 100_000)
    socket.close()
    await gateway.recorded(1)
    t.ok(gateway.records[0]!.bytesOut < 10_000)
  })

  for (const [code, reason] of [
    [1000, ''],
    [4001, 'client says so'],
  ] as const) {
    t.test(`a client's close code ${code} reaches the upstream`, async (t) => {
      const chat = await startChat(t)
      const gateway = await startGateway(t, config([chat.origin]))
      const socket = await opened(gateway.port)
      await eventually('the upstream has its end', () => chat.sockets.length === 1)
      const seen = closeOf(chat.sockets[0]!)
      const own = closeOf(socket)
      socket.close(code, reason)
      t.same(await seen, { code, reason })
      t.equal((await own).code, code)
      await gateway.recorded(1)
      t.match(gateway.records[0], { status: 101, error: undefined })
    })
  }

  for (const [code, reason] of [
    [1000, ''],
    [1011, ''],
    [4001, 'server says so'],
  ] as const) {
    t.test(`an upstream's close code ${code} reaches the client`, async (t) => {
      const chat = await startChat(t, (socket) => socket.close(code, reason))
      const gateway = await startGateway(t, config([chat.origin]))
      const socket = dial(gateway.port)
      t.same(await closeOf(socket), { code, reason })
      await gateway.recorded(1)
      t.match(gateway.records[0], { status: 101, error: undefined })
    })
  }

  t.test('frames that the upstream sends along with its 101 are not lost', async (t) => {
    const upstream = await startBare(t, (socket) => socket.write(`${SWITCHING}\x81\x02hi`, 'latin1'))
    const gateway = await startGateway(t, config([upstream.origin]))
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/free/room', ALICE))
    await raw.until('frame', () => raw.received().endsWith('\r\n\r\n\x81\x02hi'))
    raw.socket.destroy()
  })

  t.test('an upstream that breaks off ends the client without a close code, and is recorded', async (t) => {
    const upstream = await startBare(t, (socket) => socket.write(SWITCHING))
    const gateway = await startGateway(t, config([upstream.origin]))
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/free/room', ALICE))
    await raw.until('101', () => raw.responses().length === 1)
    upstream.sockets[0]!.resetAndDestroy()
    await raw.closed()
    t.ok(raw.received().endsWith('\r\n\r\n'), 'no frame that the upstream did not send')
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 101, error: 'upstream_failed' })
    await quiet(gateway)
  })

  t.test('a client that breaks off ends the upstream, and is recorded', async (t) => {
    const chat = await startChat(t)
    const gateway = await startGateway(t, config([chat.origin]))
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/free/room', ALICE))
    await raw.until('101', () => raw.responses().length === 1)
    await eventually('the upstream has its end', () => chat.sockets.length === 1)
    const seen = closeOf(chat.sockets[0]!)
    raw.socket.resetAndDestroy()
    t.equal((await seen).code, 1006)
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 101, error: 'client_closed' })
    await quiet(gateway)
  })
})

t.test('the handshake', async (t) => {
  t.test(
    'the upstream gets the verified identity, forwarding fields of our own and nothing of the hop',
    async (t) => {
      const chat = await startChat(t)
      const gateway = await startGateway(t, config([chat.origin]))
      const raw = await openRaw(gateway.port)
      raw.write(
        handshake('/chat//a%7e?room=%2F&to=http:/x', {
          Host: 'api.example.com',
          Connection: 'Upgrade, X-Hop',
          ...ALICE,
          'X-User-Id': 'mallory',
          'X-User_Id': 'mallory',
          'X-Forwarded-For': '6.6.6.6',
          'X-Forwarded-Proto': 'https',
          Forwarded: 'for=6.6.6.6',
          'X-Real-Ip': '6.6.6.6',
          'X-Hop': 'secret',
          'Keep-Alive': 'timeout=5',
          'Proxy-Authorization': 'Basic eA==',
          'HTTP2-Settings': 'AAMAAABkAAQAAP__',
          TE: 'trailers',
          Expect: '100-continue',
          Origin: 'https://app.example.com',
          Cookie: 'a=1',
          'X-Latin': 'caf\xe9',
          __proto__: 'x',
          'X-Many': '1',
          'x-many': '2',
          'Content-Length': '0',
        }),
      )
      await raw.until('101', () => raw.responses().length === 1)
      await eventually('a handshake', () => chat.handshakes.length === 1)
      const seen = chat.handshakes[0]!
      t.equal(seen.url, '/a~?room=%2F&to=http:/x')
      const fields: Record<string, string[]> = {}
      for (let i = 0; i < seen.rawHeaders.length; i += 2) {
        const name = seen.rawHeaders[i]!.toLowerCase()
        fields[name] = [...(fields[name] ?? []), seen.rawHeaders[i + 1]!]
      }
      const id = raw.responses()[0]!.header('x-request-id')!
      t.strictSame(fields, {
        'sec-websocket-version': ['13'],
        'sec-websocket-key': [KEY],
        origin: ['https://app.example.com'],
        cookie: ['a=1'],
        'x-latin': ['caf\xe9'],
        'x-many': ['1', '2'],
        host: [new URL(chat.origin).host],
        'x-api-key': ['secret-of-alice'],
        'x-forwarded-for': ['127.0.0.1'],
        'x-forwarded-proto': ['http'],
        'x-forwarded-host': ['api.example.com'],
        via: ['1.1 tidegate'],
        'x-request-id': [id],
        connection: ['Upgrade'],
        upgrade: ['websocket'],
      })
      raw.socket.destroy()
    },
  )

  t.test('a trusted proxy’s forwarding fields are carried on', async (t) => {
    const chat = await startChat(t)
    const gateway = await startGateway(t, config([chat.origin], 'true', 'trusted_proxies: [127.0.0.1]'))
    const raw = await openRaw(gateway.port)
    raw.write(
      handshake('/free/room', { ...ALICE, 'X-Forwarded-For': '192.0.2.7', 'X-Forwarded-Proto': 'https' }),
    )
    await raw.until('101', () => raw.responses().length === 1)
    await eventually('a handshake', () => chat.handshakes.length === 1)
    const { headers } = chat.handshakes[0]!
    t.match(headers, { 'x-forwarded-for': '192.0.2.7, 127.0.0.1', 'x-forwarded-proto': 'https' })
    raw.socket.destroy()
  })

  t.test('the client gets the upstream’s fields without those of the hop, and its quota', async (t) => {
    const upstream = await startBare(t, (socket) =>
      socket.write(
        'HTTP/1.1 101 Whatever\r\nupgrade: WebSocket\r\nconnection: Upgrade, X-Hop\r\nX-Hop: secret\r\n' +
          `sec-websocket-accept: ${ACCEPT}\r\nSec-WebSocket-Protocol: chat\r\nKeep-Alive: timeout=5\r\n` +
          'Set-Cookie: a=1\r\nset-cookie: b=2\r\nX-Latin: caf\xe9\r\nRateLimit: "their";r=0\r\nContent-Length: 0\r\n\r\n',
        'latin1',
      ),
    )
    const gateway = await startGateway(t, config([upstream.origin]))
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/chat/room', { ...ALICE, 'X-Request-Id': 'id-1' }))
    await raw.until('101', () => raw.responses().length === 1)
    t.strictSame(raw.responses()[0]!.head.split('\r\n'), [
      'HTTP/1.1 101 Switching Protocols',
      'Upgrade: websocket',
      'Connection: Upgrade',
      `sec-websocket-accept: ${ACCEPT}`,
      'Sec-WebSocket-Protocol: chat',
      'Set-Cookie: a=1',
      'Set-Cookie: b=2',
      'X-Latin: caf\xe9',
      'Via: 1.1 tidegate',
      'X-Request-Id: id-1',
      'RateLimit-Policy: "minute";q=10;w=60',
      'RateLimit: "minute";r=9;t=60',
      'X-RateLimit-Limit: 10',
      'X-RateLimit-Remaining: 9',
      'X-RateLimit-Reset: 60',
    ])
    raw.socket.destroy()
  })

  t.test('quota is taken at the handshake: the 11th of 10 is 429', async (t) => {
    const chat = await startChat(t)
    const gateway = await startGateway(t, config([chat.origin]))
    const sockets: WebSocket[] = []
    for (let i = 0; i < 10; i++) sockets.push(await opened(gateway.port, '/chat/room'))
    const bytes = handshake('/chat/room', { ...ALICE, 'X-Request-Id': 'the-11th' })
    const { text, closed } = await rawExchange(gateway.port, bytes)
    t.ok(closed)
    t.strictSame(text.replace(/Date: .*/, 'Date: …').split('\r\n'), [
      'HTTP/1.1 429 Quota exceeded',
      'Content-Type: application/problem+json',
      'Content-Length: 288',
      'Cache-Control: no-store',
      'X-Request-Id: the-11th',
      'RateLimit-Policy: "minute";q=10;w=60',
      'RateLimit: "minute";r=0;t=66',
      'X-RateLimit-Limit: 10',
      'X-RateLimit-Remaining: 0',
      'X-RateLimit-Reset: 66',
      'Retry-After: 66',
      'Date: …',
      'Connection: close',
      '',
      '{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"Quota exceeded","status":429,' +
        '"detail":"The quota \\"minute\\" (10 per 60 s) of tier free on chat is used up; try again in 66 s.",' +
        '"code":"quota_exceeded","violated-policies":["minute"],"request_id":"the-11th"}',
    ])
    t.equal(chat.handshakes.length, 10)
    t.match(gateway.records[0], { status: 429, error: 'quota_exceeded' })
    // What passes through a tunnel takes nothing.
    for (const socket of sockets) {
      socket.send('x')
      t.equal(String((await once(socket, 'message'))[0]), 'x')
      socket.close()
    }
    await gateway.recorded(11)
  })

  t.test('bytes that come before the 101 reach the upstream after it', async (t) => {
    let answer: Socket | undefined
    const upstream = await startBare(t, (socket) => {
      answer = socket
    })
    const gateway = await startGateway(t, config([upstream.origin]))
    const raw = await openRaw(gateway.port)
    raw.write(`${handshake('/free/room', ALICE)}early-1 `)
    await eventually('the handshake', () => answer !== undefined)
    raw.write('early-2 ')
    await sleep(100)
    t.ok(upstream.received().endsWith('\r\n\r\n'), 'nothing behind the header yet')
    answer!.write(SWITCHING)
    await raw.until('101', () => raw.responses().length === 1)
    raw.write('late')
    await eventually('the rest', () => upstream.received().endsWith('\r\n\r\nearly-1 early-2 late'))
    raw.socket.destroy()
    await gateway.recorded(1)
    t.equal(gateway.records[0]!.bytesIn, 'early-1 early-2 late'.length)
  })

  t.test(
    'bytes that come before a refusal never reach the upstream, nor are they a second request',
    async (t) => {
      const upstream = await startBare(t, (socket) =>
        socket.write('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno'),
      )
      const gateway = await startGateway(t, config([upstream.origin]))
      const bytes = handshake('/free/room', ALICE) + handshake('/free/smuggled', ALICE)
      const { responses, closed } = await rawExchange(gateway.port, bytes)
      t.ok(closed)
      t.equal(responses.length, 1)
      t.match(responses[0], { status: 403, body: 'no' })
      t.notMatch(upstream.received(), 'smuggled')
      t.equal(upstream.sockets.length, 1)
      t.equal(gateway.records.length, 1)
    },
  )

  t.test('a connection that carried requests before can be upgraded', async (t) => {
    const chat = await startChat(t)
    const gateway = await startGateway(t, config([chat.origin]))
    const raw = await openRaw(gateway.port)
    raw.write('GET /nowhere HTTP/1.1\r\nHost: gateway\r\n\r\n')
    await raw.until('404', () => raw.responses().length === 1)
    raw.write(handshake('/free/room', ALICE))
    await raw.until('101', () => raw.responses().length === 2)
    raw.write('\x81\x82\0\0\0\0hi')
    await raw.until('echo', () => raw.received().endsWith('\x81\x02hi'))
    raw.socket.end('\x88\x80\0\0\0\0', 'latin1')
    await raw.closed()
    await gateway.recorded(2)
    t.match(gateway.records[1], { status: 101, bytesIn: 14, bytesOut: 6 })
  })

  t.test('a handshake behind an unfinished response is refused once that has come', async (t) => {
    const upstream = await startBare(t, (socket) => {
      setTimeout(() => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow'), 50)
    })
    const gateway = await startGateway(t, config([upstream.origin]))
    const slow = `GET /plain/slow HTTP/1.1\r\nHost: gateway\r\nX-Api-Key: secret-of-alice\r\n\r\n`
    const { responses, closed } = await rawExchange(gateway.port, slow + handshake('/free/room', ALICE), {
      responses: 2,
    })
    t.match(responses, [{ status: 200, body: 'slow' }, { status: 400 }])
    t.ok(closed)
    t.match(gateway.records, [{ status: 200 }, { status: 400, error: 'bad_request' }])
    t.equal(upstream.sockets.length, 1)
  })

  t.test('a handshake behind a refusal that closes the connection is not answered', async (t) => {
    const upstream = await startBare(t)
    const gateway = await startGateway(t, config([upstream.origin]))
    const closing = 'GET /plain/x HTTP/1.1\r\n\r\n'
    const { responses, closed } = await rawExchange(gateway.port, closing + handshake('/free/room', ALICE))
    t.match(responses, [{ status: 400 }])
    t.ok(closed)
    t.equal(responses.length, 1)
    t.equal(upstream.sockets.length, 0)
    t.match(gateway.records, [{ status: 400, error: 'bad_host' }])
  })
})

t.test('what is refused', async (t) => {
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
      'h2c',
      handshake('/chat/room', {
        ...ALICE,
        Connection: 'Upgrade, HTTP2-Settings',
        Upgrade: 'h2c',
        'HTTP2-Settings': 'AAMAAABkAAQAAP__',
      }),
      501,
      'upgrade_not_supported',
    ],
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

  t.test('is answered from the table, closed, not charged, and not seen by the upstream', async (t) => {
    const upstream = await startBare(t)
    const gateway = await startGateway(t, config([upstream.origin]))
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

  t.test('a refusal to HEAD has no body', async (t) => {
    const gateway = await startGateway(t, config(['http://127.0.0.1:1']))
    const raw = await openRaw(gateway.port, true)
    raw.write(handshake('/chat/room', ALICE, 'HEAD /chat/room HTTP/1.1'))
    await raw.closed()
    t.equal(raw.responses()[0]!.status, 501)
    t.ok(raw.received().endsWith('\r\n\r\n'))
  })

  t.test('a refusal reaches a client that is still sending', async (t) => {
    const gateway = await startGateway(t, config(['http://127.0.0.1:1']))
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/nowhere', ALICE) + 'x'.repeat(60_000))
    await raw.until('404', () => raw.responses().length === 1)
    raw.socket.destroy()
  })

  t.test('a client that does not stop sending after its refusal is cut off', async (t) => {
    const gateway = await startGateway(t, config(['http://127.0.0.1:1']))
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
      { location: '/other', 'content-length': '0', 'x-hop': undefined },
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
      const gateway = await startGateway(t, config([upstream.origin]))
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

  t.test('with 5 MB is relayed whole', async (t) => {
    const upstream = await startBare(t, (socket) => {
      socket.end(`HTTP/1.0 503 Later\r\n\r\n${'x'.repeat(5 << 20)}`)
    })
    const gateway = await startGateway(t, config([upstream.origin]))
    const { responses } = await rawExchange(gateway.port, handshake('/free/room', ALICE))
    t.equal(responses[0]!.body.length, 5 << 20)
    await gateway.recorded(1)
    t.equal(gateway.records[0]!.bytesOut, 5 << 20)
  })

  for (const framing of [
    'Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n',
    'Content-Length: 100\r\n\r\npart',
  ]) {
    t.test(`and is cut off (${framing.slice(0, 8)}) does not look whole`, async (t) => {
      const upstream = await startBare(t, (socket) => {
        socket.write(`HTTP/1.1 403 Forbidden\r\n${framing}`)
        setTimeout(() => socket.resetAndDestroy(), 50)
      })
      const gateway = await startGateway(t, config([upstream.origin]))
      const raw = await openRaw(gateway.port)
      raw.write(handshake('/free/room', ALICE))
      await raw.closed()
      t.match(raw.received(), /^HTTP\/1.1 403 Forbidden/)
      t.match(raw.received(), 'part')
      t.same(raw.responses(), [], 'no complete response')
      await gateway.recorded(1)
      t.match(gateway.records[0], { status: 403, error: 'upstream_failed' })
      await quiet(gateway)
    })
  }

  t.test('and never ends its answer is cut off by the handshake limit', async (t) => {
    const upstream = await startBare(t, (socket) => {
      socket.write('HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\npart')
    })
    const gateway = await startGateway(t, config([upstream.origin], '{ handshake: 200ms }'))
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/free/room', ALICE))
    await raw.closed()
    t.same(raw.responses(), [])
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 403, error: 'upstream_timeout' })
    await eventually('the upstream is let go', () => upstream.open() === 0)
    await quiet(gateway)
  })
})

t.test('an upstream that fails', async (t) => {
  const manyFields = Array.from({ length: 101 }, (_, i) => `X-${i}: 1\r\n`).join('')
  const failures: [what: string, answer: string | undefined, status: number, code: string][] = [
    ['by closing the connection', undefined, 502, 'upstream_failed'],
    ['by speaking no HTTP', 'SSH-2.0-OpenSSH_9.2\r\n', 502, 'upstream_bad_response'],
    ['by half a header', 'HTTP/1.1 101 Switch', 502, 'upstream_failed'],
    [
      'with a wrong Accept',
      SWITCHING.replace(ACCEPT, 'AAAAAAAAAAAAAAAAAAAAAAAAAAA='),
      502,
      'upstream_bad_response',
    ],
    ['without an Accept', SWITCHING.replace(/Sec.*\r\n\r/, '\r'), 502, 'upstream_bad_response'],
    ['with another protocol', SWITCHING.replace('websocket', 'h2c'), 502, 'upstream_bad_response'],
    ['without a protocol', SWITCHING.replace('Upgrade: websocket\r\n', ''), 502, 'upstream_bad_response'],
    [
      'with too many fields',
      SWITCHING.replace('\r\n\r\n', `\r\n${manyFields}\r\n`),
      502,
      'upstream_bad_response',
    ],
    [
      'with a refusal of too many fields',
      `HTTP/1.1 403 Forbidden\r\n${manyFields}Content-Length: 0\r\n\r\n`,
      502,
      'upstream_bad_response',
    ],
    [
      'with an answer of two lengths',
      'HTTP/1.1 403 Forbidden\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab',
      502,
      'upstream_bad_response',
    ],
  ]
  t.test('gives 502, and no byte of what it said', async (t) => {
    for (const [what, answer, status, code] of failures) {
      const upstream = await startBare(t, (socket) => {
        if (answer === undefined || answer.endsWith('Switch')) socket.end(answer ?? '')
        else socket.write(answer)
      })
      const gateway = await startGateway(t, config([upstream.origin]))
      const { responses, closed } = await rawExchange(gateway.port, `${handshake('/free/room', ALICE)}early`)
      t.ok(closed, what)
      t.equal(responses[0]!.status, status, what)
      t.match(JSON.parse(responses[0]!.body), { code }, what)
      t.notMatch(responses[0]!.body, '127.0.0.1', what)
      await gateway.recorded(1)
      t.match(gateway.records, [{ status, error: code }], what)
      await eventually(`the upstream is let go: ${what}`, () => upstream.open() === 0)
      t.notMatch(upstream.received(), 'early', what)
      await quiet(gateway)
    }
  })

  t.test('by not listening gives 502', async (t) => {
    const gateway = await startGateway(t, config([`http://127.0.0.1:${await freePort()}`]))
    const { responses } = await rawExchange(gateway.port, handshake('/free/room', ALICE))
    t.equal(responses[0]!.status, 502)
    t.match(JSON.parse(responses[0]!.body), { code: 'upstream_refused' })
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 502, error: 'upstream_refused', cause: /ECONNREFUSED/ })
    t.same(
      [...gateway.upstreams.health()].map(({ healthy }) => healthy),
      [false, false],
    )
  })

  t.test('by not listening is passed over while another one does', async (t) => {
    const chat = await startChat(t)
    const dead = `http://127.0.0.1:${await freePort()}`
    const gateway = await startGateway(t, config([dead, chat.origin]))
    for (let i = 0; i < 4; i++) {
      const socket = await opened(gateway.port)
      socket.send('x')
      await once(socket, 'message')
      socket.close()
    }
    t.equal(chat.handshakes.length, 4)
    await gateway.recorded(4)
    t.match(gateway.records[0], { status: 101, error: undefined, upstream: { origin: chat.origin } })
  })

  t.test('by never answering gives 504 within the handshake limit', async (t) => {
    const upstream = await startBare(t)
    const gateway = await startGateway(t, config([upstream.origin], '{ handshake: 200ms }'))
    const started = performance.now()
    const { responses, closed } = await rawExchange(gateway.port, handshake('/free/room', ALICE))
    const took = performance.now() - started
    t.ok(closed)
    t.equal(responses[0]!.status, 504)
    t.match(JSON.parse(responses[0]!.body), { code: 'upstream_timeout' })
    t.ok(took >= 200 && took < 2_000, `${took} ms`)
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 504, error: 'upstream_timeout' })
    await eventually('the upstream is let go', () => upstream.open() === 0)
    await quiet(gateway)
  })

  t.test('by having too much to do gives 503 and when to come back', async (t) => {
    const chat = await startChat(t)
    const yaml = config([chat.origin])
    const upstreams = createUpstreams(snapshotOf(yaml), { connections: 1, inFlight: 1 })
    t.teardown(() => upstreams.close())
    const gateway = await startGateway(t, yaml, { upstreams })
    for (let i = 0; i < 3; i++) {
      const socket = await opened(gateway.port)
      const { responses } = await rawExchange(gateway.port, handshake('/free/room', ALICE))
      t.equal(responses[0]!.status, 503)
      t.match(JSON.parse(responses[0]!.body), { code: 'overloaded' })
      t.equal(responses[0]!.header('retry-after'), '1')
      // A tunnel that has ended no longer counts.
      socket.close()
      await gateway.recorded(2 * (i + 1))
    }
  })
})

t.test('a client that leaves', async (t) => {
  const ways: [how: string, leave: (socket: Socket) => void][] = [
    ['with a FIN', (socket) => socket.end()],
    ['with a reset', (socket) => socket.resetAndDestroy()],
  ]
  for (const [how, leave] of ways) {
    t.test(`${how} while its quota is taken goes to no upstream`, async (t) => {
      const chat = await startChat(t)
      let decide: ((decision: Decision) => void) | undefined
      const take = () =>
        new Promise<Decision>((resolve) => {
          decide = resolve
        })
      const gateway = await startGateway(t, config([chat.origin]), { limiter: { take } })
      const raw = await openRaw(gateway.port)
      raw.write(handshake('/chat/room', ALICE))
      await eventually('the store is asked', () => decide !== undefined)
      leave(raw.socket)
      await gateway.recorded(1)
      t.match(gateway.records[0], { status: 499, error: 'client_closed', upstream: undefined })
      decide!(exampleDecision())
      await sleep(50)
      t.equal(chat.handshakes.length, 0)
      t.equal(gateway.records.length, 1)
      await quiet(gateway)
    })

    t.test(`${how} during the handshake takes the upstream’s connection along`, async (t) => {
      const upstream = await startBare(t)
      const gateway = await startGateway(t, config([upstream.origin]))
      const raw = await openRaw(gateway.port)
      raw.write(handshake('/chat/room', ALICE))
      await eventually('the upstream is asked', () => upstream.received() !== '')
      leave(raw.socket)
      await gateway.recorded(1)
      t.match(gateway.records[0], { status: 499, error: 'client_closed' })
      await eventually('the upstream is let go', () => upstream.open() === 0)
      await quiet(gateway)
    })

    t.test(`${how} while a refusal is relayed takes the upstream’s connection along`, async (t) => {
      const upstream = await startBare(t, (socket) => {
        socket.write('HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\npart')
      })
      const gateway = await startGateway(t, config([upstream.origin], '{ handshake: 300ms }'))
      const raw = await openRaw(gateway.port)
      raw.write(handshake('/chat/room', ALICE))
      await raw.until('the first part', () => raw.received().endsWith('part'))
      leave(raw.socket)
      await gateway.recorded(1)
      t.match(gateway.records[0], { status: 403 })
      await eventually('the upstream is let go', () => upstream.open() === 0)
      await quiet(gateway)
    })
  }

  t.test('in the middle of its refusal does no harm', async (t) => {
    const gateway = await startGateway(t, config(['http://127.0.0.1:1']))
    for (let i = 0; i < 20; i++) {
      const raw = await openRaw(gateway.port)
      raw.write(handshake('/nowhere'))
      if (i % 2 === 0) await sleep(1)
      raw.socket.resetAndDestroy()
    }
    const { responses } = await rawExchange(gateway.port, 'GET /nowhere HTTP/1.1\r\nHost: gateway\r\n\r\n')
    t.equal(responses[0]!.status, 404, 'the gateway goes on')
  })

  t.test('right after CONNECT does no harm', async (t) => {
    const gateway = await startGateway(t, config(['http://127.0.0.1:1']))
    for (let i = 0; i < 20; i++) {
      const raw = await openRaw(gateway.port)
      raw.write('CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n')
      raw.socket.resetAndDestroy()
    }
    const { responses } = await rawExchange(gateway.port, 'GET /nowhere HTTP/1.1\r\nHost: gateway\r\n\r\n')
    t.equal(responses[0]!.status, 404, 'the gateway goes on')
  })
})

t.test('limits of time', async (t) => {
  t.jobs = 4

  t.test('when one side has ended and the other does not, both are cut', async (t) => {
    const upstream = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => {})
      socket.once('data', () => socket.write(SWITCHING))
    }).listen(0, '127.0.0.1')
    await once(upstream, 'listening')
    t.teardown(() => upstream.close())
    const { port } = upstream.address() as { port: number }
    const gateway = await startGateway(t, config([`http://127.0.0.1:${port}`]))
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/free/room', ALICE))
    await raw.until('101', () => raw.responses().length === 1)
    raw.socket.end()
    await raw.closed()
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 101, error: undefined })
    await quiet(gateway)
  })

  t.test('a tunnel without a byte for its idle limit is closed with 1001 on both sides', async (t) => {
    const chat = await startChat(t)
    const gateway = await startGateway(t, config([chat.origin], '{ idle: 200ms }'))
    const started = performance.now()
    const socket = await opened(gateway.port)
    await eventually('the upstream has its end', () => chat.sockets.length === 1)
    const seen = closeOf(chat.sockets[0]!)
    t.equal((await closeOf(socket)).code, 1001)
    t.equal((await seen).code, 1001)
    t.ok(performance.now() - started >= 200)
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 101, error: 'request_timeout', cause: /no byte .* for 200 ms/ })
    await quiet(gateway)
  })

  t.test('a tunnel in use is not idle, whichever side speaks', async (t) => {
    const chat = await startChat(t, () => {})
    const gateway = await startGateway(t, config([chat.origin], '{ idle: 300ms }'))
    const socket = await opened(gateway.port)
    await eventually('the upstream has its end', () => chat.sockets.length === 1)
    for (let i = 0; i < 10; i++) {
      await sleep(60)
      if (i < 5) socket.send('x')
      else chat.sockets[0]!.send('x')
    }
    t.equal(socket.readyState, WebSocket.OPEN)
    socket.close()
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 101, error: undefined })
  })

  t.test('an idle tunnel whose client is dead is cut', async (t) => {
    const chat = await startChat(t)
    const gateway = await startGateway(t, config([chat.origin], '{ idle: 100ms }'))
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/free/room', ALICE))
    // Says nothing to the Close either.
    await raw.closed()
    t.ok(raw.received().endsWith('\r\n\r\n\x88\x02\x03\xe9'))
    await gateway.recorded(1)
    await quiet(gateway)
  })
})

t.test('a drain', async (t) => {
  t.test('closes every tunnel with 1001 on both sides, and the server with them', async (t) => {
    const chat = await startChat(t)
    const gateway = await startGateway(t, config([chat.origin]))
    const sockets = [await opened(gateway.port), await opened(gateway.port)]
    await eventually('the upstream has its ends', () => chat.sockets.length === 2)
    const codes = Promise.all([...sockets, ...chat.sockets].map((socket) => closeOf(socket)))
    await gateway.app.close()
    t.same(
      (await codes).map(({ code }) => code),
      [1001, 1001, 1001, 1001],
    )
    t.match(gateway.records, [
      { status: 101, error: 'draining' },
      { status: 101, error: 'draining' },
    ])
  })

  t.test('does not put its Close into the middle of a frame', async (t) => {
    let upstream: Socket | undefined
    const bare = await startBare(t, (socket) => {
      upstream = socket
      socket.write(`${SWITCHING}\x81\x0ahello`, 'latin1')
    })
    const gateway = await startGateway(t, config([bare.origin]))
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/free/room', ALICE))
    await raw.until('half a frame', () => raw.received().endsWith('hello'))
    const closed = gateway.app.close()
    await sleep(100)
    t.ok(raw.received().endsWith('hello'), 'waits for the frame')
    upstream!.write('world\x81\x04more', 'latin1')
    await raw.until('Close', () => raw.received().endsWith('\x81\x0ahelloworld\x88\x02\x03\xe9'))
    raw.socket.end('\x88\x82\0\0\0\0\x03\xe9', 'latin1')
    await closed
    t.ok(bare.received().endsWith('\x88\x82\0\0\0\0\x03\xe9'), 'the upstream gets the client’s Close')
    t.notMatch(raw.received(), 'more')
  })

  t.test('adds no Close to the upstream’s own', async (t) => {
    const bare = await startBare(t, (socket) => socket.write(`${SWITCHING}\x88\x02\x0f\xa1`, 'latin1'))
    const gateway = await startGateway(t, config([bare.origin]))
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/free/room', ALICE))
    await raw.until('Close', () => raw.received().endsWith('\x88\x02\x0f\xa1'))
    await gateway.app.close()
    t.ok(raw.received().endsWith('\r\n\r\n\x88\x02\x0f\xa1'))
    await raw.closed()
  })

  t.test('answers a handshake that is under way with 503', async (t) => {
    let upstream: Socket | undefined
    const bare = await startBare(t, (socket) => {
      upstream = socket
    })
    const gateway = await startGateway(t, config([bare.origin]))
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/free/room', ALICE))
    await eventually('the upstream is asked', () => upstream !== undefined)
    const closed = gateway.app.close()
    await sleep(20)
    upstream!.write(SWITCHING)
    await raw.closed()
    t.equal(raw.responses()[0]!.status, 503)
    t.match(JSON.parse(raw.responses()[0]!.body), { code: 'draining' })
    await closed
    await eventually('the upstream is let go', () => bare.open() === 0)
  })
})
