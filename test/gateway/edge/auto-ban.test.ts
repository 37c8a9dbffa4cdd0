import t, { type Test } from 'tap'
import type { ErrorCode } from '../../../src/errors.js'
import { BANS, type Ban, createBans } from '../../../src/fleet/bans.js'
import { createMemoryMap } from '../../../src/fleet/replicated-map.js'
import { autoBan } from '../../../src/gateway/edge/auto-ban.js'
import { eventually } from '../../support/eventually.js'
import { exchangeFor } from '../../support/gateway/exchange.js'
import { snapshotOf, startGateway } from '../../support/gateway/gateway.js'
import { http2Client } from '../../support/http/http2-client.js'
import { openRaw, rawExchange, rawRequest } from '../../support/http/raw.js'
import { recordingUpstream } from '../../support/http/upstream.js'
import { handshake } from '../../support/http/websocket.js'

function config(ban: string, upstream = 'http://127.0.0.1:9', allow = '[]'): string {
  return `
tiers: [free]
trusted_proxies: [10.0.0.0/8]
consumers: [{ api_key: { keys: [{ key: k, consumer: acme }] } }]
edge: { allow: ${allow}, auto_ban: ${ban} }
services: { api: { upstreams: ["${upstream}"], limits: { free: 2/h } } }
routes: [{ path: /*, service: api, websocket: true }]
`
}

function open(t: Test, ban: string, allow?: string) {
  const snapshot = snapshotOf(config(ban, undefined, allow))
  const clock = { now: 1000 }
  const map = createMemoryMap(BANS, { now: () => clock.now })
  const bans = createBans({ map, now: () => clock.now })
  t.teardown(() => {
    bans.close()
    return map.close()
  })
  const shared: [string, Ban][] = []
  const logged: string[] = []
  const share = async (block: string, one: Ban) => void shared.push([block, one])
  const log = { warn: (_: object, message: string) => void logged.push(message) }
  const after = autoBan({ bans, share, log, clock: () => clock.now, now: () => clock.now })
  const end = (
    clientIp: string,
    error: ErrorCode | undefined,
    times = 1,
    headers = ['x-api-key', 'guess'],
  ) => {
    for (let i = 0; i < times; i++) {
      const x = exchangeFor(snapshot, { headers })
      x.clientIp = clientIp
      if (error !== undefined) after(x, error)
    }
  }
  return { end, bans, shared, logged, clock }
}

t.test('an address that goes on after 429 or 401 is banned, and others are not', async (t) => {
  const { end, bans, shared, clock } = open(
    t,
    '{ after_denials: 10/min, after_auth_failures: 3/min, for: 5m }',
  )
  end('203.0.113.1', 'quota_exceeded', 10)
  end('203.0.113.2', 'unauthorized', 3)
  end('203.0.113.3', 'no_route', 100)
  end('203.0.113.3', undefined, 100)
  end('203.0.113.3', 'upstream_failed', 100)
  t.equal(bans.size, 0)
  end('203.0.113.1', 'address_limited')
  end('203.0.113.2', 'unauthorized')
  t.same(
    shared.map(([block]) => block),
    ['203.0.113.1/32', '203.0.113.2/32'],
  )
  t.match(shared[0]![1], { source: 'auto', since: 1000, until: 301_000 })
  t.equal(bans.size, 2)
  end('203.0.113.1', 'quota_exceeded', 50)
  t.equal(shared.length, 2, 'one ban is enough')
  for (let minute = 0; minute < 10; minute++) {
    clock.now += 60_000
    end('203.0.113.4', 'quota_exceeded', 10)
  }
  t.equal(shared.length, 2, 'as many as are allowed, for as long as they like')
})

t.test('requests without a credential ban nobody, as any web page can make visitors send them', async (t) => {
  const { end, bans } = open(t, '{ after_denials: 100/min, after_auth_failures: 3/min }')
  end('203.0.113.1', 'unauthorized', 50, [])
  end('203.0.113.1', 'unauthorized', 50, ['cookie', 'a=b', 'referer', 'https://elsewhere.example/'])
  t.equal(bans.size, 0)
  end('203.0.113.1', 'unauthorized', 4, ['x-api-key', 'guess'])
  t.equal(bans.size, 1)
})

t.test('an IPv6 ban covers the /64', async (t) => {
  const { end, shared } = open(t, '{ after_denials: 10/min }')
  for (let i = 0; i < 11; i++) end(`2001:db8::${i}:1`, 'quota_exceeded')
  t.same(
    shared.map(([block]) => block),
    ['2001:db8::/64'],
  )
})

t.test('a trusted proxy or an allowed address is never banned', async (t) => {
  const { end, bans } = open(t, '{ after_denials: 1/min, after_auth_failures: 1/min }', '[203.0.113.0/24]')
  for (const address of ['10.0.0.1', '203.0.113.9', '', 'fe80::1%eth0']) {
    end(address, 'quota_exceeded', 100)
    end(address, 'unauthorized', 100)
  }
  t.equal(bans.size, 0)
})

t.test('bans never exceed max, and stay on this gateway with share: false', async (t) => {
  const { end, bans, shared, logged, clock } = open(t, '{ after_denials: 1/min, max: 5, share: false }')
  for (let i = 0; i < 50; i++) end(`203.0.113.${i}`, 'quota_exceeded', 3)
  t.same(bans.counts(), { manual: 0, auto: 5 })
  t.same(shared, [])
  t.ok(logged.length <= 2, 'and the log is not flooded')
  clock.now += 3_600_000
  t.equal(bans.match(4, Uint32Array.of(0xcb007100, 0, 0, 0)), undefined)
})

