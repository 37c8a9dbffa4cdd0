// Tests src/config/values/status-codes.ts
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Decision } from '../../../src/limiter/limiter.js'
import { eventually } from '../../support/eventually.js'
import type { TestGateway } from '../../support/gateway/gateway.js'
import { startGateway } from '../../support/gateway/gateway.js'
import { startSite } from '../../support/gateway/site.js'
import { refusingPort } from '../../support/http/hanging-listener.js'
import { openRaw, rawExchange, rawRequest } from '../../support/http/raw.js'
import { rawUpstream } from '../../support/http/raw-upstream.js'
import { recordingUpstream } from '../../support/http/upstream.js'
import { closeOf, handshake, opened, startChat } from '../../support/http/websocket.js'

/** `payments` allows two requests at once; `marketing` refunds and charges what its responses say. */
const SITE = `
tiers: [free]
services:
  payments:
    upstreams: [PAYMENTS]
    limits: { free: [{ amount: 2, algorithm: concurrency }, 100/min] }
  marketing:
    upstreams: [MARKETING]
    limits: { free: 10/min }
routes:
  - { path: /payments/*, service: payments, body_limit: 4 }
  - { path: /marketing/*, service: marketing }
  - { path: /refunded/*, service: marketing, cost: 4, refund_on: [5xx, 404, 499] }
  - { path: /tokens/*, service: marketing, cost: 4, cost_header: x-token-cost }
  - { path: /both/*, service: marketing, cost: 4, refund_on: [503], cost_header: x-token-cost }
`

const levelsAt = (ip: string) => ({ ip, tenant: undefined, route: '', byAddress: true })

/** Returns how much of each limit a client at 127.0.0.1 has used. */
async function used(gateway: TestGateway, service: number, consumer = '127.0.0.1'): Promise<number[]> {
  const of = gateway.snapshot().services[service]!
  const usage = await gateway.limiter.usage(of, of.policies[0]!, consumer, levelsAt(consumer))
  return usage.map((one) => one.used)
}

/** Starts an upstream that answers when told to. */
async function waitingUpstream(t: Test) {
  const answers: (() => void)[] = []
  const upstream = await recordingUpstream(t, (req, res) => {
    req.resume()
    answers.push(() => res.end('ok'))
  })
  return { upstream, answers }
}

t.test('a slot is held for as long as its response takes', async (t) => {
  const { upstream, answers } = await waitingUpstream(t)
  const { gateway } = await startSite(t, SITE, { payments: upstream })
  const bytes = rawRequest('GET /payments/x')
  const first = await openRaw(gateway.port)
  const second = await openRaw(gateway.port)
  first.write(bytes)
  second.write(bytes)
  await eventually('both are with the upstream', () => answers.length === 2)
  t.same(await used(gateway, 0), [2, 2])

  const { responses } = await rawExchange(gateway.port, bytes)
  t.equal(responses[0]!.status, 429)
  t.equal(responses[0]!.header('retry-after'), '1')
  t.equal(
    responses[0]!.header('ratelimit-policy'),
    '"concurrent";q=2;qu="concurrent-requests", "minute";q=100;w=60',
  )
  t.equal(responses[0]!.header('ratelimit'), '"concurrent";r=0')
  t.equal(responses[0]!.header('x-ratelimit-reset'), '1')
  t.match(JSON.parse(responses[0]!.body), {
    detail:
      'The quota "concurrent" (2 requests at once) of tier free on payments is used up; try again when one of them has ended.',
    'violated-policies': ['concurrent'],
  })
  t.same(await used(gateway, 0), [2, 2], 'a denied request holds none and takes nothing')

  answers[0]!()
  await gateway.recorded(2)
  t.same(await used(gateway, 0), [1, 2])
  const third = await openRaw(gateway.port)
  third.write(bytes)
  await eventually('there is room again', () => answers.length === 3)
  second.socket.destroy()
  await gateway.recorded(3)
  t.same(await used(gateway, 0), [1, 3], 'a client that leaves gives its slot back')
  answers[2]!()
  await gateway.recorded(4)
  t.same(await used(gateway, 0), [0, 3])
  for (const { socket } of [first, third]) socket.destroy()
})

