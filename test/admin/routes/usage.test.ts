// Tests src/gateway/simulate/standing.ts
import fc from 'fast-check'
import t from 'tap'
import { openStore } from '../../../src/fleet/open-store.js'
import { createMemoryLimiter } from '../../../src/limiter/memory.js'
import { eventually } from '../../support/eventually.js'
import { NOW, startAdmin } from '../../support/gateway/admin.js'
import { snapshotOf } from '../../support/gateway/gateway.js'
import { ownRedis } from '../../support/redis/redis.js'

async function startUsed(t: Parameters<typeof startAdmin>[0]) {
  const limiter = createMemoryLimiter({ now: () => NOW })
  const admin = await startAdmin(t, { limiter })
  const { services } = admin.deps.config.current()
  const take = (service: number, tier: number, consumer: string, times: number) => {
    for (let i = 0; i < times; i++)
      limiter.take(services[service]!, services[service]!.policies[tier]!, consumer, 1)
  }
  return { ...admin, take }
}

t.test('shows every limit: used, remaining, and when its window ends', async (t) => {
  const { call, take } = await startUsed(t)
  take(0, 0, 'alice', 3)
  t.same((await call('GET', '/usage/payments/alice')).json, {
    service: 'payments',
    consumer: 'alice',
    tier: 'free',
    tier_from: 'default',
    unlimited: false,
    limits: [
      {
        name: 'minute',
        algorithm: 'sliding',
        by: 'consumer',
        amount: 10,
        window_ms: 60_000,
        used: 3,
        remaining: 7,
        reset_ms: 45_000,
      },
    ],
  })
  t.match((await call('GET', '/usage/payments/bob')).json, { limits: [{ used: 0, remaining: 10 }] })
})

t.test("uses the assigned tier, else the given one, else the API key's, else the default", async (t) => {
  const { call, take, deps } = await startUsed(t)
  const tierOf = async (path: string) => {
    const { json } = await call('GET', path)
    return `${json.tier} by ${json.tier_from}`
  }
  t.equal(await tierOf('/usage/payments/alice'), 'free by default')
  t.equal(await tierOf('/usage/payments/acme'), 'pro by credential')
  t.equal(await tierOf('/usage/payments/acme?tier=enterprise'), 'enterprise by query')
  await deps.assignments.set('acme', 'free')
  t.equal(await tierOf('/usage/payments/acme?tier=enterprise'), 'free by assignment')
  await deps.assignments.set('acme', 'gone')
  t.equal(
    await tierOf('/usage/payments/acme'),
    'pro by credential',
    'an assigned tier that the file has no more is none',
  )

  take(0, 1, 'carol', 2)
  const { json } = await call('GET', '/usage/payments/carol?tier=pro')
  t.match(json.limits, [
    { name: 'second', used: 2, remaining: 3 },
    { name: 'minute', used: 2, remaining: 98 },
  ])
})

t.test(
  "shows each algorithm's state, marks candidates, and names levels that the id does not give",
  async (t) => {
    const snapshot = snapshotOf(`
tiers: [free]
services:
  models:
    upstreams: [http://127.0.0.1:9001]
    limits:
      free:
        - { amount: 10, window: 1s, algorithm: token_bucket, burst: 20 }
        - { amount: 50, algorithm: calendar, period: day, time_zone: Europe/Berlin }
        - { amount: 4, algorithm: concurrency }
        - { amount: 90, window: 1m, by: ip }
        - { amount: 900, window: 1m, by: service }
        - { amount: 3, window: 1m, candidate: true }
routes: [{ path: /*, service: models }]
`)
    const limiter = createMemoryLimiter({ now: () => NOW })
    const [service] = snapshot.services
    const policy = service!.policies[0]!
    const levels = { ip: '192.0.2.7', tenant: undefined, route: '/*' }
    for (const of of [policy, policy.candidate!]) limiter.take(service!, of, 'alice', 2, levels)
    const config = {
      current: () => snapshot,
      status: () => ({}),
      reload: () => Promise.resolve({ result: 'unchanged' as const }),
    }
    const { call } = await startAdmin(t, { limiter, config })
    const { json } = await call('GET', '/usage/models/alice')
    t.match(json.limits, [
      {
        name: 'second',
        algorithm: 'token_bucket',
        by: 'consumer',
        amount: 10,
        burst: 20,
        window_ms: 1000,
        used: 2,
      },
      { name: 'day', algorithm: 'calendar', period: 'day', time_zone: 'Europe/Berlin', used: 2 },
      { name: 'concurrent', algorithm: 'concurrency', lease_ms: 60_000, used: 1, remaining: 3 },
      { name: 'service-minute', by: 'service', used: 2 },
    ])
    t.equal(json.limits.length, 4)
    t.match(json.candidates, [{ name: 'minute', amount: 3, used: 2, remaining: 1 }])
    t.same(json.not_shown, [{ name: 'ip-minute', by: 'ip' }])
    await call('DELETE', '/usage/models/alice')
    const after = (await call('GET', '/usage/models/alice')).json
    t.match(after, {
      candidates: [{ used: 0 }],
      limits: [{ used: 0 }, { used: 0 }, { used: 0 }, { used: 2 }],
    })
  },
)