t.test('a client with too many bad keys gets nothing but 403', async (t) => {
  const upstream = await recordingUpstream(t)
  const map = createMemoryMap(BANS)
  const bans = createBans({ map })
  t.teardown(() => {
    bans.close()
    return map.close()
  })
  const gateway = await startGateway(t, config('{ after_auth_failures: 3/min, for: 1m }', upstream.origin), {
    bans,
    shareBan: (block, ban) => map.set(block, ban),
  })
  const ask = async (key: string) =>
    (await rawExchange(gateway.port, rawRequest('GET /a', `X-Api-Key: ${key}`))).responses[0]!
  const statuses: number[] = []
  for (let i = 0; i < 6; i++) statuses.push((await ask('wrong')).status)
  t.same(statuses, [401, 401, 401, 401, 403, 403])
  t.equal((await ask('k')).status, 403, 'a good key does not help now')
  t.match(map.get('127.0.0.1/32'), { source: 'auto' })
  t.same(gateway.edgeDenied, ['auto_ban', 'auto_ban', 'auto_ban'])
  t.match(gateway.records.at(-1), {
    cause: /^auto_ban 127\.0\.0\.1\/32 until .*Z: it kept sending invalid credentials/,
  })
  await map.set('127.0.0.1/32', undefined)
  t.equal((await ask('k')).status, 200, 'until it is lifted')
  await map.set('127.0.0.0/8', { source: 'manual', since: 1, reason: 'a test' })
  t.equal((await ask('k')).status, 403)
  t.equal(gateway.edgeDenied.at(-1), 'ban')
})

t.test('concurrent guesses get no more tries than sequential ones, on every face', async (t) => {
  const upstream = await recordingUpstream(t)
  const start = async () => {
    const map = createMemoryMap(BANS)
    const bans = createBans({ map })
    t.teardown(() => {
      bans.close()
      return map.close()
    })
    const yaml = `${config('{ after_auth_failures: 5/min, for: 1m }', upstream.origin)}server: { http2: true }\n`
    return startGateway(t, yaml, { bans, shareBan: (block, ban) => map.set(block, ban) })
  }
  const guesses = 101
  const key = (i: number) => (i === guesses - 1 ? 'k' : `guess-${i}`)
  const tally = (statuses: readonly number[]) => ({
    told: statuses.filter((status) => status === 401).length,
    banned: statuses.filter((status) => status === 403).length,
  })

  const pipelined = await start()
  const bytes = Array.from({ length: guesses }, (_, i) => rawRequest('GET /a', `X-Api-Key: ${key(i)}`)).join(
    '',
  )
  const { responses } = await rawExchange(pipelined.port, bytes, { responses: guesses })
  t.same(tally(responses.map(({ status }) => status)), { told: 6, banned: 95 }, 'pipelined')

  const streams = await start()
  const client = await http2Client(t, streams.origin)
  const asked = Array.from({ length: guesses }, (_, i) => client.ask('/a', { 'x-api-key': key(i) }))
  const answers = await Promise.all(asked)
  t.same(tally(answers.map(({ status }) => status)), { told: 6, banned: 95 }, 'streams of HTTP/2')

  const tunnels = await start()
  const connections = await Promise.all(
    Array.from({ length: guesses }, async (_, i) => {
      const connection = await openRaw(tunnels.port)
      connection.write(handshake('/a', { 'X-Api-Key': key(i) }))
      return connection
    }),
  )
  for (const connection of connections)
    await connection.until('an answer', () => connection.responses().length > 0)
  const statuses = connections.map((connection) => connection.responses()[0]!.status)
  // The guesses come one by one, in an order that the system chooses.
  t.equal(tally(statuses).told, 6, 'upgrades')
  t.equal(upstream.received.length, 0)
})

t.test('a credential whose check ends after the ban does not count', async (t) => {
  const upstream = await recordingUpstream(t)
  const map = createMemoryMap(BANS)
  const bans = createBans({ map })
  t.teardown(() => {
    bans.close()
    return map.close()
  })
  let answer: ((verdict: unknown) => void) | undefined
  const yaml = `
tiers: [free]
consumers: [{ jwt: { issuer: https://issuer.example, audience: api, jwks_url: "https://issuer.example/jwks" } }]
edge: { auto_ban: { after_auth_failures: 5/min } }
services: { api: { upstreams: ["${upstream.origin}"] } }
routes: [{ path: /*, service: api }]
`
  const gateway = await startGateway(t, yaml, {
    bans,
    tokens: {
      verify: () =>
        new Promise((resolve) => {
          answer = resolve as (verdict: unknown) => void
        }),
      unknownTier() {},
    },
  })
  const token = 'eyJhbGciOiJFUzI1NiJ9.e30.c2ln'
  const waiting = rawExchange(gateway.port, rawRequest('GET /a', `Authorization: Bearer ${token}`))
  await eventually('it is being checked', () => answer !== undefined)
  bans.add('127.0.0.1/32', { source: 'auto', since: 1, until: Date.now() + 60_000, reason: 'a test' })
  answer!({ value: { consumer: 'acme', issuer: 'https://issuer.example' } })
  t.equal((await waiting).responses[0]!.status, 403)
  t.equal(upstream.received.length, 0)
})
