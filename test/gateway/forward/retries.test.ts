// Tests src/gateway/forward/upstream-attempts.ts
import t, { type Test } from 'tap'
import { createReplayMemory } from '../../../src/gateway/forward/body-buffer.js'
import { createShares } from '../../../src/shares.js'
import { startGateway, type TestGateway } from '../../support/gateway/gateway.js'
import { hangingListener, refusingPort } from '../../support/http/hanging-listener.js'
import { rawExchange, rawRequest } from '../../support/http/raw.js'
import {
  type RawRequest,
  type RawUpstream,
  rawUpstream,
  reset,
  respond,
} from '../../support/http/raw-upstream.js'
import { handshake, SWITCHING } from '../../support/http/websocket.js'

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

function yamlFor(origins: readonly string[], service = '', route = ''): string {
  return `
tiers: [free]
services:
  api:
    upstreams: [${origins.map((origin) => `'${origin}'`).join(', ')}]
    limits: { free: 1000/min }${service}
routes: [{ path: /*, service: api, websocket: true${route} }]
`
}

const GET = rawRequest('GET /')
const POST = rawRequest('POST /', 'Content-Length: 5').concat('hello')

async function send(gateway: TestGateway, bytes: string) {
  return (await rawExchange(gateway.port, bytes)).responses[0]!
}

function codeOf(body: string): string {
  return JSON.parse(body).code
}

function retriesOf(gateway: TestGateway) {
  return gateway.guards.describe(gateway.snapshot())[0]!.retries
}

/** An upstream that answers the first request of a connection, and resets it at the next while `deadly`. */
async function forgetful(t: Test): Promise<RawUpstream & { deadly: boolean }> {
  const handler = (request: RawRequest) => {
    const reused = upstream.requests.some((r) => r !== request && r.connection === request.connection)
    if (state.deadly && reused) {
      state.deadly = false
      reset(request.socket)
    } else respond(request, OK)
  }
  const upstream = await rawUpstream(t, handler)
  const state = Object.assign(upstream, { deadly: false })
  return state
}

t.test('a complete body is sent again after a dead connection, if its method allows', async (t) => {
  const upstream = await forgetful(t)
  const gateway = await startGateway(t, yamlFor([upstream.origin]))
  const chunked = rawRequest('PUT /', 'Transfer-Encoding: chunked').concat('3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n')
  for (const bytes of [rawRequest('PUT /', 'Content-Length: 5').concat('hello'), chunked]) {
    await send(gateway, GET)
    upstream.deadly = true
    t.equal((await send(gateway, bytes)).status, 200)
    t.notOk(upstream.deadly, 'it did happen')
    const [first, second] = upstream.requests.slice(-2)
    t.strictSame([first!.method, second!.method, second!.body], ['PUT', 'PUT', 'hello'])
    t.not(first!.connection, second!.connection)
  }
  t.strictSame(retriesOf(gateway), { succeeded: 2, failed: 0, no_budget: 0 })

  await send(gateway, GET)
  upstream.deadly = true
  const sent = upstream.requests.length
  t.equal((await send(gateway, POST)).status, 502, 'a POST is not')
  t.equal(upstream.requests.length, sent + 1)

  await send(gateway, GET)
  upstream.deadly = true
  const large = rawRequest('PUT /', 'Content-Length: 70000').concat('x'.repeat(70_000))
  t.equal((await send(gateway, large)).status, 502, 'a long body is not retried')
})

t.test('a retry takes no more quota', async (t) => {
  const upstream = await forgetful(t)
  const gateway = await startGateway(t, yamlFor([upstream.origin]))
  await send(gateway, GET)
  upstream.deadly = true
  const response = await send(gateway, GET)
  t.equal(response.status, 200)
  t.notOk(upstream.deadly)
  t.match(response.header('ratelimit'), /r=998/, 'two requests, two of a thousand')
})

