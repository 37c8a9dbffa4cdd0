// Tests src/gateway/listen/pipeline.ts
import type { Socket } from 'node:net'
import fc from 'fast-check'
import t from 'tap'
import { eventually } from '../../support/eventually.js'
import { startGateway } from '../../support/gateway/gateway.js'
import { openRaw, rawRequest } from '../../support/http/raw.js'
import { type RawRequest, rawUpstream, reset, respond } from '../../support/http/raw-upstream.js'

/**
 * Tests that no request gets the response or the limits of another, whatever clients and upstreams do. Each request has a token
 * of its own as its request id, and each connection has two consumers of its own.
 */

/** Number of runs: TIDEGATE_FUZZ_RUNS=20000 for a long one. */
const RUNS = Number(process.env.TIDEGATE_FUZZ_RUNS ?? 60)
const QUOTA = 5

const KINDS = [
  'plain',
  'slow',
  'chunked',
  'closing',
  'surplus',
  'early',
  'empty',
  'unmodified',
  'error',
  'reset',
  'garbage',
  'cut',
  'nowhere',
  'dots',
] as const
type Kind = (typeof KINDS)[number]

interface Plan {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'DELETE'
  readonly body: 'none' | 'sized' | 'chunked' | 'expect' | 'large'
  readonly kind: Kind
  /** Which of the two consumers of its connection. */
  readonly consumer: 0 | 1
}

interface Connection {
  readonly plans: readonly Plan[]
  /** Where the client pauses, in thousandths of all bytes, and for what: a turn, or the responses so far. */
  readonly pauses: readonly (readonly [place: number, wait: 'turn' | 'ms' | 'answers'])[]
  /** Where the client leaves, in thousandths of its bytes; past 1000 it stays. */
  readonly leaves: number
}

const often = <T>(usual: T, ...others: T[]) => fc.constantFrom(usual, usual, usual, ...others)

const plan: fc.Arbitrary<Plan> = fc.record({
  method: fc.constantFrom('GET', 'GET', 'POST', 'DELETE', 'HEAD'),
  body: often('none', 'sized', 'chunked', 'expect', 'large'),
  // Requests that end the connection are rarer, or little would come after them.
  kind: fc.oneof(
    { weight: 20, arbitrary: fc.constantFrom(...KINDS.slice(0, 11)) },
    { weight: 1, arbitrary: fc.constantFrom(...KINDS.slice(11)) },
  ),
  consumer: fc.constantFrom(0, 1),
})

const connection: fc.Arbitrary<Connection> = fc.record({
  plans: fc.array(plan, { minLength: 1, maxLength: 12 }),
  pauses: fc.array(fc.tuple(fc.nat(1_000), fc.constantFrom('turn', 'ms', 'answers')), { maxLength: 6 }),
  leaves: often(2_000, 300, 700, 1_000),
})

interface Sent extends Plan {
  readonly token: string
  readonly user: string
  readonly bytes: string
}

function requestOf(plan: Plan, token: string, user: string): Sent {
  const path = plan.kind === 'nowhere' ? '/nowhere' : plan.kind === 'dots' ? '/api/../x' : `/api/${plan.kind}`
  const body = `body of ${token}`
  const fields = [
    `${plan.method} ${path} HTTP/1.1`,
    'Host: a',
    `X-Request-Id: ${token}`,
    `X-User-Id: ${user}`,
  ]
  const sized = `Content-Length: ${body.length}\r\n\r\n${body}`
  const chunked = `Transfer-Encoding: chunked\r\n\r\n${body.length.toString(16)};x\r\n${body}\r\n0\r\nX-T: 1\r\n\r\n`
  const rest = {
    none: '\r\n',
    sized,
    chunked,
    expect: `Expect: 100-continue\r\n${sized}`,
    large: `Content-Length: 1000\r\n\r\n${'x'.repeat(1000)}`,
  }[plan.body]
  return { ...plan, token, user, bytes: `${fields.join('\r\n')}\r\n${rest}` }
}

const FORGED = 'HTTP/1.1 200 OK\r\nX-Token: forged\r\nContent-Length: 6\r\n\r\nforged'

