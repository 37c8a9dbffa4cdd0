import fc from 'fast-check'
import t from 'tap'
import { createPlan, type LoggedRequest, type Planned } from '../../../src/gateway/simulate/log-replay.js'
import { createMemoryLimiter } from '../../../src/limiter/memory.js'
import { snapshotOf } from '../../support/gateway/gateway.js'

const START = 1_760_000_040_000

const configOf = (limits: string, more = '') => `
tiers: [free, pro]
consumers: [{ header: { name: x-user-id, from: anyone } }]
services:
  api: { upstreams: [http://127.0.0.1:9], limits: ${limits} }
routes: [{ path: /api/*, service: api${more} }]
`

function logged(changes: Partial<LoggedRequest> = {}): LoggedRequest {
  const began = changes.began ?? START
  return {
    began,
    ended: began + 5,
    requestId: 'r-1',
    method: 'GET',
    host: 'api.example.com',
    path: '/api/x',
    route: '/api/*',
    service: 'api',
    cost: 1,
    tier: 'free',
    consumer: 'alice',
    tenant: undefined,
    clientIp: '192.0.2.7',
    status: 200,
    error: undefined,
    reachedLimits: true,
    ...changes,
  }
}

const isDenied = (outcome: ReturnType<ReturnType<typeof createPlan>['request']>) =>
  typeof outcome === 'string' ? outcome : outcome.deniedNow

t.test('a limit that would have denied is named, beside what was denied then', async (t) => {
  const plan = createPlan(snapshotOf(configOf('{ free: 2/min, pro: unlimited }')))
  const outcomes = [1, 2, 3].map((i) => plan.request(logged({ began: START + i })))
  t.match(outcomes, [{ deniedNow: false }, { deniedNow: false }, { deniedNow: true, deniedThen: false }])
  t.match((outcomes[2] as Planned).limit, { name: 'minute', amount: 2 })
  t.match(plan.request(logged({ consumer: 'bob', error: 'quota_exceeded', status: 429 })), {
    service: 'api',
    tier: 'free',
    consumer: 'bob',
    deniedThen: true,
    deniedNow: false,
    limit: undefined,
  })
  t.match(plan.request(logged({ tier: 'pro', error: 'quota_exceeded' })), {
    tier: 'pro',
    deniedThen: true,
    deniedNow: false,
  })
  t.equal(isDenied(plan.request(logged({ began: START + 120_000 }))), false, 'two minutes later')
})

t.test('a request that never reached a limit is not counted', async (t) => {
  const respond = `
  - { path: /fixed, respond: { status: 200, body: ok } }`
  const plan = createPlan(snapshotOf(`${configOf('{ free: 1/min, pro: 1/min }').trimEnd()}`))
  t.equal(plan.request(logged({ consumer: undefined })), 'unidentified')
  t.equal(plan.request(logged({ error: 'insufficient_scope', status: 403, reachedLimits: false })), 'refused')
  t.equal(plan.request(logged({ path: '/gone/x' })), 'unrouted')
  t.equal(plan.request(logged({ method: 'TRACE' })), 'unrouted')
  t.equal(isDenied(plan.request(logged())), false, 'the first that counts')
  t.equal(
    isDenied(plan.request(logged({ error: 'upstream_timeout', status: 504 }))),
    true,
    'one that had no limit then, whatever its end',
  )
  const routes = `routes:
  - { path: /api/*, service: api }${respond}`
  const fixed = createPlan(
    snapshotOf(configOf('{ free: 1/min, pro: 1/min }').replace(/^routes: .*$/m, routes)),
  )
  t.equal(fixed.request(logged({ path: '/fixed' })), 'answered')
})

t.test('an unknown tier counts as the default, and is reported', async (t) => {
  const plan = createPlan(snapshotOf(configOf('{ free: 1/min, pro: 5/min }', '')))
  for (let i = 0; i < 3; i++) plan.request(logged({ tier: 'gold' }))
  t.match(plan.request(logged({ tier: 'gold' })), { tier: 'free', deniedNow: true })
  t.same([...plan.unknownTiers()], [['gold', 4]])
})

