// Tests src/gateway/websocket/session-revocation.ts
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { issueKey } from '../../../src/admin/routes/issue-key.js'
import { createTokens } from '../../../src/credentials/tokens.js'
import { API_KEYS } from '../../../src/fleet/api-keys.js'
import { BANS, createBans } from '../../../src/fleet/bans.js'
import { createKeyring, createKeyStore } from '../../../src/fleet/keyring.js'
import { createMemoryLastUsed } from '../../../src/fleet/last-used.js'
import { createMemoryMap } from '../../../src/fleet/replicated-map.js'
import type { Decision } from '../../../src/limiter/limiter.js'
import { createKey, type SigningKey, startJwksServer, tokenOf } from '../../support/credentials/issuer.js'
import { eventually } from '../../support/eventually.js'
import { startGateway, type TestGateway } from '../../support/gateway/gateway.js'
import { exampleDecision } from '../../support/gateway/snapshot.js'
import { createSteppedWatchdog } from '../../support/gateway/stepped-watchdog.js'
import { hangingListener, refusingPort } from '../../support/http/hanging-listener.js'
import { openRaw, rawExchange } from '../../support/http/raw.js'
import {
  ACCEPT,
  ALICE,
  answerClose,
  beginDrain,
  CLIENT_CLOSE,
  chatConfig,
  closeOf,
  handshake,
  opened,
  quiet,
  SWITCHING,
  startBare,
  startChat,
} from '../../support/http/websocket.js'

/** The Close 1008 without a reason. */
const FORBIDDEN = '\x88\x02\x03\xf0'

const GOING_AWAY = '\x88\x02\x03\xe9'