function answer(request: RawRequest): void {
  const token = request.values('x-request-id')[0]!
  const kind = request.target.slice('/api/'.length) as Kind
  const body = request.method === 'HEAD' ? '' : `answer to ${token}: ${request.body}`
  const own = `X-Token: ${token}\r\nX-RateLimit-Remaining: 99\r\n`
  const sized = `HTTP/1.1 200 OK\r\n${own}Content-Length: ${body.length}\r\n\r\n${body}`
  switch (kind) {
    case 'slow':
      setTimeout(() => respond(request, sized), token.length % 7)
      break
    case 'chunked':
      respond(request, `HTTP/1.1 200 OK\r\n${own}Transfer-Encoding: chunked\r\n\r\n`)
      if (body !== '') setTimeout(() => respond(request, `${hex(body)}\r\n${body}\r\n0\r\n\r\n`), 1)
      break
    case 'closing':
      request.socket.end(`HTTP/1.0 200 OK\r\n${own}\r\n${body}`)
      break
    case 'surplus':
      respond(request, sized + FORGED)
      break
    case 'empty':
      respond(request, `HTTP/1.1 204 No Content\r\n${own}\r\n`)
      break
    case 'unmodified':
      respond(request, `HTTP/1.1 304 Not Modified\r\n${own}Content-Length: 5\r\n\r\n`)
      break
    case 'error':
      respond(request, sized.replace('200 OK', '500 Oh'))
      break
    case 'reset':
      reset(request.socket)
      break
    case 'garbage':
      respond(request, 'HTTP/1.1 200 OK\r\nContent Length: 1\r\n\r\na')
      break
    case 'cut':
      respond(request, `HTTP/1.1 200 OK\r\n${own}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n`)
      setTimeout(() => reset(request.socket), 1)
      break
    default:
      respond(request, sized)
  }
}

const hex = (text: string) => text.length.toString(16)

const STATUS: Partial<Record<Kind, number>> = {
  empty: 204,
  unmodified: 304,
  error: 500,
  reset: 502,
  garbage: 502,
  nowhere: 404,
  dots: 400,
}

interface Answer {
  readonly status: number
  readonly fields: ReadonlyMap<string, string>
  readonly body: string
}

/** Reads final responses to the given requests; stops at an incomplete one. */
function read(text: string, requests: readonly Sent[]): { answers: Answer[]; rest: string } {
  const answers: Answer[] = []
  let at = 0
  while (text.length > at) {
    const end = text.indexOf('\r\n\r\n', at)
    if (end < 0) break
    const [line, ...lines] = text.slice(at, end).split('\r\n')
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(line!)?.[1])
    if (Number.isNaN(status))
      throw new Error(
        `no answer begins at ${at} of ${JSON.stringify(text)}, ${JSON.stringify(requests.map((r) => r.bytes))}`,
      )
    if (status < 200) {
      at = end + 4
      continue
    }
    const request = requests[answers.length]
    if (request === undefined) throw new Error(`an answer too many: ${JSON.stringify(text.slice(at))}`)
    const fields = new Map(
      lines.map((field) => {
        const colon = field.indexOf(':')
        return [field.slice(0, colon).toLowerCase(), field.slice(colon + 1).trim()]
      }),
    )
    let body = ''
    let next = end + 4
    if (request.method !== 'HEAD' && status !== 204 && status !== 304) {
      if (fields.has('transfer-encoding')) {
        let size = -1
        while (size !== 0) {
          const eol = text.indexOf('\r\n', next)
          size = Number.parseInt(text.slice(next, eol), 16)
          if (eol < 0 || text.length < eol + 4 + size) return { answers, rest: text.slice(at) }
          body += text.slice(eol + 2, eol + 2 + size)
          next = eol + 4 + size
        }
      } else {
        const length = Number(fields.get('content-length'))
        if (text.length < next + length) return { answers, rest: text.slice(at) }
        body = text.slice(next, next + length)
        next += length
      }
    }
    answers.push({ status, fields, body })
    at = next
  }
  return { answers, rest: text.slice(at) }
}

