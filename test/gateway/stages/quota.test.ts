// Tests src/gateway/quota/denial.ts
import t from 'tap'
import type { ErrorCode, Refusal } from '../../../src/errors.js'
import type { Exchange } from '../../../src/gateway/exchange/exchange.js'
import { pushDecidedBy, pushQuotaHeaders } from '../../../src/gateway/quota/headers.js'
import { type Later, WAITING } from '../../../src/gateway/request-lifecycle.js'
import { resolveLimits } from '../../../src/gateway/stages/limits.js'
import { takeQuota as takeQuotaWith } from '../../../src/gateway/stages/quota.js'
import { matchRoute } from '../../../src/gateway/stages/route.js'
import type { Decision, Limiter } from '../../../src/limiter/limiter.js'
import { createMemoryLimiter } from '../../../src/limiter/memory.js'
import { connectStore } from '../../../src/limiter/redis/connect.js'
import { createRedisLimiter } from '../../../src/limiter/redis/redis.js'
import { reportedLimits } from '../../../src/telemetry/decisions/decision-data.js'
import { exchangeFor } from '../../support/gateway/exchange.js'
import { createClock, memoryAmounts, snapshotOf } from '../../support/gateway/gateway.js'
import { noHooks } from '../../support/gateway/hooks.js'
import { decidingBy } from '../../support/gateway/limiter.js'
import { exampleDecision } from '../../support/gateway/snapshot.js'
import { startRedis } from '../../support/redis/redis.js'

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

/** Returns what the client of an allowed request sees of its quota. */
function fieldsOf(x: ReturnType<typeof asked>): Record<string, string> {
  const flat: string[] = []
  pushQuotaHeaders(flat, x.route!.service.policies[x.tier]!, x.decision!)
  return asObject(flat)
}

function asObject(flat: readonly string[]): Record<string, string> {
  return Object.fromEntries(flat.flatMap((name, i) => (i % 2 === 0 ? [[name, flat[i + 1]!]] : [])))
}

/** Runs the stage alone: slots are never settled, candidates never counted. */
function takeQuota(limiter: Pick<Limiter, 'take'>) {
  return outcomesOf(
    takeQuotaWith({
      limiter: { decide: decidingBy(limiter.take) },
      runHooks: noHooks,
      charges: { hold() {} },
      metrics: { candidate() {} },
    }),
  )
}

/** Returns the outcome of the stage, or a promise of it if the stage waits. */
function outcomesOf(stage: ReturnType<typeof takeQuotaWith>) {
  return (x: Exchange): Refusal | undefined | Promise<Refusal | undefined> => {
    let later!: Later<Refusal | undefined>
    const waited = new Promise<Refusal | undefined>((resolve, reject) => {
      later = { proceed: resolve, broken: reject }
    })
    resolveLimits(memoryAmounts())(x)
    const outcome = stage(x, later)
    return outcome === WAITING ? waited : outcome
  }
}

/** A limiter that always gives the same decision. */
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

