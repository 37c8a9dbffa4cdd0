import t from 'tap'
import { createSeenNonces } from '../../../src/credentials/seen-nonces.js'
import { createTokens } from '../../../src/credentials/tokens.js'
import { createMemoryLimiter } from '../../../src/limiter/memory.js'
import type { ExplainQuestion } from '../../../src/telemetry/decisions/explained-decision.js'
import type { UpstreamState } from '../../../src/upstream/pool/state.js'
import { signed } from '../../support/credentials/signing.js'
import { explainOver } from '../../support/gateway/explain.js'
import { createClock, memoryAmounts, memoryAssignments, snapshotOf } from '../../support/gateway/gateway.js'

const tokens = createTokens({ log: { info() {}, warn() {} } })

const KEY = 'the-key-of-acme-inc'
const snapshot = snapshotOf(`
tiers: [free, pro]
consumers:
  - api_key: { keys: [{ key: ${KEY}, consumer: acme, tier: pro }] }
  - header: { name: x-user-id, from: anyone }
  - ip: {}
services:
  payments: { upstreams: [http://127.0.0.1:9001], limits: { free: 2/min, pro: unlimited }, exempt: { addresses: [203.0.113.0/24] } }
  other: { upstreams: [http://127.0.0.1:9002] }
routes:
  - { path: /payments/*, service: payments }
  - { path: /payments/refunds, methods: [POST], service: payments, cost: 2 }
  - { path: /v1/*, host: api.example.com, service: other }
  - { path: /hello, respond: { status: 200, body: hi } }
  - { path: /split/*, split: [{ service: payments, weight: 90 }, { service: other, weight: 10 }] }
`)

function open() {
  const clock = createClock()
  const limiter = createMemoryLimiter({ now: () => clock.now })
  const assignments = memoryAssignments()
  const amounts = memoryAmounts()
  const circuits: { service: string; circuit: 'open' }[] = []
  // biome-ignore lint/suspicious/noExplicitAny: of a guard's state no more is looked at
  const guards = async () => circuits as any
  const states: { service: string; state: UpstreamState['state'] }[] = []
  // biome-ignore lint/suspicious/noExplicitAny: nor of that of an upstream
  const upstreams = async () => states as any
  const explain = explainOver(() => snapshot, { limiter, assignments, amounts, tokens, guards, upstreams })
  const ask = (method: string, url: string, changes: Partial<ExplainQuestion> = {}) =>
    explain({ method, url, headers: [['x-user-id', 'bob']], peer: '192.0.2.7', ...changes })
  return { limiter, assignments, amounts, circuits, states, ask }
}

t.test('explaining a signed request does not use up its nonce', async (t) => {
  const nonces = createSeenNonces()
  const signing = snapshotOf(`
tiers: [free]
consumers: [{ signature: { keys: [{ id: acme-1, secret: a-secret-of-the-partner, consumer: acme }] } }]
services: { payments: { upstreams: [http://127.0.0.1:9001], limits: { free: 2/min } } }
routes: [{ path: /*, service: payments }]
`)
  const explain = explainOver(() => signing, { tokens, nonces })
  const lines = [
    ['@method', 'GET'],
    ['@authority', 'gateway.example'],
    ['@path', '/a'],
    ['@query', '?'],
  ] as const
  const key = { secret: 'a-secret-of-the-partner', keyid: 'acme-1' }
  const [input = '', inputs = '', name = '', signature = ''] = signed(lines, {
    ...key,
    more: ';nonce="n-1"',
  })
  const headers = [
    ['host', 'gateway.example'],
    [input, inputs],
    [name, signature],
  ] as const
  const ask = () => explain({ method: 'GET', url: '/a', headers, peer: '192.0.2.7' })
  for (let i = 0; i < 3; i++)
    t.match(await ask(), { status: 0, consumer: 'acme', identified_by: 'signature' })
  t.ok(nonces.isNew('acme-1', 'n-1', 60_000, 1000, Date.now()))
  t.match(await ask(), { status: 401, cause: /The nonce was used before/ }, 'by a real request')
})

t.test('it tells what the limits would decide, and takes nothing', async (t) => {
  const { ask, limiter } = open()
  for (let i = 0; i < 5; i++)
    t.match(await ask('GET', '/payments/1'), { status: 0, decision: { allowed: true, remaining: 1 } })
  const [service] = snapshot.services
  const take = () => limiter.take(service!, service!.policies[0]!, 'bob', 1)
  take()
  t.match(await ask('POST', '/payments/refunds'), {
    status: 429,
    error: 'quota_exceeded',
    cost: 2,
    why: /had 1 of 2 left, and the request costs 2; it can pass/,
    limits: [{ used: 1, remaining: 1, denied: true }],
    fits: ['POST /payments/refunds', '/payments/*'],
  })
  t.ok(take().allowed, 'all that was left is still there')
})

