// Tests src/gateway/websocket/{tunnel,upgrades}.ts
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { WebSocket } from 'ws'
import { eventually } from '../../support/eventually.js'
import { startGateway } from '../../support/gateway/gateway.js'
import { openRaw, rawExchange } from '../../support/http/raw.js'
import {
  ACCEPT,
  ALICE,
  chatConfig,
  closeOf,
  dial,
  handshake,
  KEY,
  opened,
  quiet,
  SWITCHING,
  startBare,
  startChat,
} from '../../support/http/websocket.js'

t.test('the tunnel', async (t) => {
  t.test('echoes what a client sends, text and binary', async (t) => {
    const chat = await startChat(t)
    const gateway = await startGateway(t, chatConfig([chat.origin]))
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

  t.test('passes messages of 8 MB both ways unchanged, and counts their bytes', async (t) => {
    const chat = await startChat(t)
    const gateway = await startGateway(t, chatConfig([chat.origin]))
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

  t.test('slows the upstream down when the client does not read', async (t) => {
    const chat = await startChat(t, () => {})
    const gateway = await startGateway(t, chatConfig([chat.origin]))
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
    // The rest is in the kernel's buffers, some MB at most for each of the two connections.
    t.ok(before > 32 << 20, `${before} of ${64 << 20} bytes wait at the upstream`)
    let received = 0
    socket.on('message', (data: Buffer) => {
      received += data.length
    })
    socket.resume()
    await eventually('all has come', () => received === 64 << 20, 60_000)
    socket.terminate()
    await gateway.recorded(1)
  })

  t.test('slows the client down when the upstream does not read', async (t) => {
    let received = 0
    const chat = await startChat(t, (socket) => {
      socket.pause()
      socket.on('message', (data: Buffer) => {
        received += data.length
      })
    })
    const gateway = await startGateway(t, chatConfig([chat.origin]))
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
    await eventually('all has come', () => received === 64 << 20, 60_000)
    socket.terminate()
    await gateway.recorded(1)
    await quiet(gateway)
  })

  t.test('survives a reload and keeps its upstream', async (t) => {
    const chat = await startChat(t)
    const other = await startChat(t, (socket) => socket.close(4000))
    const gateway = await startGateway(t, chatConfig([chat.origin]))
    const socket = await opened(gateway.port)
    gateway.use(chatConfig([other.origin]))
    socket.send('still here')
    t.equal(String((await once(socket, 'message'))[0]), 'still here')
    t.equal((await closeOf(dial(gateway.port))).code, 4000, 'a new one goes to the new upstream')
    socket.close()
    await gateway.recorded(2)
    t.match(gateway.records[1], { status: 101, error: undefined, upstream: { origin: chat.origin } })
  })

  t.test('has the subprotocol that the upstream picks', async (t) => {
    const chat = await startChat(t, undefined, { handleProtocols: () => 'chat.v2' })
    const gateway = await startGateway(t, chatConfig([chat.origin]))
    const socket = await opened(gateway.port, '/free/room', ['chat.v1', 'chat.v2'])
    t.equal(socket.protocol, 'chat.v2')
    t.equal(chat.handshakes[0]!.headers['sec-websocket-protocol'], 'chat.v1,chat.v2')
    socket.terminate()
  })

  t.test('passes compression that both ends agree on', async (t) => {
    const chat = await startChat(t, undefined, { perMessageDeflate: { threshold: 0 } })
    const gateway = await startGateway(t, chatConfig([chat.origin]))
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
    t.test(`passes a client's close code ${code} to the upstream`, async (t) => {
      const chat = await startChat(t)
      const gateway = await startGateway(t, chatConfig([chat.origin]))
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
    t.test(`passes an upstream's close code ${code} to the client`, async (t) => {
      const chat = await startChat(t, (socket) => socket.close(code, reason))
      const gateway = await startGateway(t, chatConfig([chat.origin]))
      const socket = dial(gateway.port)
      t.same(await closeOf(socket), { code, reason })
      await gateway.recorded(1)
      t.match(gateway.records[0], { status: 101, error: undefined })
    })
  }

  t.test('loses no frames that the upstream sends along with its 101', async (t) => {
    const upstream = await startBare(t, (socket) => socket.write(`${SWITCHING}\x81\x02hi`, 'latin1'))
    const gateway = await startGateway(t, chatConfig([upstream.origin]))
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/free/room', ALICE))
    await raw.until('frame', () => raw.received().endsWith('\r\n\r\n\x81\x02hi'))
    raw.socket.destroy()
  })

  t.test('ends without a close code when the upstream breaks off, and records that', async (t) => {
    const upstream = await startBare(t, (socket) => socket.write(SWITCHING))
    const gateway = await startGateway(t, chatConfig([upstream.origin]))
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

  t.test('ends at the upstream when the client breaks off, and records that', async (t) => {
    const chat = await startChat(t)
    const gateway = await startGateway(t, chatConfig([chat.origin]))
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
    'brings the upstream the verified identity, our forwarding fields and nothing hop-by-hop',
    async (t) => {
      const chat = await startChat(t)
      const gateway = await startGateway(t, chatConfig([chat.origin]))
      const raw = await openRaw(gateway.port)
      raw.write(
        handshake('/chat//a%7e?room=%2F&to=http:/x', {
          Host: 'api.example.com',
          Connection: 'keep-alive, Upgrade, X-Hop',
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

  t.test("carries a trusted proxy's forwarding fields on", async (t) => {
    const chat = await startChat(t)
    const gateway = await startGateway(t, chatConfig([chat.origin], 'true', 'trusted_proxies: [127.0.0.1]'))
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

  t.test("brings the client the upstream's fields without hop-by-hop ones, and its quota", async (t) => {
    const upstream = await startBare(t, (socket) =>
      socket.write(
        'HTTP/1.1 101 Whatever\r\nupgrade: WebSocket\r\nconnection: Upgrade, X-Hop\r\nX-Hop: secret\r\n' +
          `sec-websocket-accept: ${ACCEPT}\r\nSec-WebSocket-Protocol: chat\r\nKeep-Alive: timeout=5\r\n` +
          'Set-Cookie: a=1\r\nset-cookie: b=2\r\nX-Latin: caf\xe9\r\nRateLimit: "their";r=0\r\nContent-Length: 0\r\n\r\n',
        'latin1',
      ),
    )
    const gateway = await startGateway(t, chatConfig([upstream.origin]))
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

  t.test('takes quota: the 11th of 10 is 429', async (t) => {
    const chat = await startChat(t)
    const gateway = await startGateway(t, chatConfig([chat.origin]))
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
    // Traffic through a tunnel takes no quota.
    for (const socket of sockets) {
      socket.send('x')
      t.equal(String((await once(socket, 'message'))[0]), 'x')
      socket.close()
    }
    await gateway.recorded(11)
  })

  t.test('is followed by bytes that came before the 101', async (t) => {
    let answer: Socket | undefined
    const upstream = await startBare(t, (socket) => {
      answer = socket
    })
    const gateway = await startGateway(t, chatConfig([upstream.origin]))
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

  t.test('that is refused drops the bytes after it: they reach no upstream and are no request', async (t) => {
    const upstream = await startBare(t, (socket) =>
      socket.write('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno'),
    )
    const gateway = await startGateway(t, chatConfig([upstream.origin]))
    const bytes = handshake('/free/room', ALICE) + handshake('/free/smuggled', ALICE)
    const { responses, closed } = await rawExchange(gateway.port, bytes)
    t.ok(closed)
    t.equal(responses.length, 1)
    t.match(responses[0], { status: 403, body: 'no' })
    t.notMatch(upstream.received(), 'smuggled')
    t.equal(upstream.sockets.length, 1)
    t.equal(gateway.records.length, 1)
  })

  t.test('may follow requests on the same connection', async (t) => {
    const chat = await startChat(t)
    const gateway = await startGateway(t, chatConfig([chat.origin]))
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

  t.test('after an unfinished response is refused once that has come', async (t) => {
    const upstream = await startBare(t, (socket) => {
      setTimeout(() => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow'), 50)
    })
    const gateway = await startGateway(t, chatConfig([upstream.origin]))
    const slow = `GET /plain/slow HTTP/1.1\r\nHost: gateway\r\nX-Api-Key: secret-of-alice\r\n\r\n`
    const { responses, closed } = await rawExchange(gateway.port, slow + handshake('/free/room', ALICE), {
      responses: 2,
    })
    t.match(responses, [{ status: 200, body: 'slow' }, { status: 400 }])
    t.ok(closed)
    t.match(gateway.records, [{ status: 200 }, { status: 400, error: 'bad_request' }])
    t.equal(upstream.sockets.length, 1)
  })

  t.test('after a refusal that closes the connection gets no response', async (t) => {
    const upstream = await startBare(t)
    const gateway = await startGateway(t, chatConfig([upstream.origin]))
    const closing = 'GET /plain/x HTTP/1.1\r\n\r\n'
    const { responses, closed } = await rawExchange(gateway.port, closing + handshake('/free/room', ALICE))
    t.match(responses, [{ status: 400 }])
    t.ok(closed)
    t.equal(responses.length, 1)
    t.equal(upstream.sockets.length, 0)
    t.match(gateway.records, [{ status: 400, error: 'bad_host' }])
  })
})