t.test("costs are the route's current ones, and those that the client or the upstream set", async (t) => {
  const of = (more: string) => createPlan(snapshotOf(configOf('{ free: 10/min, pro: 10/min }', more)))
  const passes = (plan: ReturnType<typeof of>, changes: Partial<LoggedRequest>) => {
    let passed = 0
    for (let began = START; passed < 50 && isDenied(plan.request(logged({ began, ...changes }))) === false; )
      began = START + ++passed * 10
    return passed
  }
  t.equal(passes(of(', cost: 5'), {}), 2)
  t.equal(passes(of(', refund_on: [5xx]'), { status: 503 }), 50, 'a failed request is refunded')
  t.equal(passes(of(', refund_on: [5xx]'), { status: 200 }), 10)
  t.equal(passes(of(', cost_header: x-cost'), { cost: 3 }), 4, 'the fourth is allowed, and goes into debt')
  const costs = ', cost: { header: x-cost, default: 1, max: 4, consumers: [alice] }'
  t.equal(passes(of(costs), { cost: 5 }), 2, 'at most the most')
  t.equal(passes(of(costs), { cost: 5, consumer: 'bob' }), 10, 'an untrusted consumer')
})

t.test('a slot is held from the beginning to the end of a request, however long', async (t) => {
  const limits =
    '{ free: { amount: 1, algorithm: concurrency, lease: 10s }, pro: { amount: 1, algorithm: concurrency } }'
  const plan = createPlan(snapshotOf(configOf(limits)))
  const at = (began: number, took: number) =>
    isDenied(plan.request(logged({ began: START + began, ended: START + began + took })))
  t.equal(at(0, 3_600_000), false)
  t.equal(at(20_000, 10), true, 'longer than its lease')
  t.equal(at(3_599_000, 10), true)
  t.equal(at(3_600_001, 10), false, 'it has ended')
})

t.test('levels count: by address, by tenant', async (t) => {
  const plan = createPlan(
    snapshotOf(
      configOf(
        '{ free: [{ amount: 2, window: 1m, by: ip }, { amount: 3, window: 1m, by: tenant }], pro: 1/s }',
      ),
    ),
  )
  const from = (clientIp: string, consumer: string, tenant?: string) =>
    isDenied(plan.request(logged({ clientIp, consumer, tenant })))
  t.same(
    [from('192.0.2.1', 'a', 'acme'), from('192.0.2.1', 'b', 'acme'), from('192.0.2.1', 'c', 'acme')],
    [false, false, true],
  )
  t.same([from('192.0.2.2', 'd', 'acme'), from('192.0.2.2', 'e', 'acme')], [false, true])
  t.equal(from('192.0.2.3', 'e'), false, 'without a tenant')
})

t.test("a replay against the same limits repeats the limiter's decisions", async (t) => {
  const request = fc.record({
    consumer: fc.constantFrom('a', 'b', 'c'),
    after: fc.nat(40_000),
    took: fc.nat(90_000),
  })
  const limits = fc.constantFrom(
    '3/min',
    '[2/10s, 5/min]',
    '{ amount: 3, window: 1m, algorithm: fixed }',
    '{ amount: 3, window: 1m, algorithm: strict }',
    '{ amount: 3, window: 1m, algorithm: token_bucket, burst: 2 }',
  )
  await fc.assert(
    fc.asyncProperty(limits, fc.array(request, { minLength: 1, maxLength: 60 }), async (own, requests) => {
      const snapshot = snapshotOf(configOf(`{ free: ${own}, pro: unlimited }`))
      const service = snapshot.routes[0]!.service
      let now = START
      const limiter = createMemoryLimiter({ now: () => now })
      const lines = requests.map(({ consumer, after, took }) => {
        now += after
        const { allowed } = limiter.take(service, service.policies[0]!, consumer, 1)
        const error = allowed ? undefined : 'quota_exceeded'
        return logged({ began: now, ended: now + took, consumer, error })
      })
      const plan = createPlan(snapshot)
      for (const line of lines) {
        const { deniedThen, deniedNow } = plan.request(line) as Planned
        if (deniedThen !== deniedNow) throw new Error(`${deniedThen} then, ${deniedNow} now`)
      }
    }),
  )
  t.pass()
})