t.test('it finds consumer and tier as a request would, and repeats no key', async (t) => {
  const { ask, assignments } = open()
  const acme = await ask('GET', '/payments/1', { headers: [['X-Api-Key', KEY]] })
  t.match(acme, { consumer: 'acme', identified_by: 'api_key', tier: 'pro', tier_from: 'credential' })
  const exempt = await ask('GET', '/payments/1', { headers: [], peer: '203.0.113.9' })
  t.match(exempt, { exempt: true, decision: null, why: /^Not limited: the caller is exempt on payments/ })
  t.match(acme.why, /^Not limited: tier pro is unlimited on payments/)
  const wrong = await ask('GET', '/payments/1', { headers: [['x-api-key', 'hunter2']] })
  t.match(wrong, { status: 401, error: 'unauthorized', consumer: null })
  t.notMatch(JSON.stringify([acme, wrong]), new RegExp(`hunter2|${KEY}`))
  await assignments.set('bob', 'pro')
  t.match(await ask('GET', '/payments/1'), { tier: 'pro', tier_from: 'assignment' })
  t.match(await ask('GET', '/payments/1', { headers: [], peer: '2001:db8::1' }), { identified_by: 'ip' })
})

t.test('without a matching route it names the near ones', async (t) => {
  const { ask } = open()
  t.match(await ask('GET', '/paymens/1'), { status: 404, error: 'no_route', fits: [] })
  t.equal((await ask('GET', '/paymens/1')).near[0], '/payments/*')
  t.same((await ask('GET', '/v1/x')).near, ['api.example.com/v1/*'], 'it is another host')
  t.match(await ask('GET', 'http://api.example.com/v1/x?token=1'), {
    host: 'api.example.com',
    path: '/v1/x',
    near: [],
  })
})

t.test('a request refused before the limits is explained with its reason', async (t) => {
  const { ask, circuits, assignments } = open()
  t.match(await ask('GET', '/a/../b'), { status: 400, error: 'bad_target', cause: /dot segment/ })
  t.match(await ask('GET', '/hello'), { status: 200, error: null, why: /answers by itself/ })
  t.match(await ask('GET', '/split/1'), {
    split: [
      { service: 'payments', weight: 90 },
      { service: 'other', weight: 10 },
    ],
  })
  circuits.push({ service: 'payments', circuit: 'open' })
  t.match(await ask('GET', '/payments/1'), { status: 503, error: 'circuit_open', decision: null })
  const away = explainOver(() => snapshot, {
    limiter: { preview: () => Promise.reject(new Error('no connection')) },
    assignments,
    tokens,
  })
  t.match(await away({ method: 'GET', url: '/payments/1', headers: [], peer: '192.0.2.7' }), {
    problem: 'no connection',
    why: /is unknown; payments is open meanwhile/,
  })
})

t.test('a request that passes is explained with the available upstreams', async (t) => {
  const { ask, states } = open()
  t.match(await ask('GET', '/payments/1'), { upstreams: null, status: 0 }, 'no gateway was asked')
  states.push({ service: 'other', state: 'drained' })
  const add = (state: UpstreamState['state']) => states.push({ service: 'payments', state })

  add('unhealthy')
  t.match(await ask('GET', '/payments/1'), {
    status: 0,
    error: null,
    upstreams: { all: 1, serving: 0, drained: 0 },
    why: /^Allowed: .* But the only upstream of payments is out; the gateway uses it all the same\.$/,
  })
  add('drained')
  t.match(await ask('GET', '/payments/1'), {
    status: 0,
    upstreams: { all: 2, serving: 0, drained: 1 },
    why: /But none of the 2 upstreams of payments is serving; the gateway uses one that is not drained/,
  })
  add('slow_start')
  t.match(await ask('GET', '/payments/1'), {
    upstreams: { all: 3, serving: 1, drained: 1 },
    why: /no other has less\.$/,
  })

  states.splice(1, 3, { service: 'payments', state: 'drained' })
  t.match(await ask('GET', '/payments/1'), {
    status: 503,
    error: 'no_upstream',
    decision: { allowed: true },
    why: /But the only upstream of payments is drained: 503 no_upstream\.$/,
  })
  t.match(
    await ask('POST', '/payments/refunds', { headers: [] }),
    { status: 503, error: 'no_upstream' },
    'by whatever tier',
  )
  t.match(
    await ask('GET', '/paymens/1'),
    { status: 404, upstreams: null },
    'no upstreams for a request that does not get there',
  )
})
