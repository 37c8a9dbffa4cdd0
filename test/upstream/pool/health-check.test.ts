// Tests src/upstream/pool/endpoint-checks.ts
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import type { Target } from '../../../src/upstream/pool/choose.js'
import { untilNext } from '../../../src/upstream/pool/health-check.js'
import { createUpstreams } from '../../../src/upstream/pool/pool.js'
import { eventually } from '../../support/eventually.js'
import { snapshotOf } from '../../support/gateway/gateway.js'
import { refusingPort } from '../../support/http/hanging-listener.js'

type Answer = (res: ServerResponse, req: IncomingMessage) => void
const good: Answer = (res) => void res.end('well')
const status =
  (code: number): Answer =>
  (res) =>
    void res.writeHead(code).end('x')

/** Starts a server whose response a test changes as it goes. */
async function checked(t: Test) {
  const state: { answer: Answer; readonly requests: IncomingMessage[]; connections: number } = {
    answer: good,
    requests: [],
    connections: 0,
  }
  const server = createServer((req, res) => {
    state.requests.push(req)
    state.answer(res, req)
  })
  server.on('connection', () => state.connections++)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return Object.assign(state, { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })
}

// A response may take long on a busy machine.
const QUICK = 'path: /healthz, interval: 100ms, timeout: 5s, healthy_after: 2, unhealthy_after: 2'

function snapshotWith(origins: readonly string[], health: string, more = '') {
  return snapshotOf(`
tiers: [free]
services: { api: { upstreams: [${origins.join(', ')}], health: { ${health} }${more} } }
routes: [{ path: /*, service: api }]
`)
}

function watch(t: Test, snapshot: ReturnType<typeof snapshotOf>) {
  const upstreams = createUpstreams(snapshot)
  t.teardown(() => upstreams.close())
  const of = (address: string) => upstreams.describe().find((one) => one.address.startsWith(address))!
  return { upstreams, of }
}

// These tests mostly wait.
t.jobs = 4
const APART = { buffered: true }

t.test('an upstream whose checks fail gets no requests until they pass', APART, async (t) => {
  const [a, b] = [await checked(t), await checked(t)]
  const snapshot = snapshotWith([a.origin, b.origin], QUICK)
  const { upstreams, of } = watch(t, snapshot)
  t.equal(of(a.origin).state, 'serving', 'until something is known against it')
  await eventually('it was checked', () => of(a.origin).last_check?.passed === true)
  t.match(of(a.origin).last_check, { detail: 'status 200', ms: Number })

  a.answer = status(503)
  await eventually('it is left out', () => of(a.origin).state === 'unhealthy')
  t.equal(of(a.origin).why, 'checks fail: status 503')
  const picked = Array.from({ length: 4 }, () => upstreams.pick(snapshot.services[0]!) as Target)
  t.ok(picked.every(({ upstream }) => upstream.origin === b.origin))

  a.answer = good
  await eventually('it is back', () => of(a.origin).state === 'serving')
  const reading = [...upstreams.health()].find((one) => one.upstream === a.origin)!
  t.ok(
    reading.checksPassed >= 3 && reading.checksFailed >= 2,
    `${reading.checksPassed} ${reading.checksFailed}`,
  )
})

t.test('one failure, or one success, is not enough', APART, async (t) => {
  const a = await checked(t)
  let turn = 0
  a.answer = (res, req) => (turn++ % 2 === 0 ? good : status(500))(res, req)
  const { of } = watch(t, snapshotWith([a.origin], QUICK))
  await eventually('ten checks', () => a.requests.length > 10)
  t.equal(of(a.origin).state, 'serving')
})

t.test(
  'a check is a request of its own, with its own path and connection, and nothing of a client',
  APART,
  async (t) => {
    const a = await checked(t)
    const { of } = watch(
      t,
      snapshotWith(
        [`${a.origin}/base`],
        `${QUICK}, statuses: [204, 4xx]`.replace('/healthz', '/status?deep=1'),
      ),
    )
    a.answer = status(204)
    await eventually('three checks', () => a.requests.length >= 3)
    t.equal(a.requests[0]!.url, '/status?deep=1')
    t.strictSame(
      a.requests[0]!.rawHeaders.filter((_, i) => i % 2 === 0)
        .map((name) => name.toLowerCase())
        .sort(),
      ['accept', 'connection', 'host', 'user-agent'],
    )
    t.equal(a.requests[0]!.headers.host, a.origin.slice('http://'.length))
    t.ok(a.connections >= a.requests.length, 'a connection each')
    a.answer = status(404)
    await eventually('another that passes', () => of(a.origin).last_check?.detail === 'status 404')
    a.answer = status(200)
    await eventually('one that does not', () => of(a.origin).state === 'unhealthy')
  },
)

