import t from 'tap'
import type { ErrorCode } from '../../src/errors.js'
import { takeQuota as takeQuotaWith } from '../../src/gateway/quota.js'
import { pushQuotaHeaders } from '../../src/gateway/quota-headers.js'
import { matchRoute } from '../../src/gateway/route.js'
import type { Decision, Limiter } from '../../src/limiter/limiter.js'
import { createMemoryLimiter } from '../../src/limiter/memory.js'
import { exchangeFor } from '../support/exchange.js'
import { createClock, snapshotOf } from '../support/gateway.js'
import { exampleDecision } from '../support/snapshot.js'

const snapshot = snapshotOf(`
tiers: [free, pro, enterprise]
services:
  payments:
    upstreams: [http://127.0.0.1:9001]
    limits: { free: 10/min, pro: [5/s, 100/min], enterprise: unlimited }
  reports:
    upstreams: [http://127.0.0.1:9002]
    limits:
      free: { amount: 3, window: 1500ms, name: burst }
      pro: 3/30s
      enterprise: 100/day
routes:
  - { path: /payments/*, service: payments }
  - { path: /payments/refunds, service: payments, cost: 5 }
  - { path: /payments/dear, service: payments, cost: 11 }
  - { path: /reports/*, service: reports }
`)

const TIERS = ['free', 'pro', 'enterprise'] as const

function asked(target: string, tier: (typeof TIERS)[number]) {
  const x = exchangeFor(snapshot, { target })
  matchRoute(x)
  x.consumer = 'alice'
  x.tier = TIERS.indexOf(tier)
  return x
}

/** What the client of an allowed request sees of its quota. */
function fieldsOf(x: ReturnType<typeof asked>): Record<string, string> {
  const flat: string[] = []
  pushQuotaHeaders(flat, x.route!.service.policies[x.tier]!, x.decision!)
  return asObject(flat)
}

function asObject(flat: readonly string[]): Record<string, string> {
  return Object.fromEntries(flat.flatMap((name, i) => (i % 2 === 0 ? [[name, flat[i + 1]!]] : [])))
}

/** The stage alone: what it holds is never settled, what it tries out never counted. */
function takeQuota(limiter: Pick<Limiter, 'take'>) {
  return takeQuotaWith({ limiter, charges: { hold() {} }, metrics: { candidate() {} } })
}

/** A limiter that always decides the same. */
function deciding(decision: Partial<Decision>): Pick<Limiter, 'take'> {
  return { take: () => exampleDecision(decision) }
}

function refusedBy(
  decision: Partial<Decision>,
  target = '/payments/1',
  tier: (typeof TIERS)[number] = 'free',
) {
  const x = asked(target, tier)
  const refusal = takeQuota(deciding({ allowed: false, violated: 1, remaining: 0, ...decision }))(x)
  if (refusal === undefined || refusal instanceof Promise) throw new Error('a refusal at once was expected')
  return { ...refusal, fields: asObject(refusal.headers ?? []) }
}

t.test('an allowed request says what is left, when the window ends, and what the policy is', async (t) => {
  const clock = createClock()
  const take = takeQuota(createMemoryLimiter({ now: () => clock.now }))
  clock.now += 41_500
  const x = asked('/payments/1', 'free')
  t.equal(take(x), undefined)
  t.same(fieldsOf(x), {
    'RateLimit-Policy': '"minute";q=10;w=60',
    RateLimit: '"minute";r=9;t=19',
    'X-RateLimit-Limit': '10',
    'X-RateLimit-Remaining': '9',
    'X-RateLimit-Reset': '19',
  })
  t.match(x.decision, { allowed: true, decidedBy: 'store' })
  t.ok(x.limitMs >= 0 && x.limitMs < 1_000)
})

