import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import { createWatchdog } from '../../../src/gateway/exchange/watchdog.js'
import { createReplayMemory } from '../../../src/gateway/forward/body-buffer.js'
import { PlainForwarding } from '../../../src/gateway/forward/plain-forward.js'
import type { Decision } from '../../../src/limiter/limiter.js'
import { createShares } from '../../../src/shares.js'
import type { Target } from '../../../src/upstream/pool/choose.js'
import { createUpstreams, type Upstreams } from '../../../src/upstream/pool/pool.js'
import { eventually } from '../../support/eventually.js'
import { snapshotOf, startGateway } from '../../support/gateway/gateway.js'
import { exampleDecision } from '../../support/gateway/snapshot.js'
import { hangingListener, refusingPort } from '../../support/http/hanging-listener.js'
import { openRaw } from '../../support/http/raw.js'
import { type RawRequest, rawUpstream, reset, respond } from '../../support/http/raw-upstream.js'
import { handshake, SWITCHING } from '../../support/http/websocket.js'

/** A request, the answers of the store and the upstreams, and how the client behaves. */
interface Plan {
  /** True for a route on which one object may forward a request (`plain-forward.ts`). */
  readonly plain: boolean
  readonly ask:
    | 'get'
    | 'put'
    | 'post'
    | 'short post'
    | 'unfinished'
    | 'too large'
    | 'pipelined'
    | 'upgrade'
    | 'upgrade with bytes'
  readonly store: 'at once' | 'later' | 'denies' | 'denies later' | 'fails later'
  readonly answer: (typeof ANSWERS)[number]
  /** Ms after which the client leaves; undefined: it stays to the end. */
  readonly leaves: number | undefined
  /** True if it reads nothing. */
  readonly deaf: boolean
  /** The configuration in force from now on. */
  readonly reload: number | undefined
}

const ANSWERS = [
  'ok',
  'ok',
  'chunks',
  'slow',
  'early',
  'cut',
  'reset',
  'silent',
  'large',
  'fails',
  'switches',
  'hints',
] as const

const plan: fc.Arbitrary<Plan> = fc.record({
  plain: fc.constant(false),
  ask: fc.constantFrom(
    ...([
      'get',
      'get',
      'put',
      'post',
      'unfinished',
      'too large',
      'pipelined',
      'upgrade',
      'upgrade with bytes',
    ] as const),
  ),
  store: fc.constantFrom(
    ...(['at once', 'at once', 'later', 'denies', 'denies later', 'fails later'] as const),
  ),
  answer: fc.constantFrom(...ANSWERS),
  leaves: fc.option(fc.integer({ min: 0, max: 120 }), { nil: undefined, freq: 2 }),
  deaf: fc.boolean(),
  reload: fc.option(fc.integer({ min: 0, max: 2 }), { nil: undefined, freq: 8 }),
})

const plainPlan: fc.Arbitrary<Plan> = fc
  .record({
    one: plan,
    ask: fc.constantFrom(...(['get', 'short post'] as const)),
    answer: fc.constantFrom(...ANSWERS, 'ok', 'chunks'),
    stays: fc.boolean(),
  })
  .map(({ one, ask, answer, stays }) => ({
    ...one,
    ...{ plain: true, ask, answer, store: 'at once' },
    leaves: stays ? undefined : one.leaves,
  }))

const LARGE = 'x'.repeat(300_000)
const CHUNKED = 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n'

const NOTHING = {
  watched: 0,
  inside: [],
  shares: [],
  places: 0,
  waiting: [],
  inFlight: [],
  replay: 0,
  unrecorded: [],
  faults: [],
}