/** Checks the responses that came on a connection. `used` counts what its consumers have taken. */
function check(answers: readonly Answer[], requests: readonly Sent[], used: Map<string, number>): void {
  for (const [i, { status, fields, body }] of answers.entries()) {
    const { token, user, kind, method, body: sent } = requests[i]!
    const want = (what: string, found: unknown, wanted: unknown) => {
      if (found !== wanted) throw new Error(`${token} ${what}: ${found} for ${wanted}`)
    }
    want('request id', fields.get('x-request-id'), token)
    const counted = kind !== 'nowhere' && kind !== 'dots'
    const taken = (used.get(user) ?? 0) + (counted ? 1 : 0)
    used.set(user, taken)
    const denied = counted && taken > QUOTA
    want('status', status, denied ? 429 : counted && sent === 'large' ? 413 : (STATUS[kind] ?? 200))
    const remaining = Math.max(0, QUOTA - taken)
    const refused = fields.get('content-type') === 'application/problem+json'
    // Of refusals only a denial tells what remains.
    const claims = counted && (denied || !refused)
    want('remaining', fields.get('x-ratelimit-remaining'), claims ? String(remaining) : undefined)
    if (refused) {
      if (method !== 'HEAD') want('problem', JSON.parse(body).request_id, token)
      continue
    }
    want('token', fields.get('x-token'), token)
    if (method === 'HEAD' || status === 204 || status === 304) continue
    const echoed = sent === 'none' || (kind === 'early' && body.endsWith(': ')) ? '' : `body of ${token}`
    want('body', body, `answer to ${token}: ${echoed}`)
  }
}

t.test("no two requests get each other's response or limits", async (t) => {
  const upstream = await rawUpstream(
    t,
    (request) => {
      if (request.target === '/api/early' || request.complete) answer(request)
      else {
        const timer = setInterval(() => {
          if (request.closed || request.complete) clearInterval(timer)
          if (request.complete) answer(request)
        }, 1)
      }
    },
    { early: true },
  )
  const yaml = `
tiers: [free]
consumers: [{ header: { name: x-user-id, from: anyone } }]
services:
  api:
    upstreams: ['${upstream.origin}']
    # So few that each carries requests of many clients.
    max_connections: 3
    max_waiting: 10000
    max_wait: 30s
    limits: { free: ${QUOTA}/min }
routes: [{ path: /api/*, service: api, body_limit: 100 }]
`
  const gateway = await startGateway(t, yaml)
  let count = 0
  let answered = 0

  async function run({ plans, pauses, leaves }: Connection): Promise<void> {
    const id = count++
    const requests = plans.map((plan, i) => requestOf(plan, `t${id}-${i}`, `c${id}-${plan.consumer}`))
    const bytes = requests.map((request) => request.bytes).join('')
    const until = Math.min(bytes.length, Math.floor((bytes.length * leaves) / 1000))
    const places = pauses
      .map(([place, wait]) => [Math.floor((bytes.length * place) / 1000), wait] as const)
      .sort(([a], [b]) => a - b)
    const client = await openRaw(gateway.port)
    const answers = () => read(client.received(), requests).answers
    const closing = () => answers().some(({ fields }) => fields.get('connection') === 'close')
    let at = 0
    for (const [place, wait] of [...places, [until, 'turn'] as const]) {
      const to = Math.min(place, until)
      if (client.isClosed()) break
      client.write(bytes.slice(at, to))
      at = Math.max(at, to)
      if (wait === 'turn') await new Promise(setImmediate)
      else if (wait === 'ms') await new Promise((resolve) => setTimeout(resolve, 1))
      else {
        const whole = requests.filter((_, i) => bytesUpTo(requests, i) <= at).length
        await client.until('the answers so far', () => answers().length >= whole || client.isClosed())
      }
    }
    if (leaves <= 1000) client.socket.destroy()
    else
      await client.until(
        'all answers',
        () => answers().length === requests.length || closing() || client.isClosed(),
      )
    if (closing()) await client.closed()
    client.socket.destroy()
    const { answers: all, rest } = read(client.received(), requests)
    try {
      check(all, requests, new Map())
      const closed = all.findIndex(({ fields }) => fields.get('connection') === 'close')
      if (closed >= 0 && closed < all.length - 1) throw new Error('an answer behind one that says close')
      const cut = requests[all.length]?.kind === 'cut'
      if (leaves > 1000 && closed < 0 && !cut && all.length < requests.length)
        throw new Error('not all answered')
      if (rest !== '' && !cut && leaves > 1000) throw new Error(`something is left over: ${rest}`)
    } catch (error) {
      const seen = JSON.stringify({ plans, pauses, leaves, received: client.received() })
      throw new Error(`${(error as Error).message}: ${seen}`)
    }
    answered += all.length
  }

  await fc.assert(
    fc.asyncProperty(fc.array(connection, { minLength: 1, maxLength: 6 }), async (connections) => {
      await Promise.all(connections.map(run))
    }),
    { numRuns: RUNS, endOnFailure: true },
  )
  t.comment(`${count} connections, ${answered} answers`)
  t.ok(answered > RUNS, 'most were answered')
  await eventually('all is over', () => gateway.watchdog.size() === 0)
  t.strictSame(gateway.logged, [])
  t.notOk(gateway.records.some(({ requestId }) => requestId.startsWith('forged')))
})