t.test('a cost is taken whole, and remaining counts requests of cost 1', async (t) => {
  const clock = createClock()
  const take = takeQuota(createMemoryLimiter({ now: () => clock.now }))
  const first = asked('/payments/refunds', 'free')
  t.equal(take(first), undefined)
  t.match(fieldsOf(first), { RateLimit: '"minute";r=5;t=60' })
  const second = asked('/payments/refunds', 'free')
  t.equal(take(second), undefined)
  t.match(fieldsOf(second), { RateLimit: '"minute";r=0;t=60', 'X-RateLimit-Remaining': '0' })
  t.match(take(asked('/payments/1', 'free')), { code: 'quota_exceeded' })
})

t.test('of several limits the one that leaves least is told; the policy tells all', async (t) => {
  const clock = createClock()
  const take = takeQuota(createMemoryLimiter({ now: () => clock.now }))
  const x = asked('/payments/1', 'pro')
  take(x)
  t.same(fieldsOf(x), {
    'RateLimit-Policy': '"second";q=5;w=1, "minute";q=100;w=60',
    RateLimit: '"second";r=4;t=1',
    'X-RateLimit-Limit': '5',
    'X-RateLimit-Remaining': '4',
    'X-RateLimit-Reset': '1',
  })
  // 98 of the minute's 100 are gone, the second begins anew: now the minute leaves less.
  for (let second = 0; second < 49; second++) {
    clock.now += 1_000
    for (let i = 0; i < 2; i++) take(asked('/payments/1', 'pro'))
  }
  clock.now += 2_000
  const late = asked('/payments/1', 'pro')
  t.equal(take(late), undefined)
  t.match(fieldsOf(late), { RateLimit: '"minute";r=0;t=9', 'X-RateLimit-Limit': '100' })
})

t.test('a limit with a name or a window of its own is called so', async (t) => {
  const clock = createClock()
  const take = takeQuota(createMemoryLimiter({ now: () => clock.now }))
  const x = asked('/reports/1', 'free')
  take(x)
  t.match(fieldsOf(x), { 'RateLimit-Policy': /^"burst";q=3;w=/, RateLimit: '"burst";r=2;t=2' })
  const y = asked('/reports/1', 'pro')
  take(y)
  t.match(fieldsOf(y), { 'RateLimit-Policy': '"30s";q=3;w=30', RateLimit: /^"30s";r=2;t=\d+$/ })
  const z = asked('/reports/1', 'enterprise')
  take(z)
  t.match(fieldsOf(z), { 'RateLimit-Policy': '"day";q=100;w=86400', RateLimit: /^"day";r=99;t=\d+$/ })
})

t.test('a denied request is told the policy, when to come again, and which limits denied it', async (t) => {
  const clock = createClock()
  const take = takeQuota(createMemoryLimiter({ now: () => clock.now }))
  for (let i = 0; i < 10; i++) t.equal(take(asked('/payments/1', 'free')), undefined)
  t.same(take(asked('/payments/1', 'free')), {
    code: 'quota_exceeded',
    detail: 'The quota "minute" (10 per 60 s) of tier free on payments is used up; try again in 66 s.',
    headers: [
      'RateLimit-Policy',
      '"minute";q=10;w=60',
      'RateLimit',
      '"minute";r=0;t=66',
      'X-RateLimit-Limit',
      '10',
      'X-RateLimit-Remaining',
      '0',
      'X-RateLimit-Reset',
      '66',
      'Retry-After',
      '66',
    ],
    violatedPolicies: ['minute'],
  })
  clock.now += 65_999
  t.ok(take(asked('/payments/1', 'free')), 'not a second before that')
  clock.now += 1
  t.equal(take(asked('/payments/1', 'free')), undefined, 'and then it passes')
})

t.test(
  'Retry-After is whole seconds, rounded up, never 0, and never sooner than X-RateLimit-Reset',
  async (t) => {
    for (const [retryMs, seconds] of [
      [1, '1'],
      [999, '1'],
      [1_000, '1'],
      [1_001, '2'],
      [59_999, '60'],
      [60_000, '60'],
      [86_400_001, '86401'],
    ] as const) {
      const { fields } = refusedBy({ retryMs, resetMs: 200 })
      t.match(fields, {
        'Retry-After': seconds,
        'X-RateLimit-Reset': seconds,
        RateLimit: `"minute";r=0;t=${seconds}`,
      })
    }
  },
)