t.test('an upstream that fails', async (t) => {
  t.jobs = 4

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
  t.test('gives 502, and none of its bytes', async (t) => {
    for (const [what, answer, status, code] of failures) {
      const upstream = await startBare(t, (socket) => {
        if (answer === undefined || answer.endsWith('Switch')) socket.end(answer ?? '')
        else socket.write(answer)
      })
      const gateway = await startGateway(t, chatConfig([upstream.origin]))
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
    const { origin } = await refusingPort()
    const gateway = await startGateway(t, chatConfig([origin]))
    const { responses } = await rawExchange(gateway.port, handshake('/free/room', ALICE))
    t.equal(responses[0]!.status, 502)
    t.match(JSON.parse(responses[0]!.body), { code: 'upstream_refused' })
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 502, error: 'upstream_refused', cause: /ECONNREFUSED/ })
    t.same(
      [...gateway.upstreams.health()].map(({ healthy }) => healthy),
      [true, false],
      'the other service has not tried it',
    )
  })

  t.test('by not listening is passed over for another one', async (t) => {
    const chat = await startChat(t)
    const { origin: dead } = await refusingPort()
    const gateway = await startGateway(t, chatConfig([dead, chat.origin]))
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

  t.test('by neither refusing nor accepting gives 504 after the connect timeout', async (t) => {
    const { origin } = await hangingListener(t)
    const yaml = chatConfig([origin]).replace('service: free,', '$& timeouts: { connect: 200ms },')
    const gateway = await startGateway(t, yaml)
    const { responses } = await rawExchange(gateway.port, handshake('/free/room', ALICE))
    t.equal(responses[0]!.status, 504)
    t.match(JSON.parse(responses[0]!.body), { code: 'upstream_connect_timeout' })
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 504, error: 'upstream_connect_timeout' })
    const { durationMs } = gateway.records[0]!
    t.ok(durationMs >= 200 && durationMs < 8_000, `${durationMs} ms`)
    await quiet(gateway)
  })

  t.test('by never answering gives 504 after the handshake timeout', async (t) => {
    const upstream = await startBare(t)
    const gateway = await startGateway(t, chatConfig([upstream.origin], '{ handshake: 200ms }'))
    const started = performance.now()
    const { responses, closed } = await rawExchange(gateway.port, handshake('/free/room', ALICE))
    const took = performance.now() - started
    t.ok(closed)
    t.equal(responses[0]!.status, 504)
    t.match(JSON.parse(responses[0]!.body), { code: 'upstream_timeout' })
    t.ok(took >= 200 && took < 8_000, `${took} ms`)
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 504, error: 'upstream_timeout' })
    await eventually('the upstream is let go', () => upstream.open() === 0)
    await quiet(gateway)
  })

  t.test('by being full gives 503 and when to retry', async (t) => {
    const chat = await startChat(t)
    const yaml = chatConfig([chat.origin]).replace(
      /(free: \{ upstreams: \[.*?\])/,
      '$1, max_tunnels: 1, max_tunnels_per_client: 0',
    )
    const gateway = await startGateway(t, yaml)
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
    t.test(`${how} during the quota check reaches no upstream`, async (t) => {
      const chat = await startChat(t)
      let decide: ((decision: Decision) => void) | undefined
      const take = () =>
        new Promise<Decision>((resolve) => {
          decide = resolve
        })
      const gateway = await startGateway(t, chatConfig([chat.origin]), { limiter: { take } })
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

    t.test(`${how} during the handshake closes the upstream's connection, too`, async (t) => {
      const upstream = await startBare(t)
      const gateway = await startGateway(t, chatConfig([upstream.origin]))
      const raw = await openRaw(gateway.port)
      raw.write(handshake('/chat/room', ALICE))
      await eventually('the upstream is asked', () => upstream.received() !== '')
      leave(raw.socket)
      await gateway.recorded(1)
      t.match(gateway.records[0], { status: 499, error: 'client_closed' })
      await eventually('the upstream is let go', () => upstream.open() === 0)
      await quiet(gateway)
    })

    t.test(`${how} while a refusal is relayed closes the upstream's connection, too`, async (t) => {
      const upstream = await startBare(t, (socket) => {
        socket.write('HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\npart')
      })
      const watchdog = createSteppedWatchdog()
      const gateway = await startGateway(t, chatConfig([upstream.origin]), { watchdog })
      const raw = await openRaw(gateway.port)
      raw.write(handshake('/chat/room', ALICE))
      await raw.until('the first part', () => raw.received().endsWith('part'))
      leave(raw.socket)
      if (how === 'with a FIN') {
        await sleep(50)
        t.same(gateway.records, [], 'the client may read on')
        watchdog.pass(60_000)
      }
      await gateway.recorded(1)
      t.match(gateway.records[0], {
        status: 403,
        error: how === 'with a reset' ? 'client_closed' : 'upstream_cut',
      })
      await eventually('the upstream is let go', () => upstream.open() === 0)
      await quiet(gateway)
    })
  }

  t.test('in the middle of its refusal does no harm', async (t) => {
    const gateway = await startGateway(t, chatConfig(['http://127.0.0.1:1']))
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
    const gateway = await startGateway(t, chatConfig(['http://127.0.0.1:1']))
    for (let i = 0; i < 20; i++) {
      const raw = await openRaw(gateway.port)
      raw.write('CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n')
      raw.socket.resetAndDestroy()
    }
    const { responses } = await rawExchange(gateway.port, 'GET /nowhere HTTP/1.1\r\nHost: gateway\r\n\r\n')
    t.equal(responses[0]!.status, 404, 'the gateway goes on')
  })
})

t.test('timeouts', async (t) => {
  t.jobs = 4

  t.test('cut both sides when one has ended and the other does not', async (t) => {
    const halfOpen: Socket[] = []
    const upstream = createServer({ allowHalfOpen: true }, (socket) => {
      halfOpen.push(socket)
      socket.on('error', () => {})
      socket.once('data', () => socket.write(SWITCHING))
    }).listen(0, '127.0.0.1')
    await once(upstream, 'listening')
    t.teardown(() => {
      for (const socket of halfOpen) socket.destroy()
      upstream.close()
    })
    const { port } = upstream.address() as { port: number }
    const watchdog = createSteppedWatchdog()
    const gateway = await startGateway(t, chatConfig([`http://127.0.0.1:${port}`]), { watchdog })
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/free/room', ALICE))
    await raw.until('101', () => raw.responses().length === 1)
    raw.socket.end()
    await eventually('the FIN is passed on', () => halfOpen[0]!.readableEnded)
    // The first check sees what has moved so far.
    watchdog.pass(0)
    watchdog.pass(2_000)
    await sleep(20)
    t.same(gateway.records, [])
    watchdog.pass(1)
    await raw.closed()
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 101, error: undefined })
    await quiet(gateway)
  })

  t.test('close an idle tunnel with 1001 on both sides', async (t) => {
    const chat = await startChat(t)
    const watchdog = createSteppedWatchdog()
    const gateway = await startGateway(t, chatConfig([chat.origin], '{ idle: 1m }'), { watchdog })
    const socket = await opened(gateway.port)
    await eventually('the upstream has its end', () => chat.sockets.length === 1)
    const seen = Promise.all([closeOf(socket), closeOf(chat.sockets[0]!)])
    watchdog.pass(0)
    watchdog.pass(60_000)
    await sleep(20)
    t.same([socket.readyState, chat.sockets[0]!.readyState], [WebSocket.OPEN, WebSocket.OPEN])
    watchdog.pass(1)
    t.same(
      (await seen).map(({ code }) => code),
      [1001, 1001],
    )
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 101, error: 'request_timeout', cause: /no byte .* for 60000 ms/ })
    await quiet(gateway)
  })

  t.test('do not count a tunnel as idle while either side sends', async (t) => {
    const chat = await startChat(t, () => {})
    const watchdog = createSteppedWatchdog()
    const gateway = await startGateway(t, chatConfig([chat.origin], '{ idle: 1m }'), { watchdog })
    const socket = await opened(gateway.port)
    await eventually('the upstream has its end', () => chat.sockets.length === 1)
    for (let i = 0; i < 10; i++) {
      const [from, to] = i < 5 ? [socket, chat.sockets[0]!] : [chat.sockets[0]!, socket]
      const arrived = once(to, 'message')
      from.send('x')
      await arrived
      watchdog.pass(60_000)
    }
    t.equal(socket.readyState, WebSocket.OPEN)
    t.same(gateway.records, [])
    socket.close()
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 101, error: undefined })
  })

  t.test('cut an idle tunnel whose client is dead', async (t) => {
    const chat = await startChat(t)
    const watchdog = createSteppedWatchdog()
    const gateway = await startGateway(t, chatConfig([chat.origin], '{ idle: 1m }'), { watchdog })
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/free/room', ALICE))
    await raw.until('101', () => raw.responses().length === 1)
    watchdog.pass(0)
    watchdog.pass(60_001)
    await raw.until('Close', () => raw.received().endsWith('\r\n\r\n\x88\x02\x03\xe9'))
    // The client does not answer the Close either.
    watchdog.pass(2_000)
    await sleep(20)
    t.same(gateway.records, [])
    watchdog.pass(1)
    await raw.closed()
    t.ok(raw.received().endsWith('\r\n\r\n\x88\x02\x03\xe9'))
    await gateway.recorded(1)
    await quiet(gateway)
  })
})