function bytesUpTo(requests: readonly Sent[], index: number): number {
  return requests.slice(0, index + 1).reduce((sum, { bytes }) => sum + bytes.length, 0)
}

t.test('a 1xx of a request that waits for an earlier one comes before its own response', async (t) => {
  const waiting: RawRequest[] = []
  const upstream = await rawUpstream(
    t,
    (request) => {
      if (request.target === '/first') waiting.push(request)
      else {
        respond(request, 'HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n')
        respond(request, 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond')
        // Only now, so that both are there together.
        setTimeout(() => respond(waiting[0]!, 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst'), 50)
      }
    },
    { early: true },
  )
  const gateway = await startGateway(
    t,
    `{ tiers: [free], services: { api: { upstreams: ['${upstream.origin}'] } }, routes: [{ path: /*, service: api }] }`,
  )
  const client = await openRaw(gateway.port)
  // The second blank sends it to Node's parser: on the plain path the next request waits (plain/connections.ts).
  client.write('GET /first HTTP/1.1\r\nHost:  a\r\n\r\n')
  await eventually('the first is there', () => waiting.length === 1)
  client.write('POST /second HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody')
  await client.until('both answers', () => client.responses().length === 2)
  t.same(
    client.responses().map(({ body }) => body),
    ['first', 'second'],
  )
  const lines = client.received().match(/HTTP\/1\.1 \d{3}/g)
  t.same(
    lines?.map((line) => line.slice(-3)).filter((status) => status !== '100'),
    ['200', '103', '200'],
  )
  client.socket.destroy()
})

t.test('the last response and earlier ones arrive though the client goes on sending', async (t) => {
  const upstream = await rawUpstream(t)
  const gateway = await startGateway(
    t,
    `
tiers: [free]
services: { api: { upstreams: ['${upstream.origin}'], limits: { free: 3/min } } }
routes: [{ path: /*, service: api }]
`,
  )
  const get = 'GET /x HTTP/1.1\r\nHost: a\r\n\r\n'
  const ends = {
    'a denied body': `POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc${get.repeat(20)}`,
    'a bad target': `GET /../x HTTP/1.1\r\nHost: a\r\n\r\n${get.repeat(20)}`,
    'a request that says close': `GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n${get.repeat(20)}`,
  }
  for (const [what, bytes] of Object.entries(ends)) {
    for (let i = 0; i < 20; i++) {
      gateway.clock.now += 120_000
      const client = await openRaw(gateway.port)
      client.write(get.repeat(3) + bytes)
      const sending = setInterval(() => client.write(get), 1)
      await client.closed()
      clearInterval(sending)
      if (client.responses().length !== 4) t.fail(`${what}: ${JSON.stringify(client.received())}`)
    }
    t.pass(what)
  }
  await gateway.recorded(240)
  t.equal(gateway.records.length, 240, 'and what was sent behind it is not served')
})

t.test("malformed bytes are refused in their turn, and take no other request's response", async (t) => {
  const late: RawRequest[] = []
  const upstream = await rawUpstream(
    t,
    (request) => {
      if (request.target === '/late') late.push(request)
    },
    { early: true },
  )
  const gateway = await startGateway(
    t,
    `{ tiers: [free], services: { api: { upstreams: ['${upstream.origin}'] } }, routes: [{ path: /*, service: api }] }`,
  )
  const chunks = 'POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n'
  const behind: [what: string, status: number, ...pieces: string[]][] = [
    ['no request', 400, 'GARBAGE\r\n\r\n'],
    ['bytes that go on', 400, 'GARBAGE\r\n\r\n', 'MORE\r\n\r\n', 'MORE\r\n\r\n'],
    ['two lengths', 400, 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n'],
    ['a bad chunk', 400, `${chunks}zz\r\n`],
    ['a bad chunk behind a good one', 400, `${chunks}3\r\nabc\r\n`, 'zz\r\n'],
    ['a header without end', 431, `GET / HTTP/1.1\r\nHost: a\r\nX: ${'a'.repeat(20_000)}`],
  ]
  for (const [what, status, ...pieces] of behind) {
    const client = await openRaw(gateway.port)
    client.write('GET /late HTTP/1.1\r\nHost: a\r\n\r\n')
    await eventually('the first is there', () => late.length === 1)
    for (const piece of pieces) {
      client.write(piece)
      await new Promise((resolve) => setTimeout(resolve, 30))
    }
    respond(late.pop()!, 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst')
    await client.closed()
    t.same(
      client.responses().map((response) => response.status),
      [200, status],
      what,
    )
    t.equal(client.responses()[0]?.body, 'first')
  }
  await gateway.recorded(2 * behind.length)
  t.match(
    gateway.records.filter(({ target }) => target === '/late'),
    behind.map(() => ({ status: 200, error: undefined })),
  )
  t.equal(gateway.records.length, 2 * behind.length)
})

t.test('bytes after the last request of a connection are not buffered', async (t) => {
  const upstream = await rawUpstream(t, (request, number) => {
    if (number === 0) respond(request, 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
  })
  const gateway = await startGateway(
    t,
    `
tiers: [free]
services: { api: { upstreams: ['${upstream.origin}'] } }
routes: [{ path: /*, service: api }]
server: { max_requests_per_connection: 2 }
`,
  )
  const accepted: Socket[] = []
  gateway.app.server.on('connection', (socket: Socket) => accepted.push(socket))
  const get = 'GET /x HTTP/1.1\r\nHost: a\r\n\r\n'
  const client = await openRaw(gateway.port)
  client.write(get.repeat(2))
  await eventually('the last one is there', () => upstream.requests.length === 2)
  for (let i = 0; i < 64; i++) client.write(get.repeat(10_000))
  await eventually('no more is read', () => client.socket.writableLength > 0)
  await new Promise((resolve) => setTimeout(resolve, 100))
  t.ok(accepted[0]!.bytesRead < 1 << 20, `${accepted[0]!.bytesRead} bytes were read`)
  respond(upstream.requests[1]!, 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
  await client.closed()
  t.equal(client.responses().length, 2)
})

t.test(
  'a response that breaks off while it waits for an earlier one closes the connection in turn',
  async (t) => {
    const first: RawRequest[] = []
    const upstream = await rawUpstream(t, (request) => {
      if (request.target === '/api/first') first.push(request)
      else {
        respond(request, 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc')
        request.socket.end()
      }
    })
    const gateway = await startGateway(
      t,
      `
tiers: [free]
services: { api: { upstreams: ['${upstream.origin}'] } }
routes: [{ path: /api/*, service: api }]
`,
    )
    const client = await openRaw(gateway.port)
    client.write(rawRequest('GET /api/first') + rawRequest('GET /api/second') + rawRequest('GET /api/third'))
    const behind = () => upstream.requests.filter(({ target }) => target !== '/api/first')
    await eventually('two have broken off', () => behind().filter(({ closed }) => closed).length === 2)
    respond(first[0]!, 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    await client.closed()
    t.match(client.responses(), [{ status: 200, body: 'ok' }])
    t.equal(client.responses().length, 1)
  },
)

t.test('after a refusal that closes the connection no other response follows', async (t) => {
  const upstream = await rawUpstream(t)
  const gateway = await startGateway(
    t,
    `
tiers: [free]
services: { api: { upstreams: ['${upstream.origin}'] } }
routes: [{ path: /api/*, service: api }]
`,
  )
  for (const garbage of ['GET  /a HTTP/1.1\r\n\r\n', 'what\r\n\r\n', '\0']) {
    const client = await openRaw(gateway.port)
    client.write(`GET /api/x HTTP/1.1\r\n\r\n${garbage}`)
    await client.closed()
    t.match(client.responses(), [{ status: 400 }])
    t.equal(client.responses().length, 1, JSON.stringify(client.received()))
  }
})