t.test('after a dead connection another upstream is tried first', async (t) => {
  const dies = await rawUpstream(t, ({ socket }) => reset(socket))
  const lives = await rawUpstream(t)
  const gateway = await startGateway(t, yamlFor([dies.origin, lives.origin]))
  for (let i = 0; i < 4; i++) t.equal((await send(gateway, GET)).status, 200)
  t.equal(lives.requests.length, 4)
  t.equal(dies.requests.length, retriesOf(gateway).succeeded)
  t.ok(dies.requests.length > 0)
})

t.test('retries.attempts bounds the retries, and 0 means none', async (t) => {
  const dies = await rawUpstream(t, ({ socket }) => reset(socket))
  for (const [attempts, times] of [
    [0, 1],
    [1, 2],
    [3, 4],
  ] as const) {
    const gateway = await startGateway(t, yamlFor([dies.origin], `\n    retries: { attempts: ${attempts} }`))
    const before = dies.requests.length
    t.equal((await send(gateway, GET)).status, 502)
    t.equal(dies.requests.length - before, times, `attempts: ${attempts}`)
    t.strictSame(retriesOf(gateway), { succeeded: 0, failed: attempts > 0 ? 1 : 0, no_budget: 0 })
  }
})

t.test('when the budget is spent, failures are answered at once', async (t) => {
  const dies = await rawUpstream(t, ({ socket }) => reset(socket))
  const gateway = await startGateway(t, yamlFor([dies.origin]))
  const statuses = new Set<number>()
  for (let i = 0; i < 60; i++) statuses.add((await send(gateway, GET)).status)
  t.strictSame([...statuses], [502])
  const { failed, no_budget } = retriesOf(gateway)
  // Of 60 within 10 s, 30 may be retried; on a slow machine a few of those are forgotten meanwhile.
  t.equal(failed + no_budget, 60)
  t.ok(failed >= 30 && failed < 60, `${failed} were tried again`)
  t.equal(dies.requests.length, 60 + failed)
})

t.test('with a budget of 0 nothing is retried, not even a refused connection', async (t) => {
  const refuses = await refusingPort()
  const lives = await rawUpstream(t)
  const gateway = await startGateway(
    t,
    yamlFor([refuses.origin, lives.origin], '\n    retries: { budget: 0 }'),
  )
  const statuses = []
  for (let i = 0; i < 2; i++) statuses.push((await send(gateway, POST)).status)
  t.strictSame(statuses.sort(), [200, 502])
  t.strictSame(retriesOf(gateway), { succeeded: 0, failed: 0, no_budget: 0 })
})

t.test('a request that no upstream has seen tries each one once, whatever attempts says', async (t) => {
  const dead = [await refusingPort(), await refusingPort(), await refusingPort()]
  const lives = await rawUpstream(t)
  const origins = [...dead.map(({ origin }) => origin), lives.origin]
  const gateway = await startGateway(t, yamlFor(origins, '\n    retries: { attempts: 0 }'))
  t.equal((await send(gateway, POST)).status, 200)
  t.strictSame(retriesOf(gateway), { succeeded: 1, failed: 0, no_budget: 0 })
})

t.test('one of two upstreams dies under load: no idempotent request fails', async (t) => {
  const [dies, lives] = [await rawUpstream(t), await rawUpstream(t)]
  const gateway = await startGateway(t, yamlFor([dies.origin, lives.origin]))
  const put = rawRequest('PUT /', 'Content-Length: 5').concat('hello')
  let sent = 0
  const statuses = new Set<number>()
  const caller = async (bytes: string) => {
    for (let i = 0; i < 40; i++) {
      if (++sent === 120) dies.stop()
      statuses.add((await send(gateway, bytes)).status)
    }
  }
  await Promise.all([GET, GET, GET, GET, put, put, put, put].map(caller))
  t.strictSame([...statuses], [200])
  t.ok(
    dies.requests.length > 0 && dies.requests.length < 160,
    `${dies.requests.length} went to the one that died`,
  )
})