t.test('a cost above the limit is told that waiting is no use', async (t) => {
  const clock = createClock()
  const refusal = takeQuota(createMemoryLimiter({ now: () => clock.now }))(asked('/payments/dear', 'free'))
  if (refusal === undefined || refusal instanceof Promise) throw new Error('a refusal at once was expected')
  t.match(refusal, {
    code: 'quota_exceeded',
    detail:
      'The quota "minute" (10 per 60 s) of tier free on payments never allows a request of cost 11; ask for a higher tier.',
    violatedPolicies: ['minute'],
  })
  const fields = asObject(refusal.headers!)
  t.notOk('Retry-After' in fields)
  t.match(fields, { RateLimit: '"minute";r=10;t=60', 'X-RateLimit-Remaining': '10' })
})

t.test('all limits that deny are named', async (t) => {
  const both = { violated: 0b11, binding: 1, retryMs: 30_000 }
  t.same(refusedBy(both, '/payments/1', 'pro').violatedPolicies, ['second', 'minute'])
  t.same(refusedBy({ ...both, violated: 0b10 }, '/payments/1', 'pro').violatedPolicies, ['minute'])
  t.match(refusedBy(both, '/payments/1', 'pro').fields, {
    RateLimit: '"minute";r=0;t=30',
    'X-RateLimit-Limit': '100',
  })
})

t.test('a window that is no whole number of seconds is told in ms', async (t) => {
  t.match(refusedBy({ retryMs: 700 }, '/reports/1', 'free').detail, '"burst" (3 per 1500 ms)')
})

t.test('a decision that the store did not make claims no quota', async (t) => {
  for (const decidedBy of ['open', 'local'] as const) {
    const x = asked('/payments/1', 'free')
    t.equal(takeQuota(deciding({ decidedBy, reason: 'timeout' }))(x), undefined)
    t.same(fieldsOf(x), {}, decidedBy)
    t.equal(x.decision?.decidedBy, decidedBy, 'but it is recorded')
  }
  const cached = asked('/payments/1', 'free')
  takeQuota(deciding({ decidedBy: 'cache' }))(cached)
  t.match(fieldsOf(cached), { RateLimit: /r=9/ }, 'a remembered answer of the store is one of the store')
})

t.test('a local denial is 429 with Retry-After, and claims no quota', async (t) => {
  const { code, fields, violatedPolicies } = refusedBy({
    decidedBy: 'local',
    reason: 'breaker',
    retryMs: 2_500,
  })
  t.equal(code, 'quota_exceeded' satisfies ErrorCode)
  t.same(fields, { 'Retry-After': '3' })
  t.same(violatedPolicies, ['minute'])
})

t.test('closed is 503 with Retry-After, and blames no quota', async (t) => {
  const { fields, ...refusal } = refusedBy({
    decidedBy: 'closed',
    reason: 'error',
    violated: 0,
    retryMs: 1_000,
  })
  t.same(refusal, { code: 'store_unavailable', headers: ['Retry-After', '1'] })
})

t.test('an unlimited tier does not ask the limiter', async (t) => {
  const x = asked('/payments/1', 'enterprise')
  const limiter = {
    take(): Decision {
      throw new Error('asked')
    },
  }
  t.equal(takeQuota(limiter)(x), undefined)
  t.equal(x.decision, undefined)
})

t.test(
  'the limiter is asked for service, policy, consumer and cost of the request; it may take its time',
  async (t) => {
    const calls: unknown[][] = []
    const limiter: Pick<Limiter, 'take'> = {
      async take(service, policy, consumer, cost) {
        calls.push([service.name, policy.header, consumer, cost])
        return exampleDecision({ allowed: false, violated: 1, retryMs: 1 })
      },
    }
    const x = asked('/payments/refunds', 'free')
    t.match(await takeQuota(limiter)(x), { code: 'quota_exceeded' })
    t.same(calls, [['payments', '"minute";q=10;w=60', 'alice', 5]])
    t.match(x.decision, { allowed: false })
  },
)