t.test('a tier without limits shows none', async (t) => {
  const { call } = await startUsed(t)
  t.match((await call('GET', '/usage/marketing/alice?tier=enterprise')).json, { unlimited: true, limits: [] })
})

t.test("DELETE resets the consumer's usage of that service, in all tiers, and of no other", async (t) => {
  const { call, take, logged } = await startUsed(t)
  take(0, 0, 'alice', 3)
  take(0, 1, 'alice', 3)
  take(1, 0, 'alice', 3)
  take(0, 0, 'bob', 3)
  t.match(await call('DELETE', '/usage/payments/alice'), {
    status: 200,
    json: { service: 'payments', consumer: 'alice', reset: true },
  })
  const used = async (path: string) => (await call('GET', path)).json.limits[0].used
  t.equal(await used('/usage/payments/alice'), 0)
  t.equal(await used('/usage/payments/alice?tier=pro'), 0)
  t.equal(await used('/usage/marketing/alice'), 3)
  t.equal(await used('/usage/payments/bob'), 3)
  t.match(logged, [
    { fields: { audit: { action: 'usage.reset', target: 'payments/alice', before: { minute: 3 } } } },
  ])
})

t.test('an unknown service or tier is refused, with the known ones', async (t) => {
  const { call } = await startUsed(t)
  for (const method of ['GET', 'DELETE']) {
    const answer = await call(method, '/usage/payment/alice')
    t.match(answer.json, {
      status: 404,
      detail: 'No service "payment"; the services are payments, marketing.',
    })
  }
  for (const query of ['?tier=gold', '?tier=', '?tier=pro&tier=free']) {
    const answer = await call('GET', `/usage/payments/alice${query}`)
    t.match(answer.json, { status: 422, detail: /the tiers are free, pro, enterprise/ }, query)
  }
  t.equal((await call('GET', '/usage/payments/')).status, 400)
  t.equal((await call('GET', `/usage/payments/${'x'.repeat(1025)}`)).status, 400)
  t.equal((await call('GET', '/usage/__proto__/alice')).status, 404)
})

t.test('a consumer id may hold any character', async (t) => {
  const { call, take } = await startUsed(t)
  const ids = [
    'a/b',
    'a%2Fb',
    'a?b#c',
    'user@example.com',
    '..',
    '.',
    '{x}:y',
    'é🌊',
    '%',
    '%41',
    'a+b',
    '2001:db8::/64',
    ' ',
    ';',
    '\\',
  ]
  for (const id of ids) {
    take(0, 0, id, 1)
    const { status, json } = await call('GET', `/usage/payments/${encodeURIComponent(id)}`)
    t.equal(status, 200, id)
    t.match(json, { consumer: id, limits: [{ used: 1 }] })
  }
  await fc.assert(
    fc.asyncProperty(fc.string({ unit: 'grapheme-composite', minLength: 1, maxLength: 30 }), async (id) => {
      t.equal((await call('GET', `/usage/payments/${encodeURIComponent(id)}`)).json.consumer, id)
    }),
    { numRuns: 100 },
  )
})

t.test('says what happens to requests while the store is away, without waiting for it', async (t) => {
  const redis = await ownRedis(t)
  const quiet = { info() {}, warn() {}, error() {} }
  const config = {
    redis: redis.url,
    timeout: 1_000,
    on_failure: 'open' as const,
    max_keys: 1000,
    batch: 64,
    merge: true,
    gather: 0,
    denials: 0,
    own_connection: true,
  }
  const store = openStore(config, quiet)
  t.teardown(() => store.close())
  await store.ready
  const { call, deps, logged } = await startAdmin(t, {
    limiter: store.limiter,
    assignments: store.assignments,
  })
  const [service] = deps.config.current().services
  await store.limiter.take(service!, service!.policies[0]!, 'alice', 4)
  t.match((await call('GET', '/usage/payments/alice')).json, { limits: [{ used: 4, remaining: 6 }] })
  t.equal((await call('PUT', '/consumers/alice/tier', { body: { tier: 'pro' } })).status, 200)

  redis.pause()
  const hung = await call('GET', '/usage/payments/alice')
  redis.resume()
  t.match(hung, { status: 200, json: { decided_by: 'open', limits: [] } }, 'one that hangs is down, too')
  logged.length = 0

  await redis.stop()
  await eventually('the store is known to be away', () => store.limiter.state() === 'degraded')
  const began = performance.now()
  const usage = await call('GET', '/usage/payments/alice')
  t.match(usage.json, { tier: 'pro', tier_from: 'assignment', decided_by: 'open', limits: [] })
  t.match((await call('GET', '/consumers/alice/tier')).json, { tier: 'pro', assigned: 'pro' })
  t.ok(performance.now() - began < 1000, 'at once')
  const asked = [
    await call('DELETE', '/usage/payments/alice'),
    await call('PUT', '/consumers/alice/tier', { body: { tier: 'free' } }),
    await call('DELETE', '/consumers/alice/tier'),
  ]
  for (const { status, json, text } of asked) {
    t.equal(status, 503)
    t.match(json, { code: 'store_unavailable', detail: /the store is out of reach/ })
    t.notMatch(text, new RegExp(String(redis.port)), 'and does not say where it is')
  }
  t.equal(logged.filter(({ level }) => level === 'warn').length, asked.length)
})
