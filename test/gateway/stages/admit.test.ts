import type { ServerResponse } from 'node:http'
import t, { type Test } from 'tap'
import { eventually } from '../../support/eventually.js'
import { startGateway, type TestGateway } from '../../support/gateway/gateway.js'
import { openRaw, type RawConnection, rawExchange, rawRequest } from '../../support/http/raw.js'
import { recordingUpstream } from '../../support/http/upstream.js'
import { handshake, startChat } from '../../support/http/websocket.js'

/** Three tiers by key; a service with ten a minute for free. */
function yamlFor(origin: string, service: string, route = ''): string {
  return `
tiers: [free, pro, enterprise]
consumers:
  - api_key:
      keys: [{ key: free-key, consumer: f }, { key: pro-key, consumer: p, tier: pro }, { key: top-key, consumer: e, tier: enterprise }]
services:
  api:
    upstreams: ['${origin}']
    limits: { free: 1000/min, pro: 1000/min, enterprise: 2/min }
    ${service}
routes: [{ path: /*, service: api, websocket: true${route} }]
`
}

const request = (tier: 'free' | 'pro' | 'top', line = 'GET /') => rawRequest(line, `x-api-key: ${tier}-key`)

async function send(gateway: TestGateway, bytes: string) {
  const response = (await rawExchange(gateway.port, bytes)).responses[0]!
  return { ...response, code: response.status >= 500 ? JSON.parse(response.body).code : undefined }
}

function stateOf(gateway: TestGateway) {
  return gateway.guards.describe(gateway.snapshot())[0]!
}

/** Starts an upstream that answers when told to. */
async function holding(t: Test) {
  const held: ServerResponse[] = []
  const upstream = await recordingUpstream(t, (_req, res) => void held.push(res))
  return { ...upstream, held }
}

t.test('a circuit breaker', async (t) => {
  let status = 500
  const upstream = await recordingUpstream(t, (req, res) => {
    res.statusCode = status
    req.on('end', () => res.end('{"code":"its own"}'))
  })
  const breaker = 'circuit_breaker: { min_requests: 5, open: 2s, probes: 1 }'
  const gateway = await startGateway(t, yamlFor(upstream.origin, breaker))

  t.test('passes failures on until it has seen enough', async (t) => {
    for (let i = 0; i < 5; i++) t.equal((await send(gateway, request('free'))).code, 'its own')
    t.equal(stateOf(gateway).circuit, 'open')
  })

  t.test('then answers 503 at once, with Retry-After and without charging quota', async (t) => {
    const before = upstream.received.length
    const refused = await send(gateway, request('top'))
    t.match(refused, { status: 503, code: 'circuit_open' })
    t.match(refused.header('retry-after'), /^[1-9]$/)
    t.equal(refused.header('ratelimit'), undefined, 'no quota was looked at')
    t.equal(upstream.received.length, before, 'and the upstream is left alone')
    t.strictSame(gateway.shed.at(-1), ['enterprise', 'circuit'])
    await gateway.recorded(6)
    t.match(gateway.records.at(-1), { status: 503, error: 'circuit_open', decision: undefined })
  })

  t.test('and closes after a good probe; none of it was charged', async (t) => {
    status = 200
    await eventually('it lets a probe pass', () => stateOf(gateway).circuit === 'half_open')
    const probe = await send(gateway, request('top'))
    t.equal(probe.status, 200)
    t.match(probe.header('ratelimit'), /r=1/, 'the first of two')
    t.equal(stateOf(gateway).circuit, 'closed')
  })
})