t.test('a ban', async (t) => {
  const FORWARDED = 'trusted_proxies: [127.0.0.1]'

  async function start(t: Test, more: string) {
    const chat = await startChat(t)
    const map = createMemoryMap(BANS)
    const bans = createBans({ map })
    t.teardown(() => {
      bans.close()
      return map.close()
    })
    const gateway = await startGateway(t, chatConfig([chat.origin], 'true', more), { bans })
    const from = async (address: string) => {
      const raw = await openRaw(gateway.port)
      raw.write(handshake('/free/room', { ...ALICE, 'X-Forwarded-For': address }))
      await eventually('the tunnel is open', () => raw.received().includes('101 Switching'))
      return raw
    }
    return { chat, map, gateway, from }
  }
  const BAN = { source: 'manual', since: 1, reason: 'a test' } as const

  t.test('closes the tunnels of its address with 1008, and no other', async (t) => {
    const { map, gateway, from } = await start(t, FORWARDED)
    const banned = await from('203.0.113.9')
    const other = await from('198.51.100.7')
    await map.set('203.0.113.0/24', BAN)
    await answerClose(banned, FORBIDDEN)
    await gateway.recorded(1)
    t.match(gateway.records, [
      { status: 101, error: 'forbidden', clientIp: '203.0.113.9', cause: 'ban 203.0.113.0/24: a test' },
    ])
    other.write('\x89\x80\x00\x00\x00\x00')
    await eventually('the other one is answered', () => other.received().endsWith('\x8a\x00'))
    other.socket.destroy()
    await gateway.recorded(2)
    await quiet(gateway)
  })

  t.test('closes none of a trusted proxy, nor of an address that edge.allow lets in', async (t) => {
    const { map, gateway, from } = await start(t, `${FORWARDED}\nedge: { allow: [203.0.113.9] }`)
    const allowed = await from('203.0.113.9')
    const proxy = await from('127.0.0.1')
    const banned = await from('203.0.113.8')
    await map.set('203.0.113.0/24', BAN)
    await map.set('127.0.0.0/8', BAN)
    await answerClose(banned, FORBIDDEN)
    for (const raw of [allowed, proxy]) {
      raw.write('\x89\x80\x00\x00\x00\x00')
      await eventually('it is answered', () => raw.received().endsWith('\x8a\x00'))
      raw.socket.destroy()
    }
    await gateway.recorded(3)
    await quiet(gateway)
  })
})

