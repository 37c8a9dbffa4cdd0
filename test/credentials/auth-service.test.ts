import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer as createTls } from 'node:https'
import { type AddressInfo, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { compileForward, type ForwardCheck } from '../../src/config/snapshot/forward.js'
import { type AuthRequest, type AuthVerdict, MISSING } from '../../src/credentials/auth-verdict.js'
import { createForwardAuth } from '../../src/credentials/forward-auth.js'
import { createGenerations } from '../../src/credentials/generations.js'
import { createShares } from '../../src/shares.js'
import { createAuthority, pairOf } from '../support/credentials/authority.js'
import { eventually } from '../support/eventually.js'
import { snapshotOf } from '../support/gateway/gateway.js'
import { recordingUpstream } from '../support/http/upstream.js'

// Tests src/credentials/auth-call.ts

type Settings = Parameters<typeof compileForward>[0]
type Handler = (req: IncomingMessage, res: ServerResponse) => void

interface Asked {
  method?: string
  scheme?: string
  host?: string
  uri?: string
  forwardedFor?: string
  address?: string
  values?: (string | undefined)[]
}

function requestOf({
  method = 'GET',
  scheme = 'http',
  host = 'gateway',
  uri = '/a?b=1',
  forwardedFor = '192.0.2.7',
  address = '192.0.2.7',
  values = ['Bearer alice'],
}: Asked = {}): AuthRequest {
  const headers = values.map((value) => value ?? MISSING)
  return { parts: [method, host, uri, address, scheme, forwardedFor, ...headers], address }
}

/** Opens a client to a service on a clock that stands still. */
async function open(t: Test, handler: Handler, changes: Partial<Settings> = {}) {
  const service = await recordingUpstream(t, handler)
  const clock = { now: 1_000_000 }
  const shares = createShares()
  const logged: string[] = []
  const log = {
    info: (_: object, message: string) => void logged.push(message),
    warn: (_: object, message: string) => void logged.push(message),
  }
  const auth = createForwardAuth({ log, shares, now: () => clock.now, random: () => 0.5 })
  t.teardown(() => auth.close())
  const check = compileForward({ url: `${service.origin}/check`, headers: ['authorization'], ...changes })
  const ask = (more: Asked = {}) => auth.ask(check, requestOf(more))
  const results = () => [...auth.readings()][0]!.results
  return { service, clock, shares, logged, auth, check, ask, results }
}

const let200: Handler = (_, res) => void res.end()
const deny: Handler = (_, res) => void res.writeHead(403).end('no')

t.test('everything that is sent is part of what is remembered', async (t) => {
  const { service, ask, results } = await open(t, let200)
  await ask()
  t.notOk(ask() instanceof Promise, 'an equal request has its answer at once')
  const others: Asked[] = [
    { method: 'POST' },
    { scheme: 'https' },
    { host: 'other' },
    { uri: '/a?b=2' },
    { uri: '/a' },
    { forwardedFor: '192.0.2.8' },
    { values: ['Bearer bob'] },
    { values: [undefined] },
    { values: [''] },
  ]
  for (const other of others) {
    t.ok(ask(other) instanceof Promise, JSON.stringify(other))
    await ask(other)
  }
  t.equal(service.received.length, 1 + others.length * 2 - others.length, 'one call for two at the same time')
  t.match(results(), { allowed: 1 + 2 * others.length, cached: 1 })
})

t.test('no two different requests have the same key', async () => {
  const { keyOf } = await import('../../src/credentials/auth-service.js')
  const text = fc.string({ unit: fc.constantFrom('a', 'b', ' ', ',', '\t', '|', '\xe9'), maxLength: 4 })
  const request = fc.record({
    method: text,
    scheme: text,
    host: text,
    uri: text,
    forwardedFor: text,
    address: fc.constant('x'),
    values: fc.tuple(fc.option(text, { nil: undefined }), fc.option(text, { nil: undefined })),
  })
  const key = (one: Asked) => keyOf({ by: undefined }, requestOf(one))
  fc.assert(
    fc.property(
      request,
      request,
      (one, other) => (key(one) === key(other)) === (JSON.stringify(one) === JSON.stringify(other)),
    ),
  )
})

t.test('the file may say that fewer parts count', async (t) => {
  const { service, ask } = await open(t, let200, {
    cache: { for: 10_000, denied_for: 0, by: ['authorization', 'path'] },
  })
  await ask()
  for (const same of [
    { method: 'POST' },
    { host: 'other' },
    { forwardedFor: '10.0.0.1', address: '10.0.0.1' },
  ])
    t.notOk(ask(same) instanceof Promise, JSON.stringify(same))
  for (const other of [{ uri: '/b' }, { values: ['Bearer bob'] }]) await ask(other)
  t.equal(service.received.length, 3)
})

t.test('with fewer parts, no client gets a redirect that was made for another', async (t) => {
  const redirect: Handler = (req, res) =>
    void res.writeHead(302, { Location: `/login?rd=${req.headers['x-forwarded-uri']}` }).end()
  const { ask } = await open(t, redirect, {
    cache: { for: 10_000, denied_for: 10_000, by: ['authorization'] },
  })
  const none = { values: [undefined] }
  const verdicts = [ask({ ...none, uri: '/a' }), ask({ ...none, uri: '/b' })]
  const [one, other] = await Promise.all(verdicts)
  t.match(one, { fields: ['Location', '/login?rd=/a'] })
  t.match(other, { fields: ['Location', '/login?rd=/b'] })
  t.match(await ask({ ...none, uri: '/c' }), { fields: ['Location', '/login?rd=/c'] })
})

t.test('answers are forgotten when their time is over', async (t) => {
  let handler: Handler = let200
  const cache = { for: 30_000, denied_for: 2_000 }
  const { service, clock, ask } = await open(t, (req, res) => handler(req, res), { cache })
  t.match(await ask(), { kind: 'allowed' })
  clock.now += 29_999
  t.notOk(ask() instanceof Promise)
  clock.now += 1
  handler = deny
  t.match(await ask(), { kind: 'denied', status: 403, body: Buffer.from('no') })
  clock.now += 1_999
  t.match(ask(), { kind: 'denied' }, 'a refusal is remembered, too')
  clock.now += 1
  handler = let200
  t.match(await ask(), { kind: 'allowed' })
  t.equal(service.received.length, 3)
  const off = await open(t, let200, { cache: { for: 0, denied_for: 5_000 } })
  await off.ask()
  await off.ask()
  t.equal(off.service.received.length, 2)
})

t.test('equal requests share a call, but never a cookie', async (t) => {
  let cookie = ''
  const waiting: ServerResponse[] = []
  const { service, ask } = await open(t, (_, res) => void waiting.push(res))
  const flush = () => {
    for (const res of waiting.splice(0)) {
      if (cookie !== '') res.setHeader('Set-Cookie', `session=${cookie}-${service.received.length}`)
      res.end()
    }
  }
  const shared = Promise.all([ask(), ask(), ask()])
  await eventually('it happens', () => waiting.length === 1)
  flush()
  const [one, two, three] = await shared
  t.ok(one === two && two === three)
  t.equal(service.received.length, 1)

  cookie = 'a'
  const other = { uri: '/other' }
  const alone = Promise.all([ask(other), ask(other), ask(other)])
  await eventually('it happens', () => waiting.length === 1)
  flush()
  await eventually('it happens', () => waiting.length === 2)
  const before = service.received.length
  waiting[0]!.setHeader('Set-Cookie', 'session=second').end()
  waiting[1]!.setHeader('Set-Cookie', 'session=third').end()
  waiting.length = 0
  const cookies = (await alone).flatMap((verdict) => (verdict.kind === 'allowed' ? verdict.cookies : []))
  t.equal(new Set(cookies).size, 3, 'each has its own')
  t.equal(before, 4)
  t.ok(ask(other) instanceof Promise, 'and it is not remembered')
  await eventually('it happens', () => waiting.length === 1)
  flush()
})

t.test('strangers cannot displace what is allowed, nor fill the memory', async (t) => {
  const big = 'x'.repeat(60_000)
  const { service, ask } = await open(
    t,
    (req, res) => {
      if (req.headers.authorization === 'Bearer alice') res.end()
      else res.writeHead(401).end(big)
    },
    { cache: { for: 600_000, denied_for: 600_000 } },
  )
  await ask()
  for (let i = 0; i < 200; i++) await ask({ values: [`guess ${i}`] })
  t.notOk(ask() instanceof Promise)
  const before = service.received.length
  await ask({ values: ['guess 0'] })
  t.equal(service.received.length, before + 1, '4 MiB hold fewer than 200 of these')
})

t.test('one caller cannot take all places, and others are served meanwhile', async (t) => {
  const waiting: ServerResponse[] = []
  const { service, shares, ask, results } = await open(t, (_, res) => void waiting.push(res), {
    timeout: 20_000,
  })
  const verdicts: Promise<AuthVerdict>[] = []
  let refused = 0
  for (let i = 0; i < 400; i++) {
    const answer = ask({ uri: `/${i}` })
    if (answer instanceof Promise) verdicts.push(answer)
    else refused++
  }
  t.equal(verdicts.length, 256)
  t.equal(refused, 144)
  t.match(results(), { busy: 144 })
  await eventually('it happens', () => waiting.length === 64)
  t.equal(service.connections(), 64, 'connections to a service are bounded')
  const other = ask({ address: '192.0.2.99', forwardedFor: '192.0.2.99', uri: '/other' })
  const answerOne = () => void waiting.shift()!.end()
  answerOne()
  answerOne()
  await eventually('it happens', () =>
    service.received.some(({ url, values }) => url === '/check' && values('x-forwarded-uri')[0] === '/other'),
  )
  const timer = setInterval(() => {
    while (waiting.length > 0) answerOne()
  }, 5)
  t.match(await other, { kind: 'allowed' })
  await Promise.all(verdicts)
  clearInterval(timer)
  for (const share of shares.all()) t.equal(share.held, 0, 'all places are given back')
})

t.test('a request that gets no turn in time is not let in by on_failure', async (t) => {
  const { ask, shares } = await open(t, () => {}, { timeout: 200, on_failure: 'allow' })
  const verdicts = await Promise.all(Array.from({ length: 100 }, (_, i) => ask({ uri: `/${i}` })))
  const kinds = (kind: string) => verdicts.filter((verdict) => verdict.kind === kind).length
  t.equal(kinds('failed'), 64)
  t.equal(kinds('busy'), 36)
  for (const share of shares.all()) t.equal(share.held, 0)
})

t.test('a caller who waits in vain for its turn takes nothing from one that shares the call', async (t) => {
  const waiting: ServerResponse[] = []
  const answerAll = () => {
    for (const res of waiting.splice(0)) res.end()
  }
  const { ask } = await open(t, (_, res) => void waiting.push(res), {
    timeout: 1_000,
    cache: { for: 10_000, denied_for: 0, by: ['path'] },
  })
  const first = Array.from({ length: 128 }, (_, i) => ask({ uri: `/${i}` }))
  const late = ask({ uri: '/shared' })
  const other = ask({ uri: '/shared', address: '192.0.2.99' })
  await eventually('64 are at the service', () => waiting.length === 64)
  await sleep(600)
  answerAll()
  t.match(await late, { kind: 'busy' })
  const timer = setInterval(answerAll, 5)
  t.match(await other, { kind: 'allowed' })
  await Promise.all(first)
  clearInterval(timer)
})

t.test(
  'on_failure: allow lets nobody in whose call a reload or the end of the process prevents',
  async (t) => {
    const waiting: ServerResponse[] = []
    const { ask, auth } = await open(t, (_, res) => void waiting.push(res), {
      timeout: 20_000,
      on_failure: 'allow',
    })
    const verdicts = Array.from({ length: 70 }, (_, i) => ask({ uri: `/${i}` }))
    await eventually('the service is busy', () => waiting.length === 64)
    auth.retain(
      snapshotOf(
        'tiers: [free]\nservices: { a: { upstreams: ["http://127.0.0.1:1"] } }\nroutes: [{ path: /*, service: a }]',
      ),
    )
    for (const res of waiting) res.end()
    const kinds = (await Promise.all(verdicts)).map(({ kind }) => kind)
    t.same([...new Set(kinds)].sort(), ['allowed', 'busy'])
  },
)

t.test('a service that is down is asked by one request at a time, and comes back', async (t) => {
  let handler: Handler = (_, res) => void res.writeHead(503).end('down')
  const { service, clock, auth, check, logged, ask } = await open(t, (req, res) => handler(req, res))
  for (let i = 0; i < 3; i++)
    t.match(await ask({ address: `192.0.2.${i}`, uri: `/${i}` }), {
      kind: 'failed',
      why: 'it answers 503',
      answer: { kind: 'denied', status: 503, body: Buffer.from('down') },
    })
  t.same(auth.down(), [check.name])
  t.match(ask({ uri: '/x' }), { kind: 'failed', why: 'the service did not answer lately' }, 'at once')
  t.equal(service.received.length, 3)
  clock.now += 2_000
  handler = let200
  const probe = ask({ address: '192.0.2.77', uri: '/p' })
  t.match(ask({ address: '192.0.2.78', uri: '/q' }), { kind: 'failed' })
  t.match(await probe, { kind: 'allowed' })
  t.same(auth.down(), [])
  t.match(await ask({ uri: '/x' }), { kind: 'allowed' })
  t.same(logged.slice(-2), [
    'the auth service does not answer; on_failure decides, and no request waits for it',
    'the auth service answers again',
  ])
})

t.test('one caller whose requests fail does not take the service from the others', async (t) => {
  const { auth, ask } = await open(t, (req, res) => {
    if (req.headers['x-forwarded-uri']!.includes('poison')) res.destroy()
    else res.end()
  })
  for (let i = 0; i < 40; i++) {
    await ask({ uri: `/poison/${i}` })
    if (i % 8 === 0) t.match(await ask({ address: '192.0.2.50', uri: `/good/${i}` }), { kind: 'allowed' })
  }
  t.same(auth.down(), [])
})

t.test('a connection that was closed meanwhile costs no request', async (t) => {
  let served = 0
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', () => {
      // Ends each connection when its second request arrives, as a server that has just given up an idle one.
      if (served++ % 2 === 1) socket.destroy()
      else socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const { ask } = await open(t, let200, { url: `http://127.0.0.1:${port}/` })
  for (let i = 0; i < 4; i++) t.match(await ask({ uri: `/${i}` }), { kind: 'allowed' }, String(i))
})

t.test('whatever a service sends, the request ends once and holds nothing', async (t) => {
  const evil = [
    '',
    'nonsense',
    'HTTP/1.1 200',
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!',
    'HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n',
    'HTTP/1.1 100 Continue\r\n\r\n',
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n',
    'HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n',
    'HTTP/1.1 401 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
    `HTTP/1.1 200 OK\r\nX-Long: ${'x'.repeat(100_000)}\r\n\r\n`,
    `HTTP/1.1 401 X\r\nContent-Length: 1000000\r\n\r\n${'x'.repeat(200_000)}`,
    'HTTP/1.1 403 X\r\nContent-Length: 10\r\n\r\nshort',
  ]
  let bytes = ''
  let end = false
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', () => {
      socket.write(bytes)
      if (end) socket.end()
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  for (bytes of evil) {
    for (end of [true, false]) {
      const { ask, shares } = await open(t, let200, { url: `http://127.0.0.1:${port}/`, timeout: 150 })
      const verdict = await ask()
      const status = Number(/^HTTP\/1.1 (4\d\d) /.exec(bytes)?.[1] ?? 0)
      if (status > 0) t.match(verdict, { kind: /denied|failed/ }, bytes.slice(0, 60))
      else t.equal(verdict.kind, 'failed', bytes.slice(0, 60))
      for (const share of shares.all()) t.equal(share.held, 0)
    }
  }
})

t.test('a 2xx decides before its body has come, and a body without an end is cut', async (t) => {
  const { ask, shares } = await open(t, (_, res) => void res.write('begins'), { timeout: 300 })
  t.match(await ask(), { kind: 'allowed' })
  await eventually('it happens', () => [...shares.all()].every(({ held }) => held === 0))
})

t.test('TLS to the service is verified as to upstreams', async (t) => {
  const authority = createAuthority(t)
  const { cert, key } = pairOf(authority.issue('auth', 'DNS:auth.example.com'))
  const server = createTls({ cert, key }, (_, res) => res.end())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/`
  const ca = { file: 'ca.pem', text: readFileSync(authority.ca, 'utf8') }
  const rows: [Settings['tls'], kind: string][] = [
    [undefined, 'failed'],
    [{ verify: true, ca }, 'failed'],
    [{ verify: true, ca, server_name: 'other.example.com' }, 'failed'],
    [{ verify: true, ca, server_name: 'auth.example.com' }, 'allowed'],
    [{ verify: false }, 'allowed'],
  ]
  for (const [tls, kind] of rows) {
    const { ask } = await open(t, let200, { url, ...(tls && { tls }) })
    t.equal((await ask()).kind, kind, JSON.stringify(tls))
  }
})

t.test('a reload keeps what is known of services whose settings stay', async (t) => {
  const { service, auth } = await open(t, let200)
  const yaml = (timeout: string) => `
tiers: [free]
services: { api: { upstreams: ["http://127.0.0.1:1"] } }
routes: [{ path: /*, service: api, auth: { forward: { url: "${service.origin}/", headers: [authorization], timeout: ${timeout} } } }]`
  const [first, same, changed] = ['1s', '1s', '2s'].map((timeout) => snapshotOf(yaml(timeout)))
  const checkOf = (snapshot: typeof first): ForwardCheck => snapshot!.routes[0]!.auth!.forward!
  await auth.ask(checkOf(first), requestOf())
  auth.retain(same!)
  t.notOk(auth.ask(checkOf(same), requestOf()) instanceof Promise)
  auth.retain(changed!)
  t.match(await auth.ask(checkOf(changed), requestOf()), { kind: 'allowed' })
  t.match(
    await auth.ask(checkOf(first), requestOf()),
    { kind: 'allowed' },
    'a request that began before goes on',
  )
  t.equal(service.received.length, 3)
})

t.test('a memory of generations keeps its bounds', async () => {
  const step = fc.record({ key: fc.nat(20), size: fc.nat(30), gets: fc.boolean() })
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      const memory = createGenerations<{ key: number; size: number }>(
        { entries: 8, size: 100 },
        ({ size }) => size,
      )
      for (const { key, size, gets } of steps) {
        if (gets) {
          const found = memory.get(String(key))
          if (found !== undefined && found.key !== key) return false
        } else memory.set(String(key), { key, size })
      }
      const held = Array.from({ length: 21 }, (_, key) => key).filter(
        (key) => memory.get(String(key)) !== undefined,
      )
      return held.length <= 8
    }),
  )
})