t.test("failures that are not the upstream's do not open a circuit breaker", async (t) => {
  const upstream = await holding(t)
  const breaker = 'circuit_breaker: { min_requests: 3, open: 10s, slow: 1h }'
  const gateway = await startGateway(t, yamlFor(upstream.origin, breaker, ', body_limit: 10'))
  for (let i = 0; i < 5; i++) {
    const client = await openRaw(gateway.port)
    client.write(request('free'))
    await eventually('it arrives', () => upstream.held.length === i + 1)
    client.socket.destroy()
  }
  await gateway.recorded(5)
  for (let i = 0; i < 5; i++) {
    const large = rawRequest('POST /', 'x-api-key: free-key', 'Content-Length: 11').concat('hello world')
    t.equal((await send(gateway, large)).status, 413)
  }
  const denied = Array.from({ length: 7 }, () => send(gateway, request('top')))
  await eventually('two pass', () => upstream.held.length === 7)
  for (const res of upstream.held.slice(5)) res.end('ok')
  const statuses = (await Promise.all(denied)).map(({ status }) => status)
  t.strictSame(statuses.sort(), [200, 200, 429, 429, 429, 429, 429])
  t.equal(stateOf(gateway).circuit, 'closed')
})

t.test('requests that no upstream got never count as slow', async (t) => {
  const upstream = await holding(t)
  const service = `circuit_breaker: { min_requests: 3, slow: 1ms, open: 1m }
    concurrency: { min: 10, max: 10 }
    max_connections: 1
    max_waiting: 1
    max_wait: 50ms`
  const gateway = await startGateway(t, yamlFor(upstream.origin, service, ', body_limit: 10'))
  const large = rawRequest('POST /', 'x-api-key: free-key', 'Content-Length: 11').concat('hello world')
  for (let i = 0; i < 5; i++) t.equal((await send(gateway, large)).code ?? 413, 413)
  const busy = await openRaw(gateway.port)
  t.teardown(() => busy.socket.destroy())
  busy.write(request('free'))
  await eventually('the one connection is in use', () => upstream.held.length === 1)
  const refused = await Promise.all(Array.from({ length: 5 }, () => send(gateway, request('free'))))
  t.strictSame([...new Set(refused.map(({ code }) => code))], ['overloaded'])
  t.equal(stateOf(gateway).circuit, 'closed')
})

t.test('an upstream that refuses, breaks off or is late opens the circuit breaker', async (t) => {
  const cut = await recordingUpstream(t, (_req, res) => {
    res.writeHead(200, { 'content-length': 100 })
    res.write('x', () => res.destroy())
  })
  const silent = await holding(t)
  for (const [what, origin, status, route] of [
    ['refuses', 'http://127.0.0.1:1', 502, ''],
    ['cuts its responses', cut.origin, 200, ''],
    ['is late', silent.origin, 504, ', timeouts: { headers: 50ms }'],
  ] as const) {
    const gateway = await startGateway(
      t,
      yamlFor(origin, 'circuit_breaker: { min_requests: 3, open: 1m }', route),
    )
    const sent = await Promise.all(
      [1, 2, 3].map(async () => {
        const client = await openRaw(gateway.port)
        client.write(request('free'))
        await client.until('a status', () => /^HTTP\/1.1 \d+/.test(client.received()))
        const [, got] = /^HTTP\/1.1 (\d+)/.exec(client.received())!
        client.socket.on('close', () => {})
        return { got: Number(got), client }
      }),
    )
    t.strictSame(
      sent.map(({ got }) => got),
      [status, status, status],
      what,
    )
    await eventually(`it is open: ${what}`, () => stateOf(gateway).circuit === 'open')
    t.match(await send(gateway, request('free')), { status: 503, code: 'circuit_open' }, what)
    for (const { client } of sent) client.socket.destroy()
  }
})

t.test('half open, the waiting tier with the highest priority sends the probe', async (t) => {
  let status = 500
  const upstream = await recordingUpstream(t, (_req, res) => {
    res.statusCode = status
    res.end('{}')
  })
  const breaker = 'circuit_breaker: { min_requests: 2, open: 2s, probes: 1 }'
  const gateway = await startGateway(t, yamlFor(upstream.origin, breaker))
  for (let i = 0; i < 2; i++) await send(gateway, request('free'))
  t.equal((await send(gateway, request('pro'))).code, 'circuit_open')
  status = 200
  await eventually('it is half open', () => stateOf(gateway).circuit === 'half_open')
  // One after the other on one connection, so that none can come late.
  const { responses } = await rawExchange(gateway.port, request('free') + request('pro'), { responses: 2 })
  t.strictSame(
    responses.map((response) => response.status),
    [503, 200],
  )
})