/** Starts a gateway whose API keys are in a store of its own. */
async function startWithKeys(t: Test, clock = { now: Date.now() }) {
  const chat = await startChat(t)
  const map = createMemoryMap(API_KEYS)
  t.teardown(() => map.close())
  const store = createKeyStore(() => map, createMemoryLastUsed(10))
  const keyring = createKeyring({ store: () => store })
  await keyring.hold(true)
  const ask = { consumer: 'bob', tier: undefined, tenant: undefined, scopes: undefined, name: undefined }
  const make = async (lifetime: number | undefined) =>
    (await issueKey(store, { ...ask, lifetime }, clock.now))!
  const config = chatConfig([chat.origin]).replace('api_key: { keys', 'api_key: { store: true, keys')
  const gateway = await startGateway(t, config, { keyring, unixTime: () => clock.now })
  const by = async (key: string) => {
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/free/room', { 'X-Api-Key': key }))
    await eventually('the tunnel is open', () => raw.received().includes('101 Switching'))
    return raw
  }
  return { map, make, gateway, by }
}

t.test('revoking a key of the store closes its tunnels', async (t) => {
  const { map, make, gateway, by } = await startWithKeys(t)
  const [one, two] = [await make(undefined), await make(undefined)]
  const [revoked, other, filed] = [await by(one.key), await by(two.key), await by('secret-of-alice')]
  await map.set(one.stored.id, undefined)
  await answerClose(revoked, FORBIDDEN)
  await gateway.recorded(1)
  t.match(gateway.records, [{ status: 101, error: 'forbidden', cause: 'its API key is no longer valid' }])
  for (const raw of [other, filed]) {
    raw.write('\x89\x80\x00\x00\x00\x00')
    await eventually('the others are answered', () => raw.received().endsWith('\x8a\x00'))
    raw.socket.destroy()
  }
  await gateway.recorded(3)
  await quiet(gateway)
})

t.test('a credential that expires or is revoked', async (t) => {
  const ended = (reason: string) => `\x88${String.fromCharCode(2 + reason.length)}\x03\xf0${reason}`
  const answers = async (raw: Awaited<ReturnType<typeof openRaw>>) => {
    raw.write('\x89\x80\x00\x00\x00\x00')
    await eventually('it is answered', () => raw.received().endsWith('\x8a\x00'))
  }

  t.test('closes the tunnels of its API key, and tells the client', async (t) => {
    const clock = { now: Date.now() }
    const { map, make, gateway, by } = await startWithKeys(t, clock)
    const [one, two, three] = [await make(60_000), await make(60_001), await make(undefined)]
    const [first, second, rotated] = [await by(one.key), await by(two.key), await by(three.key)]
    clock.now += 59_999
    for (const raw of [first, second, rotated]) await answers(raw)
    clock.now++
    await answerClose(first, ended('The API key has expired.'))
    await gateway.recorded(1)
    t.match(gateway.records, [{ status: 101, error: 'forbidden', cause: 'its API key has expired' }])
    await answers(second)
    await map.set(three.stored.id, { ...three.stored, expires: clock.now + 10 })
    await answers(rotated)
    clock.now += 10
    await Promise.all([second, rotated].map((raw) => answerClose(raw, ended('The API key has expired.'))))
    await gateway.recorded(3)
    await quiet(gateway)
  })

  t.test(
    'closes the tunnels of its token after leeway, and those of a key that the issuer withdraws',
    async (t) => {
      const clock = { now: Date.now() }
      const chat = await startChat(t)
      const [lasting, leaving] = [createKey('p256', 'lasting'), createKey('p256', 'leaving')]
      const jwks = await startJwksServer(t, [lasting.jwk, leaving.jwk])
      let fetchAgain = () => {}
      const tokens = createTokens({
        log: { info() {}, warn() {} },
        now: () => clock.now,
        jwks: {
          after(_, run) {
            fetchAgain = run
            return () => {}
          },
        },
      })
      t.teardown(() => tokens.close())
      const iss = 'https://id.example.com'
      const source = `jwt: { issuer: "${iss}", audience: api, jwks_url: "${jwks.url}", leeway: 5s }`
      const config = chatConfig([chat.origin]).replace(/api_key: .*/, source)
      const gateway = await startGateway(t, config, { tokens, unixTime: () => clock.now })
      const by = async (key: SigningKey, seconds: number) => {
        const exp = Math.floor(clock.now / 1000) + seconds
        const claims = { iss, aud: 'api', sub: 'alice', exp }
        const raw = await openRaw(gateway.port)
        const token = tokenOf({ alg: 'ES256', kid: key.kid }, claims, key.privateKey)
        raw.write(handshake('/free/room', { Authorization: `Bearer ${token}` }))
        await eventually('the tunnel is open', () => raw.received().includes('101 Switching'))
        return { raw, until: exp * 1000 + 5000 }
      }
      const [short, long, other] = [
        await by(lasting, 60),
        await by(lasting, 86_400 * 365),
        await by(leaving, 600),
      ]
      clock.now = short.until - 1
      for (const { raw } of [short, long, other]) await answers(raw)
      clock.now++
      await answerClose(short.raw, ended('The token has expired.'))
      jwks.answer([lasting.jwk])
      fetchAgain()
      await eventually('the keys are fetched', () => tokens.readings()[1]?.jwks?.keys === 1)
      clock.now += 10_000
      await answerClose(other.raw, FORBIDDEN)
      await gateway.recorded(2)
      t.match(gateway.records, [
        { status: 101, error: 'forbidden', cause: 'its token has expired' },
        { status: 101, error: 'forbidden', cause: 'the issuer of its token has withdrawn the key' },
      ])
      await answers(long.raw)
      long.raw.socket.destroy()
      await gateway.recorded(3)
      await quiet(gateway)
    },
  )
})