t.test('a request refused after the quota stage gives its slot back and keeps its charge', async (t) => {
  const { gateway, payments } = await startSite(t, SITE)
  const { responses } = await rawExchange(gateway.port, rawRequest('POST /payments/x', 'Content-Length: 5'))
  t.equal(responses[0]!.status, 413)
  await gateway.recorded(1)
  t.same(await used(gateway, 0), [0, 1])
  t.equal(payments.received.length, 0)
})

t.test('a client that leaves during the store call leaves no slot behind', async (t) => {
  let decide: () => void = () => {}
  const gateway: TestGateway = await startGateway(
    t,
    SITE.replace('PAYMENTS', 'http://127.0.0.1:1').replace('MARKETING', 'http://127.0.0.1:1'),
    {
      limiter: {
        take: (...args) =>
          new Promise<Decision>((resolve) => {
            // Like a store that charges at once, and whose reply is late.
            const decision = gateway.limiter.take(...args)
            decide = () => resolve(decision)
          }),
      },
    },
  )
  for (const target of ['/payments/x', '/refunded/x']) {
    const connection = await openRaw(gateway.port)
    const recorded = gateway.records.length
    const asked = decide
    connection.write(rawRequest(`GET ${target}`))
    await eventually('the store is asked', () => decide !== asked)
    connection.socket.destroy()
    await gateway.recorded(recorded + 1)
    t.match(gateway.records.at(-1), { status: 499 })
    decide()
    await sleep(0)
  }
  t.same(await used(gateway, 0), [0, 1])
  t.same(await used(gateway, 1), [0], 'and what is given back on 499 is given back')
})

t.test('a tunnel holds its slot until it ends; a refused handshake does not', async (t) => {
  const chat = await startChat(t)
  const yaml = `
tiers: [free]
services:
  chat: { upstreams: [${chat.origin}], limits: { free: [{ amount: 1, algorithm: concurrency }] } }
routes:
  - { path: /*, service: chat, websocket: true }
`
  const gateway = await startGateway(t, yaml)
  const socket = await opened(gateway.port, '/room')
  t.same(await used(gateway, 0), [1])
  const { responses } = await rawExchange(gateway.port, handshake('/room'))
  t.equal(responses[0]!.status, 429)
  socket.send('hello')
  await once(socket, 'message')
  t.same(await used(gateway, 0), [1])
  socket.close()
  await closeOf(socket)
  await gateway.recorded(2)
  t.same(await used(gateway, 0), [0])

  const { responses: bad } = await rawExchange(
    gateway.port,
    handshake('/room', { 'Sec-WebSocket-Version': '8' }),
  )
  t.equal(bad[0]!.status, 426)
  const again = await opened(gateway.port, '/room')
  again.terminate()
  await gateway.recorded(4)
  t.same(await used(gateway, 0), [0], 'a tunnel that is cut holds no slot')
})

t.test('a listed status gives the whole charge back, and a cost header corrects it', async (t) => {
  let answer: { status: number; fields?: Record<string, string> } = { status: 200 }
  const marketing = await recordingUpstream(t, (req, res) => {
    req.resume()
    res.writeHead(answer.status, answer.fields).end()
  })
  const { gateway } = await startSite(t, SITE, { marketing })
  const after = async (target: string, status: number, fields?: Record<string, string>) => {
    answer = { status, ...(fields === undefined ? {} : { fields }) }
    const recorded = gateway.records.length
    const { responses } = await rawExchange(gateway.port, rawRequest(`GET ${target}`))
    t.equal(responses[0]!.status, status)
    t.equal(
      responses[0]!.header('x-token-cost'),
      target.startsWith('/marketing') ? fields?.['x-token-cost'] : undefined,
    )
    await gateway.recorded(recorded + 1)
    const [now] = await used(gateway, 1)
    const { cost } = gateway.records.at(-1)!
    await gateway.limiter.reset(gateway.snapshot().services[1]!, '127.0.0.1', true)
    return [now, cost]
  }
  t.same(await after('/refunded/x', 200), [4, undefined])
  t.same(await after('/refunded/x', 503), [0, 0], 'all of it, on a class of statuses')
  t.same(await after('/refunded/x', 404), [0, 0], 'or on one')
  t.same(await after('/refunded/x', 403), [4, undefined])
  t.same(await after('/tokens/x', 200, { 'x-token-cost': '7' }), [7, 7], 'more is taken on top')
  t.same(await after('/tokens/x', 200, { 'X-Token-Cost': '1' }), [1, 1], 'less is given back')
  t.same(await after('/tokens/x', 200, { 'x-token-cost': '0' }), [0, 0])
  t.same(await after('/tokens/x', 200, { 'x-token-cost': '4' }), [4, 4])
  t.same(await after('/tokens/x', 200), [4, undefined], 'an upstream that says nothing')
  for (const bad of ['', '-1', '1.5', '1e3', '7 tokens', '0x7', '1, 2']) {
    t.same(await after('/tokens/x', 200, { 'x-token-cost': bad }), [4, undefined], `"${bad}" is no cost`)
  }
  t.same(await after('/both/x', 503, { 'x-token-cost': '7' }), [0, 0], 'a refund is of all')
  t.same(await after('/both/x', 500, { 'x-token-cost': '7' }), [7, 7])
  t.same(
    await after('/marketing/x', 500, { 'x-token-cost': '7' }),
    [1, undefined],
    'a route that asks for neither',
  )
})