t.test('a concurrency limit that is full', async (t) => {
  const upstream = await holding(t)
  const gateway = await startGateway(t, yamlFor(upstream.origin, 'concurrency: { min: 10, max: 10 }'))
  const clients: RawConnection[] = []
  for (let i = 0; i < 12; i++) clients.push(await openRaw(gateway.port))
  for (const [i, client] of clients.entries()) {
    client.write(request('free', `GET /${i}`))
    await eventually(
      'it is under way, or refused',
      () => upstream.held.length === Math.min(i + 1, 8) && gateway.records.length === Math.max(0, i - 7),
    )
  }

  t.test('sheds free first, which may fill four fifths', async (t) => {
    t.equal(upstream.held.length, 8)
    t.match(clients[8]!.responses(), [{ status: 503 }])
    t.match(JSON.parse(clients[8]!.responses()[0]!.body), { code: 'overloaded' })
    t.equal(clients[8]!.responses()[0]!.header('retry-after'), '1')
    t.strictSame(stateOf(gateway).concurrency, { limit: 10, in_flight: 8 })
  })

  t.test('while pro and enterprise pass, until all of it is used', async (t) => {
    const statuses = async (tier: 'pro' | 'top') => {
      const client = await openRaw(gateway.port)
      const held = upstream.held.length
      client.write(request(tier))
      await eventually(
        'it is under way, or refused',
        () => upstream.held.length > held || client.responses().length > 0,
      )
      clients.push(client)
      return client.responses()[0]?.status ?? 'under way'
    }
    t.strictSame(
      [await statuses('pro'), await statuses('pro'), await statuses('top'), await statuses('top')],
      ['under way', 503, 'under way', 503],
    )
    t.strictSame(gateway.shed, [
      ...Array(4).fill(['free', 'concurrency']),
      ['pro', 'concurrency'],
      ['enterprise', 'concurrency'],
    ])
  })

  t.test('and has room again with the first header, though the body goes on', async (t) => {
    t.equal(stateOf(gateway).concurrency!.in_flight, 10)
    for (const res of upstream.held.slice(0, 3))
      res.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: 1\n\n')
    await eventually('three places', () => stateOf(gateway).concurrency!.in_flight === 7)
    const late = send(gateway, request('free'))
    await eventually('it is under way', () => upstream.held.length === 11)
    for (const res of upstream.held) res.end('ok')
    t.equal((await late).status, 200)
    t.equal(stateOf(gateway).concurrency!.in_flight, 0)
    for (const { socket } of clients) socket.destroy()
  })
})

t.test('a place is given back however the request ends', async (t) => {
  const upstream = await holding(t)
  const limit = 'concurrency: { min: 10, max: 10 }'
  const gateway = await startGateway(
    t,
    yamlFor(upstream.origin, limit, ', body_limit: 10, timeouts: { headers: 100ms }'),
  )
  const empty = (what: string) =>
    eventually(`no place is held: ${what}`, () => stateOf(gateway).concurrency!.in_flight === 0)

  t.equal((await send(gateway, request('free'))).status, 504)
  await empty('late')
  t.equal(
    (
      await send(
        gateway,
        rawRequest('POST /', 'x-api-key: free-key', 'Content-Length: 11').concat('hello world'),
      )
    ).status,
    413,
  )
  await empty('too large')
  const client = await openRaw(gateway.port)
  const asked = upstream.held.length
  client.write(request('free'))
  await eventually('it is under way', () => upstream.held.length === asked + 1)
  client.socket.destroy()
  await empty('left')
  await Promise.all([1, 2, 3].map(() => send(gateway, request('top'))))
  await empty('denied by quota')
  t.strictSame(gateway.shed, [])
  t.equal((await send(gateway, handshake('/', { 'x-api-key': 'top-key' }))).status, 429)
  await empty('a handshake that is denied')

  const uploading = await openRaw(gateway.port)
  uploading.write(rawRequest('POST /', 'x-api-key: top-key', 'Content-Length: 10'))
  await uploading.until('the refusal', () => uploading.received().includes('quota_exceeded'))
  t.notOk(uploading.isClosed(), 'the connection waits for the rest of the body')
  t.equal(stateOf(gateway).concurrency!.in_flight, 0, 'but no place does')
  uploading.socket.destroy()
})