t.test('an allowed request tells the policy, what is left, and when the window ends', async (t) => {
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

t.test('a cost is charged in full, and remaining counts requests of cost 1', async (t) => {
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

t.test('of several limits the one with the least left is told; the policy lists all', async (t) => {
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
  // 98 of the minute's 100 are gone, and the second begins anew: now the minute leaves less.
  for (let second = 0; second < 49; second++) {
    clock.now += 1_000
    for (let i = 0; i < 2; i++) take(asked('/payments/1', 'pro'))
  }
  clock.now += 2_000
  const late = asked('/payments/1', 'pro')
  t.equal(take(late), undefined)
  t.match(fieldsOf(late), { RateLimit: '"minute";r=0;t=9', 'X-RateLimit-Limit': '100' })
})

t.test('a limit is called by its name, else by its window', async (t) => {
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

t.test('a denied request learns the policy, when to retry, and which limits denied it', async (t) => {
  const clock = createClock()
  const take = takeQuota(createMemoryLimiter({ now: () => clock.now }))
  for (let i = 0; i < 10; i++) t.equal(take(asked('/payments/1', 'free')), undefined)
  // plain/connections.test.ts tests how other refusals are written.
  const { prepared, ...told } = take(asked('/payments/1', 'free')) as Refusal
  t.ok(prepared)
  t.same(told, {
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

t.test('a cost above the limit is told that a retry is no use', async (t) => {
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

t.test('a window that is not a whole number of seconds is told in ms', async (t) => {
  t.match(refusedBy({ retryMs: 700 }, '/reports/1', 'free').detail, '"burst" (3 per 1500 ms)')
})

t.test('each algorithm has its own words for what is used up, and when to retry', async (t) => {
  const many = snapshotOf(`
tiers: [free]
services:
  payments:
    upstreams: [http://127.0.0.1:9001]
    limits:
      free:
        - { amount: 10, window: 1s, algorithm: token_bucket, burst: 20 }
        - { amount: 1000, algorithm: calendar, period: month, time_zone: Europe/Berlin }
        - { amount: 1, algorithm: concurrency }
        - { amount: 7, window: 1m, algorithm: strict }
        - { amount: 8, window: 1m, algorithm: fixed, name: fixed }
routes: [{ path: /*, service: payments }]
`)
  const said = (binding: number, retryMs: number) => {
    const x = exchangeFor(many)
    matchRoute(x)
    x.consumer = 'alice'
    x.tier = 0
    const decision = {
      allowed: false,
      violated: 1 << binding,
      binding,
      remaining: 0,
      retryMs,
      resetMs: 60_000,
    }
    const refusal = takeQuota(deciding(decision))(x)
    if (refusal === undefined || refusal instanceof Promise) throw new Error('a refusal at once was expected')
    return {
      detail: refusal.detail?.replace(' of tier free on payments', ''),
      fields: asObject(refusal.headers!),
    }
  }
  t.match(said(0, 100), {
    detail: 'The quota "second" (10 per 1 s, 20 at once) is used up; try again in 1 s.',
    fields: { RateLimit: '"second";r=0;t=1', 'X-RateLimit-Limit': '20', 'Retry-After': '1' },
  })
  t.match(said(1, 86_400_000), {
    detail: 'The quota "month" (1000 per month, Europe/Berlin) is used up; try again in 86400 s.',
    fields: { RateLimit: '"month";r=0;t=86400', 'X-RateLimit-Limit': '1000', 'Retry-After': '86400' },
  })
  t.match(said(2, 60_000), {
    detail: 'The quota "concurrent" (1 request at once) is used up; try again when one of them has ended.',
    fields: { RateLimit: '"concurrent";r=0', 'X-RateLimit-Reset': '1', 'Retry-After': '1' },
  })
  t.match(said(3, 60_000).detail, '"minute" (7 per 60 s) is used up; try again in 60 s.')
  t.match(said(4, 60_000).detail, '"fixed" (8 per 60 s)')
  t.match(said(0, -1).detail, 'never allows a request of cost 1; ask for a higher tier.')
  t.equal(
    said(0, 1).fields['RateLimit-Policy'],
    '"second";q=20;w=2, "month";q=1000, "concurrent";q=1;qu="concurrent-requests", "minute";q=7;w=60, "fixed";q=8;w=60',
  )
})

t.test('the stage passes tenant, address and route only to limits that need them', async (t) => {
  const asks = (limits: string) => {
    const of = snapshotOf(`
tiers: [free]
services: { a: { upstreams: [http://a], limits: { free: ${limits} } } }
routes: [{ path: /x/*, service: a }]
`)
    const levels: unknown[] = []
    const limiter: Pick<Limiter, 'take'> = {
      take(...args) {
        levels.push(args[4])
        return exampleDecision()
      },
    }
    const x = exchangeFor(of, { target: '/x/1', peer: '2001:db8::7' })
    matchRoute(x)
    x.consumer = 'alice'
    x.clientIp = '2001:db8::7'
    x.tenant = 'acme'
    x.tier = 0
    takeQuota(limiter)(x)
    return levels
  }
  const levels = { ip: '2001:db8:0:0::/64', tenant: 'acme', route: '/x/*', byAddress: false }
  t.same(asks('[10/min, 5/s]'), [undefined])
  t.same(asks('{ amount: 1, window: 1m, by: ip }'), [levels])
  t.same(asks('[10/min, { amount: 1, window: 1m, by: service }]'), [levels])
  t.same(asks('[10/min, { amount: 1, window: 1m, candidate: true, by: route }]'), [levels, levels])
  t.same(asks('[10/min, { amount: 1, window: 1m, candidate: true }]'), [undefined, undefined])
})

t.test('a candidate is asked first, in the same turn, and never waited for', async (t) => {
  const of = snapshotOf(`
tiers: [free]
services: { a: { upstreams: [http://a], limits: { free: [10/min, { amount: 1, window: 1m, candidate: true }] } } }
routes: [{ path: /*, service: a }]
`)
  const asked: string[] = []
  const counted: unknown[] = []
  let decideTried: (decision: Decision) => void = () => {}
  const metrics = { candidate: (_: unknown, decision: Decision) => void counted.push(decision.decidedBy) }
  const take: Limiter['take'] = (_service, policy) => {
    const tried = policy.candidate === undefined
    asked.push(tried ? 'candidate' : 'live')
    return tried
      ? new Promise((resolve) => {
          decideTried = resolve
        })
      : exampleDecision()
  }
  const stage = (limiter: Pick<Limiter, 'take'>) =>
    outcomesOf(
      takeQuotaWith({
        limiter: { decide: decidingBy(limiter.take) },
        runHooks: noHooks,
        charges: { hold() {} },
        metrics,
      }),
    )
  const ask = (limiter: Pick<Limiter, 'take'>) => {
    const x = exchangeFor(of)
    matchRoute(x)
    x.consumer = 'alice'
    x.tier = 0
    return stage(limiter)(x)
  }
  t.equal(ask({ take }), undefined)
  t.same(asked, ['candidate', 'live'])
  decideTried(exampleDecision({ allowed: false, violated: 1 }))
  await Promise.resolve()
  t.same(counted, ['store'])
  for (const decidedBy of ['open', 'closed', 'local'] as const) {
    ask({ take })
    decideTried(exampleDecision({ decidedBy, reason: 'timeout' }))
    await Promise.resolve()
  }
  t.same(counted, ['store'], 'not while the store is away')
  const failing: Limiter['take'] = (service, policy, consumer, cost) =>
    policy.candidate === undefined
      ? Promise.reject(new Error('broken'))
      : createMemoryLimiter().take(service, policy, consumer, cost)
  t.equal(ask({ take: failing }), undefined, 'a failing candidate does no harm')
})

t.test('a decision without the store shows no quota', async (t) => {
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

t.test('a local denial is 429 with Retry-After, and shows no quota', async (t) => {
  const { code, fields, violatedPolicies } = refusedBy({
    decidedBy: 'local',
    reason: 'breaker',
    retryMs: 2_500,
  })
  t.equal(code, 'quota_exceeded' satisfies ErrorCode)
  t.same(fields, { 'Retry-After': '3' })
  t.same(violatedPolicies, ['minute'])
})

t.test('on_failure: closed is 503 with Retry-After, and names no quota', async (t) => {
  const { fields, ...refusal } = refusedBy({
    decidedBy: 'closed',
    reason: 'error',
    violated: 0,
    retryMs: 1_000,
  })
  t.same(refusal, { code: 'store_unavailable', headers: ['Retry-After', '1'] })
})

t.test('X-Tidegate-Decided-By names a decision without the store if the service shows it', async (t) => {
  const [service] = snapshot.services
  const said = (showDecidedBy: boolean, decidedBy: Decision['decidedBy']) => {
    const fields: string[] = []
    pushDecidedBy(fields, { ...service!, showDecidedBy }, exampleDecision({ decidedBy }))
    return fields
  }
  t.same(said(true, 'open'), ['X-Tidegate-Decided-By', 'open'])
  t.same(said(true, 'local'), ['X-Tidegate-Decided-By', 'local'])
  for (const by of ['store', 'cache', 'closed'] as const) t.same(said(true, by), [], by)
  t.same(said(false, 'open'), [])
})

t.test('a request of an unlimited tier does not ask the limiter', async (t) => {
  const x = asked('/payments/1', 'enterprise')
  const limiter = {
    take(): Decision {
      throw new Error('asked')
    },
  }
  t.equal(takeQuota(limiter)(x), undefined)
  t.equal(x.decision, undefined)
})

t.test('the limiter gets service, policy, consumer and cost of the request, and may be async', async (t) => {
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
})

t.test('a sampled request that passes records how each limit stood before it was charged', async (t) => {
  const yaml = (sample: number) =>
    snapshotOf(`
decisions: { sample: ${sample} }
tiers: [free]
services: { a: { upstreams: [http://a], limits: { free: [10/min, 100/h] } } }
routes: [{ path: /*, service: a, cost: 2 }]
`)
  const redis = await startRedis(t)
  // Not in the past: the server expires keys by its own clock.
  const at = (Math.floor(Date.now() / 86_400_000) + 100) * 86_400_000
  const now = () => at
  const quiet = { info() {}, warn() {} }
  const store = connectStore({ redis: redis.url }, quiet)
  const ofRedis = createRedisLimiter({ store, timeoutMs: 2_000, log: quiet, now })
  t.teardown(async () => {
    await ofRedis.close()
    store.disconnect()
  })
  await ofRedis.ready
  for (const [where, limiter] of [
    ['memory', createMemoryLimiter({ now })],
    ['redis', ofRedis],
  ] as const) {
    const stage = outcomesOf(
      takeQuotaWith({
        limiter,
        runHooks: noHooks,
        charges: { hold() {} },
        metrics: { candidate() {} },
      }),
    )
    const pass = async (sample: number) => {
      const x = exchangeFor(yaml(sample))
      matchRoute(x)
      x.consumer = 'alice'
      x.tier = 0
      t.equal(await stage(x), undefined)
      return x
    }
    t.match(await pass(0), { sampled: false, decision: { counted: undefined } }, where)
    const { decision, sampled } = await pass(1)
    t.equal(sampled, true)
    const limits = reportedLimits(
      yaml(1).services[0]!.policies[0]!.limits,
      exampleDecision(),
      decision!.counted!.numbers,
    )
    t.match(
      limits.map(({ used, remaining, current }) => ({ used, remaining, current })),
      [
        { used: 2, remaining: 8, current: 2 },
        { used: 2, remaining: 98, current: 2 },
      ],
      where,
    )
  }
})