t.test('the reason tells silence, an endless body and a refused connection apart', APART, async (t) => {
  const silent = await checked(t)
  silent.answer = () => {}
  const slow = await checked(t)
  slow.answer = (res) => void res.write('and')
  const endless = await checked(t)
  endless.answer = (res) => {
    const more = (): void => {
      if (!res.destroyed) res.write(Buffer.alloc(16_384), () => setImmediate(more))
    }
    more()
  }
  const gone = await refusingPort()
  const { of } = watch(
    t,
    snapshotWith([silent.origin, slow.origin, endless.origin, gone.origin], QUICK.replace('5s', '400ms')),
  )
  for (const bad of [silent, slow, gone]) {
    await eventually('it is left out', () => of(bad.origin).state === 'unhealthy')
  }
  t.equal(of(silent.origin).last_check!.detail, 'no answer within 400 ms')
  await eventually(
    'it has begun to answer',
    () => of(slow.origin).last_check!.detail === 'no whole answer within 400 ms',
  )
  await eventually('nobody is there', () => of(gone.origin).last_check!.detail === 'ECONNREFUSED')
  await eventually('enough was seen of the endless one', () => of(endless.origin).last_check !== null)
})

t.test('a reload keeps known health, follows new settings, and stops removed checks', APART, async (t) => {
  const [a, b] = [await checked(t), await checked(t)]
  a.answer = status(503)
  const { upstreams, of } = watch(t, snapshotWith([a.origin, b.origin], QUICK))
  await eventually('it is left out', () => of(a.origin).state === 'unhealthy')
  upstreams.retain(snapshotWith([a.origin], QUICK.replace('/healthz', '/other')))
  t.equal(of(a.origin).state, 'unhealthy', 'until the new checks say otherwise')
  await eventually('the new path is asked for', () => a.requests.some(({ url }) => url === '/other'))
  const before = b.requests.length
  const seen = a.requests.length
  a.answer = good
  await eventually('it is back', () => of(a.origin).state === 'serving')
  await eventually('more checks', () => a.requests.length > seen + 3)
  t.ok(b.requests.length <= before + 1, 'the removed upstream is not checked any more')
  a.answer = status(503)
  await eventually('it is left out', () => of(a.origin).state === 'unhealthy')
  upstreams.retain(
    snapshotOf(`
tiers: [free]
services: { api: { upstreams: [${a.origin}] } }
routes: [{ path: /*, service: api }]
`),
  )
  t.match(of(a.origin), { state: 'serving', last_check: null }, 'without checks nothing is known against it')
  await upstreams.close()
  const last = a.requests.length
  await new Promise((resolve) => setTimeout(resolve, 250))
  t.ok(a.requests.length <= last + 1)
})

t.test('services with the same check of an upstream share it', APART, async (t) => {
  const a = await checked(t)
  const service = `{ upstreams: [${a.origin}], health: { ${QUICK} } }`
  const { upstreams } = watch(
    t,
    snapshotOf(`
tiers: [free]
services: { one: ${service}, two: ${service} }
routes: [{ path: /*, service: one }, { path: /two, service: two }]
`),
  )
  await eventually('both know', () => upstreams.describe().every((one) => one.last_check !== null))
  const [one, two] = upstreams.describe()
  t.equal(one!.last_check!.at, two!.last_check!.at)
})

t.test('an HTTP/2 upstream is checked over HTTP/2', APART, async (t) => {
  const { http2Upstream } = await import('../../support/http/http2-upstream.js')
  const a = await http2Upstream(t, ({ stream }) => {
    stream.respond({ ':status': 200 })
    stream.end('well')
  })
  const { of } = watch(t, snapshotWith([a.origin], QUICK, ', protocol: http2'))
  await eventually('it was checked', () => of(a.origin).last_check !== null)
  t.match(of(a.origin).last_check, { passed: true, detail: 'status 200' })
  t.equal(a.received[0]!.headers[':path'], '/healthz')
})

t.test('an ejected, unreachable upstream is back once its checks pass', APART, async (t) => {
  const [a, b] = [await checked(t), await checked(t)]
  const more = ', outliers: { consecutive_failures: 2, ejection: 1h }'
  const snapshot = snapshotWith([a.origin, b.origin], QUICK, more)
  const { upstreams, of } = watch(t, snapshot)
  const target = upstreams.pick(snapshot.services[0]!) as Target
  const lose = (outcome: 'unreachable' | 'failed') => {
    for (let i = 0; i < 2; i++) {
      upstreams.begun(target)
      upstreams.ended(target, outcome, 'ECONNREFUSED')
    }
  }
  lose('unreachable')
  t.equal(of(a.origin).state, 'ejected')
  await eventually('it is back, long before its time', () => of(a.origin).state === 'serving')

  lose('failed')
  const seen = a.requests.length
  await eventually('more checks', () => a.requests.length > seen + 4)
  t.match(
    of(a.origin),
    { state: 'ejected', ejections: 2 },
    'an upstream that fails requests may pass its checks',
  )
})

t.test('gateways that start together do not check together', async (t) => {
  const interval = 1000
  t.equal(untilNext(interval, 0, 0), 900)
  t.equal(untilNext(interval, 0, 0.5), 1000)
  t.equal(untilNext(interval, 100, 0.5), 900, 'a check is part of its interval')
  t.equal(untilNext(interval, 5000, 0.99), 0, 'one that took longer is followed at once')
  const rounds = [0.1, 0.4, 0.9].map((random) => untilNext(interval, 20, random))
  t.equal(new Set(rounds).size, 3)
  t.ok(rounds.every((ms) => ms >= 880 && ms < 1080))
})