t.test('a response of the gateway itself with a listed status gives it back, too', async (t) => {
  const { origin } = await refusingPort()
  const yaml = SITE.replace('PAYMENTS', origin).replace('MARKETING', origin)
  const gateway = await startGateway(t, yaml)
  const { responses } = await rawExchange(gateway.port, rawRequest('GET /refunded/x'))
  t.equal(responses[0]!.status, 502)
  await gateway.recorded(1)
  t.same(await used(gateway, 1), [0])
})

t.test('a client that leaves before the response gets its charge back if 499 is listed', async (t) => {
  const { upstream, answers } = await waitingUpstream(t)
  const { gateway } = await startSite(t, SITE, { marketing: upstream })
  for (const [target, left] of [
    ['/refunded/x', 0],
    ['/tokens/x', 4],
  ] as const) {
    const [recorded, waiting] = [gateway.records.length, answers.length]
    const connection = await openRaw(gateway.port)
    connection.write(rawRequest(`GET ${target}`))
    await eventually('it is with the upstream', () => answers.length === waiting + 1)
    connection.socket.destroy()
    await gateway.recorded(recorded + 1)
    t.match(gateway.records.at(-1), { status: 499 })
    t.same(await used(gateway, 1), [left], target)
  }
})

t.test('a response that is cut gives its charge back if `upstream_cut` is listed', async (t) => {
  const upstream = await rawUpstream(t, ({ socket }) =>
    socket.end('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf'),
  )
  const yaml = SITE.replace('refund_on: [503]', 'refund_on: [503, upstream_cut]')
  const gateway = await startGateway(
    t,
    yaml.replace('PAYMENTS', upstream.origin).replace('MARKETING', upstream.origin),
  )
  for (const [target, left] of [
    ['/refunded/x', 4],
    ['/both/x', 4],
  ] as const) {
    const recorded = gateway.records.length
    const client = await openRaw(gateway.port)
    client.write(rawRequest(`GET ${target}`))
    await client.closed()
    t.match(client.received(), 'HTTP/1.1 200 OK')
    await gateway.recorded(recorded + 1)
    t.match(gateway.records.at(-1), { status: 200, error: 'upstream_cut' })
    t.same(await used(gateway, 1), [left], target)
  }
})

t.test('a debt delays the next request', async (t) => {
  const marketing = await recordingUpstream(t, (req, res) => {
    req.resume()
    res.writeHead(200, { 'x-token-cost': '25' }).end()
  })
  const { gateway } = await startSite(t, SITE, { marketing })
  await rawExchange(gateway.port, rawRequest('GET /tokens/x'))
  await gateway.recorded(1)
  t.same(await used(gateway, 1), [25])
  gateway.clock.now += 60_000
  const { responses } = await rawExchange(gateway.port, rawRequest('GET /marketing/x'))
  t.equal(responses[0]!.status, 429, 'the whole next minute is owed')
  // 25 × (1 − elapsed) + 1 ≤ 10
  t.equal(responses[0]!.header('retry-after'), '39')
})