t.test('timeouts.connect bounds the wait for a connection', async (t) => {
  const hangs = await hangingListener(t)
  const connect = ', timeouts: { connect: 150ms }'

  t.test('then comes 504, in time', async (t) => {
    const gateway = await startGateway(t, yamlFor([hangs.origin], '', connect))
    const response = await send(gateway, GET)
    t.equal(response.status, 504)
    t.equal(codeOf(response.body), 'upstream_connect_timeout')
    await gateway.recorded(1)
    t.match(gateway.records[0]!.cause, /150 ?ms/, 'and not after the two seconds of the default')
  })

  t.test('then another upstream gets the request with its body, and the next one, too', async (t) => {
    const lives = await rawUpstream(t)
    const gateway = await startGateway(t, yamlFor([hangs.origin, lives.origin], '', connect))
    const response = await send(gateway, POST)
    t.equal(response.status, 200)
    t.match(lives.requests, [{ method: 'POST', body: 'hello' }])
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 200, error: undefined, bytesIn: 5 })
    t.equal((await send(gateway, POST)).status, 200)
    t.strictSame(retriesOf(gateway), { succeeded: 1, failed: 0, no_budget: 0 })
  })

  t.test('and may differ by route of one service', async (t) => {
    const gateway = await startGateway(
      t,
      yamlFor(
        [hangs.origin],
        '',
        ', timeouts: { connect: 30s } }, { path: /quick, service: api, timeouts: { connect: 150ms }',
      ),
    )
    const began = performance.now()
    const response = await send(gateway, rawRequest('GET /quick'))
    t.equal(codeOf(response.body), 'upstream_connect_timeout')
    t.ok(performance.now() - began < 15_000)
  })

  t.test('also for WebSocket handshakes, which then go to another upstream', async (t) => {
    const lives = await rawUpstream(t, (request) => respond(request, SWITCHING))
    const gateway = await startGateway(t, yamlFor([hangs.origin, lives.origin], '', connect))
    t.equal((await send(gateway, handshake('/'))).status, 101)
    t.strictSame(retriesOf(gateway), { succeeded: 1, failed: 0, no_budget: 0 })
    const alone = await startGateway(t, yamlFor([hangs.origin], '', connect))
    const { responses } = await rawExchange(alone.port, handshake('/'))
    t.equal(codeOf(responses[0]!.body), 'upstream_connect_timeout')
    await alone.recorded(1)
    t.match(alone.records[0]!.cause, /150 ?ms/)
  })
})

t.test('bodies kept for retries are bounded, each and in total', async (t) => {
  const memory = createReplayMemory(createShares(), 1_000, 2_000)
  const piece = Buffer.alloc(300)
  const one = memory.keep()
  one.add(piece)
  one.add(piece)
  t.equal(one.whole(), undefined, 'not before its end')
  one.end()
  t.equal(one.whole()?.length, 600)
  const long = memory.keep()
  for (let i = 0; i < 3; i++) long.add(piece)
  long.end()
  t.equal(long.whole(), undefined, 'too long')
  const tiny = memory.keep()
  for (let i = 0; i < 20; i++) tiny.add(Buffer.alloc(1))
  t.equal(tiny.whole(), undefined, 'many small pieces cost more than their bytes')
  const [two, three] = [memory.keep(), memory.keep()]
  for (const other of [two, three]) {
    other.add(piece)
    other.add(piece)
    other.end()
  }
  t.equal(two.whole()?.length, 600)
  t.equal(three.whole(), undefined, 'all together are too much')
  one.forget()
  one.forget()
  two.forget()
  t.equal(memory.size(), 0)
  const ofCaller = (caller: string) => {
    const kept = memory.keep({ caller })
    kept.add(piece)
    kept.end()
    return kept
  }
  const own = [ofCaller('a'), ofCaller('a')]
  t.equal(own[0]!.whole()?.length, 300)
  t.equal(own[1]!.whole(), undefined, 'one caller has a quarter')
  const other = ofCaller('b')
  t.equal(other.whole()?.length, 300)
  for (const kept of [...own, other]) kept.forget()
  t.equal(memory.size(), 0)
})