function act(request: RawRequest, answer: string, first: boolean): void {
  const say = (bytes: string) => respond(request, bytes)
  switch (answer) {
    case 'ok':
    case 'silent':
    case 'early':
      say('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
      break
    case 'chunks':
      say(`${CHUNKED}2\r\nok\r\n0\r\n\r\n`)
      break
    case 'hints':
      say('HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n')
      say(`${CHUNKED}0\r\n\r\n`)
      break
    case 'slow':
      say(`${CHUNKED}2\r\nok\r\n`)
      setTimeout(say, 30, '2\r\nok\r\n0\r\n\r\n')
      break
    case 'large':
      say(`${CHUNKED}${LARGE.length.toString(16)}\r\n${LARGE}\r\n0\r\n\r\n`)
      break
    case 'cut':
      say(`${CHUNKED}2\r\nok\r\n`)
      request.socket.end()
      break
    case 'reset':
      reset(request.socket)
      break
    case 'fails':
      if (first) reset(request.socket)
      else say('HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n')
      break
    case 'switches':
      say(SWITCHING)
      setTimeout(() => request.socket.end(), 20)
  }
}

t.test('however requests end, everything that was taken for them is given back once', async (t) => {
  const answers = new Map<string, string>()
  const seen = new Set<string>()
  const serve = (request: RawRequest): void => {
    const [id] = request.values('x-request-id')
    const answer = answers.get(id!)!
    const first = !seen.has(id!)
    seen.add(id!)
    if (answer === 'early') act(request, answer, first)
    // A mirrored request may take half a minute; this test may not.
    else if (answer !== 'silent' || request.values('x-tidegate-mirror').length > 0) {
      const timer = setInterval(() => {
        if (request.complete) act(request, answer, first)
        if (request.complete || request.closed) clearInterval(timer)
      }, 2)
    }
  }
  const [one, two] = await Promise.all([
    rawUpstream(t, serve, { early: true }),
    rawUpstream(t, serve, { early: true }),
  ])
  const [refusing, hanging] = await Promise.all([refusingPort(), hangingListener(t)])
  const all = [one!, two!, refusing, hanging].map(({ origin }) => `'${origin}'`)
  const yamlOf = (upstreams: readonly string[], connections: number) => `
tiers: [free]
consumers: [{ header: { name: x-user-id, from: anyone } }]
trusted_proxies: [127.0.0.1]
services:
  api:
    upstreams: [${upstreams.join(', ')}]
    max_connections: ${connections}
    max_waiting: 3
    max_wait: 150ms
    outliers: { consecutive_failures: 4, ejection: 100ms }
    retries: { budget: 100, attempts: 2 }
    circuit_breaker: { min_requests: 1000000 }
    concurrency: { min: 64, max: 64 }
    limits: { free: 10/min }
  shadow: { upstreams: [${all[0]}], max_connections: 2 }
routes:
  - path: /*
    service: api
    body_limit: 64
    compress: true
    mirror: { service: shadow, share: 30 }
    websocket: { handshake: 400ms, idle: 300ms }
    timeouts: { connect: 100ms, headers: 300ms, idle: 300ms, total: 2s }
  - { path: /plain, service: api, body_limit: 64, timeouts: { connect: 100ms, headers: 300ms, idle: 300ms, total: 2s } }
# Named, so that it is on in the run without it, too.
server: { plain_path: true }
`
  const yamls = [yamlOf(all, 2), yamlOf(all.slice(0, 2), 1), yamlOf(all.toReversed(), 2)]

  // Counts around the real functions: each target must be left as often as it was entered.
  const shares = createShares()
  const real = createUpstreams(snapshotOf(yamls[0]!), { shares })
  const inside = new Map<Target['endpoint'], number>()
  const faults: string[] = []
  const count = ({ endpoint }: Target, by: 1 | -1) => {
    const now = (inside.get(endpoint) ?? 0) + by
    inside.set(endpoint, now)
    if (now < 0) faults.push(`${endpoint.address} was left once too often`)
  }
  const upstreams: Upstreams = {
    ...real,
    begun(target, ...rest) {
      count(target, 1)
      return real.begun(target, ...rest)
    },
    ended(target, ...rest) {
      count(target, -1)
      real.ended(target, ...rest)
    },
  }
  const stores = new Map<string, Plan['store']>()
  async function take(id: string): Promise<Decision> {
    const store = stores.get(id)!
    if (store.endsWith('later')) await sleep(20)
    if (store === 'fails later') throw new Error('the store broke')
    return exampleDecision({ allowed: !store.startsWith('denies'), remaining: 0 })
  }
  const watchdog = createWatchdog(20)
  const replays = createReplayMemory(createShares())
  const gateway = await startGateway(t, yamls[0]!, {
    upstreams,
    watchdog,
    replays,
    shares,
    limiter: { take: (_service, _policy, consumer) => take(consumer), settle: () => {} },
  })
  t.teardown(async () => {
    watchdog.close()
    await real.close()
  })

  let whole = 0
  let started = 0
  const { start, onWhole } = PlainForwarding.prototype
  PlainForwarding.prototype.start = function () {
    started++
    start.call(this)
  }
  PlainForwarding.prototype.onWhole = function (response) {
    whole++
    onWhole.call(this, response)
  }

  let ids = 0
  const due: string[] = []
  const may: string[] = []

  function bytesOf({ plain, ask, store, answer }: Plan): string {
    const path = plain ? '/plain' : '/'
    const request = (line: string, ...fields: string[]) => {
      const id = `r-${ids++}`
      answers.set(id, answer)
      stores.set(id, store)
      return [
        id,
        `${line} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nX-User-Id: ${id}\r\nX-Request-Id: ${id}\r\n${fields.map((f) => `${f}\r\n`).join('')}\r\n`,
      ] as const
    }
    if (ask.startsWith('upgrade')) {
      const id = `r-${ids++}`
      answers.set(id, answer)
      stores.set(id, store)
      due.push(id)
      return (
        handshake('/', { 'X-User-Id': id, 'X-Request-Id': id }) + (ask === 'upgrade' ? '' : '\x81\x80abcd')
      )
    }
    const [id, head] =
      ask === 'get' || ask === 'pipelined'
        ? request(`GET ${path}`)
        : ask === 'too large'
          ? request(`POST ${path}`, 'Content-Length: 65')
          : ask === 'short post'
            ? request(`POST ${path}`, 'Content-Length: 5')
            : request(`${ask === 'post' ? 'POST' : 'PUT'} ${path}`, 'Transfer-Encoding: chunked')
    due.push(id)
    if (ask === 'pipelined') {
      const [second, rest] = request(`GET ${path}`)
      may.push(second)
      return head + rest
    }
    if (ask === 'get' || ask === 'too large') return head
    if (ask === 'short post') return `${head}hello`
    return `${head}5\r\nhello\r\n${ask === 'unfinished' ? '' : '0\r\n\r\n'}`
  }

  async function run(one: Plan): Promise<void> {
    const { leaves, deaf, reload } = one
    const client = await openRaw(gateway.port)
    if (deaf) client.socket.pause()
    client.write(bytesOf(one))
    if (reload !== undefined) {
      gateway.use(yamls[reload]!)
      real.retain(gateway.snapshot())
    }
    // Bytes that have not come by then are no request.
    if (leaves !== undefined) await sleep(leaves)
    else if (!deaf) await client.until('an end', () => client.responses().length > 0 || client.isClosed())
    client.socket.destroy()
  }

  const held = () => ({
    watched: watchdog.size(),
    inside: [...inside.values()].filter((requests) => requests !== 0),
    shares: [...shares.all()].filter(({ held, holders }) => held !== 0 || holders.size > 0),
    places: gateway.guards.describe(gateway.snapshot())[0]!.concurrency!.in_flight,
    waiting: [...real.waiting()].filter(([, requests]) => requests > 0),
    inFlight: real.describe().filter((state) => state.in_flight !== 0),
    replay: replays.size(),
    unrecorded: due.filter((id) => !gateway.records.some(({ requestId }) => requestId === id)),
    faults,
  })

  await fc.assert(
    fc.asyncProperty(fc.array(fc.oneof(plan, plainPlan), { minLength: 4, maxLength: 24 }), async (batch) => {
      await Promise.all(batch.map(run))
      // The gateway may not even have accepted the request yet.
      await eventually('nothing is under way', () => isDeepStrictEqual(held(), NOTHING)).catch((error) => {
        throw new Error(`${error.message}: ${JSON.stringify(held())}`)
      })
    }),
    { numRuns: 10 },
  )

  const times = new Map<string, number>()
  for (const { requestId } of gateway.records) times.set(requestId, (times.get(requestId) ?? 0) + 1)
  t.strictSame(
    [...times].filter(([, n]) => n > 1),
    [],
    'none is recorded twice',
  )
  t.ok(due.length + may.length >= times.size)
  t.ok(started > 5, `${started} were plain, and ${whole} had a whole response`)
  t.equal(gateway.accessLines.length, gateway.records.length)
  t.ok(gateway.logged.every(({ fields }) => JSON.stringify(fields).includes('the store broke')))
})