t.test('a WebSocket holds a place until it is open, and never counts as slow', async (t) => {
  const chat = await startChat(t)
  const gateway = await startGateway(
    t,
    yamlFor(
      chat.origin,
      'concurrency: { min: 1, max: 1 }\n    circuit_breaker: { slow: 1s, slow_ratio: 1, min_requests: 1 }',
    ),
  )
  const open = []
  for (let i = 0; i < 3; i++) {
    const client = await openRaw(gateway.port)
    client.write(handshake('/', { 'x-api-key': 'pro-key' }))
    await client.until('101', () => client.responses().length === 1)
    t.equal(client.responses()[0]!.status, 101)
    open.push(client)
  }
  t.match(stateOf(gateway), { circuit: 'closed', concurrency: { in_flight: 0 } })
  // For longer than `slow`.
  await new Promise((resolve) => setTimeout(resolve, 1_100))
  for (const client of open) client.socket.destroy()
  await gateway.recorded(3)
  t.match(stateOf(gateway), { circuit: 'closed', concurrency: { in_flight: 0 } })
})

t.test('a reload keeps the state, and a service without breaker or limit is not checked', async (t) => {
  const upstream = await recordingUpstream(t, (_req, res) => void res.writeHead(500).end('{}'))
  const yaml = (service: string) => yamlFor(upstream.origin, service)
  const gateway = await startGateway(t, yaml('circuit_breaker: { min_requests: 2, open: 1m }'))
  for (let i = 0; i < 2; i++) await send(gateway, request('free'))
  t.equal((await send(gateway, request('free'))).code, 'circuit_open')
  gateway.use(yaml('circuit_breaker: { min_requests: 9, open: 1m }'))
  t.equal((await send(gateway, request('free'))).code, 'circuit_open', 'still open')
  gateway.use(yaml('on_failure: open'))
  t.equal((await send(gateway, request('free'))).status, 500)
  t.match(stateOf(gateway), { circuit: undefined, concurrency: undefined })
})

t.test('while the gateway is overloaded, the lowest tiers are shed, and charged nothing', async (t) => {
  const upstream = await recordingUpstream(t)
  const overload = {
    pressure: 0,
    sheds: (rank: number) => (rank < 2 ? ('event_loop' as const) : undefined),
  }
  const gateway = await startGateway(t, yamlFor(upstream.origin, 'on_failure: open'), { overload })
  t.equal((await send(gateway, request('free'))).status, 200, 'not asked while there is no pressure')
  overload.pressure = 0.5
  for (const tier of ['free', 'pro'] as const) {
    const refused = await send(gateway, request(tier))
    t.match(refused, { status: 503, code: 'overloaded' })
    t.equal(refused.header('retry-after'), '1')
  }
  const passed = await send(gateway, request('top'))
  t.equal(passed.status, 200)
  t.equal((await send(gateway, handshake('/', { 'x-api-key': 'free-key' }))).status, 503, 'handshakes, too')
  t.strictSame(gateway.shed, [
    ['free', 'event_loop'],
    ['pro', 'event_loop'],
    ['free', 'event_loop'],
  ])
  overload.pressure = 0
  t.match((await send(gateway, request('free'))).header('ratelimit'), /r=998/)
})