t.test('an absurd cost is capped', async (t) => {
  const marketing = await recordingUpstream(t, (req, res) => {
    req.resume()
    res.writeHead(200, { 'x-token-cost': '9'.repeat(400) }).end()
  })
  const { gateway } = await startSite(t, SITE, { marketing })
  await rawExchange(gateway.port, rawRequest('GET /tokens/x'))
  await gateway.recorded(1)
  t.match(gateway.records[0], { cost: 2 ** 25 - 1 })
  t.same(await used(gateway, 1), [2 ** 25 - 1])
})

t.test('a candidate limit denies nothing, and is settled like a live one', async (t) => {
  const { upstream, answers } = await waitingUpstream(t)
  const yaml = `
tiers: [free]
services:
  payments:
    upstreams: [PAYMENTS]
    limits:
      free:
        - 3/min
        - { amount: 2, window: 1m, candidate: true }
        - { amount: 1, algorithm: concurrency, candidate: true }
routes:
  - { path: /*, service: payments, refund_on: [499] }
`
  const { gateway } = await startSite(t, yaml, { payments: upstream })
  const tried = async () => {
    const { policies } = gateway.snapshot().services[0]!
    const usage = await gateway.limiter.usage(
      gateway.snapshot().services[0]!,
      policies[0]!.candidate!,
      '127.0.0.1',
      levelsAt('127.0.0.1'),
    )
    return usage.map((one) => one.used)
  }
  const open = async () => {
    const connection = await openRaw(gateway.port)
    const waiting = answers.length
    connection.write(rawRequest('GET /x'))
    await eventually('it is with the upstream', () => answers.length === waiting + 1)
    return connection
  }
  const first = await open()
  t.same(await tried(), [1, 1])
  const second = await open()
  t.same(await tried(), [1, 1], 'the second would not have passed')
  t.same(
    gateway.candidates.map(([, { allowed, binding }]) => [allowed, binding]),
    [
      [true, 1],
      [false, 1],
    ],
  )
  answers[0]!()
  await gateway.recorded(1)
  t.same(await tried(), [1, 0])
  const third = await open()
  third.socket.destroy()
  await gateway.recorded(2)
  t.same(await tried(), [1, 0], 'given back, as it is of the live limit')
  t.same(await used(gateway, 0), [2])
  const fourth = await open()
  const { responses } = await rawExchange(gateway.port, rawRequest('GET /x'))
  t.match(JSON.parse(responses[0]!.body), { status: 429, 'violated-policies': ['minute'] })
  t.equal(responses[0]!.header('ratelimit-policy'), '"minute";q=3;w=60', 'callers do not see it')
  t.equal(gateway.candidates.length, 5, 'requests that the live limit denies are counted, too')
  for (const { socket } of [first, second, fourth]) socket.destroy()
})

t.test('without refunds or slots nothing is settled', async (t) => {
  let settled = 0
  const yaml = `
tiers: [free]
services: { payments: { upstreams: [PAYMENTS], limits: { free: [5/s, 100/min] } } }
routes: [{ path: /*, service: payments }]
`
  const { gateway } = await startSite(t, yaml, {}, { limiter: { settle: () => void settled++ } })
  await rawExchange(gateway.port, rawRequest('GET /x'))
  await gateway.recorded(1)
  t.equal(settled, 0)
  t.match(gateway.records, [{ status: 200, held: undefined, cost: undefined }])
})

t.test('a decision without the store is not settled with it', async (t) => {
  for (const [decidedBy, expected] of [
    ['open', 0],
    ['local', 1],
  ] as const) {
    let settled = 0
    const decision = {
      allowed: true,
      decidedBy,
      reason: 'timeout',
      binding: 0,
      violated: 0,
      remaining: 1,
      resetMs: 1,
      retryMs: 0,
      at: 0,
    } as const
    const limiter = { take: () => decision, settle: () => void settled++ }
    const { gateway } = await startSite(t, SITE, {}, { limiter })
    await rawExchange(gateway.port, rawRequest('GET /payments/x'))
    await gateway.recorded(1)
    t.equal(settled, expected, decidedBy)
  }
})