/** Resolves with the gateway's side of the next connection. */
async function ownSocket(gateway: TestGateway): Promise<Socket> {
  const [socket] = await once(gateway.app.server, 'connection')
  return socket
}

t.test('a drain', async (t) => {
  t.jobs = 4

  t.test('closes every tunnel with 1001 on both sides, and the server with them', async (t) => {
    const chat = await startChat(t)
    const gateway = await startGateway(t, chatConfig([chat.origin]))
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
    const gateway = await startGateway(t, chatConfig([bare.origin]))
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/free/room', ALICE))
    await raw.until('half a frame', () => raw.received().endsWith('hello'))
    const { closed } = await beginDrain(gateway)
    await sleep(20)
    t.ok(raw.received().endsWith('hello'), 'waits for the frame')
    upstream!.write('world\x81\x04more', 'latin1')
    await raw.until('Close', () => raw.received().endsWith(`\x81\x0ahelloworld${GOING_AWAY}`))
    raw.socket.end(CLIENT_CLOSE, 'latin1')
    await closed
    t.ok(bare.received().endsWith(CLIENT_CLOSE), 'the upstream gets the client’s Close')
    t.notMatch(raw.received(), 'more')
  })

  /** Opens a client that has read the beginning of a message of 32 MiB, far more than the buffers on its way hold, and stops. */
  async function startStalled(t: Test, more: string) {
    const chat = await startChat(t, (socket) => socket.send(Buffer.alloc(MESSAGE, 'x')))
    const watchdog = createSteppedWatchdog()
    const gateway = await startGateway(t, chatConfig([chat.origin], 'true', more), { watchdog })
    const accepted = ownSocket(gateway)
    const raw = await openRaw(gateway.port)
    const own = await accepted
    raw.write(handshake('/free/room', ALICE))
    await raw.until('the beginning of the frame', () => raw.received().includes('\r\n\r\n\x82\x7f'))
    raw.socket.pause()
    await eventually('the gateway cannot write on', async () => {
      const { bytesWritten } = own
      await sleep(50)
      return own.writableNeedDrain && own.bytesWritten === bytesWritten
    })
    return { watchdog, gateway, raw }
  }
  const MESSAGE = 32 << 20

  t.test('lets a message that is on its way to a slow client finish', async (t) => {
    const { watchdog, gateway, raw } = await startStalled(t, 'server: { shutdown_grace: 30s }')
    const { closed } = await beginDrain(gateway)
    watchdog.pass(30_000)
    await sleep(20)
    t.same(gateway.records, [], 'the grace is not over')
    raw.socket.resume()
    const frame = raw.received().indexOf('\r\n\r\n') + 4
    const whole = frame + 10 + MESSAGE + GOING_AWAY.length
    await eventually('the message and the Close have come', () => raw.socket.bytesRead >= whole)
    raw.socket.end(CLIENT_CLOSE, 'latin1')
    await closed
    await raw.closed()
    t.equal(raw.received().length, whole)
    t.ok(raw.received().endsWith(`x${GOING_AWAY}`))
    t.match(gateway.records, [{ status: 101, error: 'draining' }])
  })

  t.test('cuts a client that takes neither its message nor the Close', async (t) => {
    const { watchdog, gateway, raw } = await startStalled(t, 'server: { shutdown_grace: 0s }')
    const { closed } = await beginDrain(gateway)
    watchdog.pass(2_000)
    await sleep(20)
    t.same(gateway.records, [])
    watchdog.pass(1)
    await closed
    t.match(gateway.records, [{ status: 101, error: 'draining' }])
    raw.socket.destroy()
  })

  t.test('gives a client 2 s to answer the Close once the Close has been sent', async (t) => {
    let upstream: Socket | undefined
    const bare = await startBare(t, (socket) => {
      upstream = socket
      socket.write(`${SWITCHING}\x81\x0ahello`, 'latin1')
    })
    const watchdog = createSteppedWatchdog()
    const yaml = chatConfig([bare.origin], 'true', 'server: { shutdown_grace: 30s }')
    const gateway = await startGateway(t, yaml, { watchdog })
    const accepted = ownSocket(gateway)
    const raw = await openRaw(gateway.port)
    const own = await accepted
    raw.write(handshake('/free/room', ALICE))
    await raw.until('half a frame', () => raw.received().endsWith('hello'))
    const { closed } = await beginDrain(gateway)
    // Holds written bytes back, like a client that does not read.
    own.cork()
    upstream!.write('world')
    await eventually('the Close is queued', () => own.writableLength === 5 + GOING_AWAY.length)
    watchdog.pass(10_000)
    await sleep(20)
    t.same(gateway.records, [])
    own.uncork()
    await raw.until('Close', () => raw.received().endsWith(`\x81\x0ahelloworld${GOING_AWAY}`))
    watchdog.pass(2_000)
    await sleep(20)
    t.same(gateway.records, [])
    watchdog.pass(1)
    await closed
    t.match(gateway.records, [{ status: 101, error: 'draining' }])
  })

  t.test('waits for a handshake no longer than its grace', async (t) => {
    const bare = await startBare(t)
    const gateway = await startGateway(
      t,
      chatConfig([bare.origin], 'true', 'server: { shutdown_grace: 100ms }'),
    )
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/free/room', ALICE))
    await eventually('the upstream is asked', () => bare.received() !== '')
    await gateway.app.close()
    t.match(gateway.records, [{ status: 503, error: 'draining' }])
    await raw.closed()
    t.equal(raw.responses()[0]!.status, 503)
  })

  t.test("adds no Close after the upstream's own", async (t) => {
    const bare = await startBare(t, (socket) => socket.write(`${SWITCHING}\x88\x02\x0f\xa1`, 'latin1'))
    const gateway = await startGateway(t, chatConfig([bare.origin]))
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/free/room', ALICE))
    await raw.until('Close', () => raw.received().endsWith('\x88\x02\x0f\xa1'))
    const { closed } = await beginDrain(gateway)
    await sleep(20)
    raw.socket.end('\x88\x80\0\0\0\0', 'latin1')
    await closed
    await raw.closed()
    t.ok(raw.received().endsWith('\r\n\r\n\x88\x02\x0f\xa1'))
  })

  t.test('answers a running handshake with 503', async (t) => {
    let upstream: Socket | undefined
    const bare = await startBare(t, (socket) => {
      upstream = socket
    })
    const gateway = await startGateway(t, chatConfig([bare.origin]))
    const raw = await openRaw(gateway.port)
    raw.write(handshake('/free/room', ALICE))
    await eventually('the upstream is asked', () => upstream !== undefined)
    const { closed } = await beginDrain(gateway)
    upstream!.write(SWITCHING)
    await raw.closed()
    t.equal(raw.responses()[0]!.status, 503)
    t.match(JSON.parse(raw.responses()[0]!.body), { code: 'draining' })
    await closed
    await eventually('the upstream is let go', () => bare.open() === 0)
  })
})
