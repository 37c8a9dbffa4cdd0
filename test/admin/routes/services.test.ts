// Tests src/config/snapshot/route-data.ts
import t, { type Test } from 'tap'
import { formatError, loadConfig } from '../../../src/config/load/load.js'
import { compileSnapshot } from '../../../src/config/snapshot/snapshot.js'
import type { LimitCounts } from '../../../src/telemetry/metrics/overview.js'
import { type Answer, startAdmin } from '../../support/gateway/admin.js'
import { startWhole } from '../../support/gateway/whole-gateway.js'

async function startOn(t: Test, yaml: string, counts: readonly LimitCounts[] = []) {
  const read = loadConfig(yaml, { file: 'test.yaml', env: {} })
  if (!read.ok) throw new Error(read.errors.map(formatError).join('\n'))
  const snapshot = compileSnapshot(read.config, 0)
  const { deps } = await startAdmin(t)
  const { call } = await startAdmin(t, {
    config: { ...deps.config, current: () => snapshot },
    metrics: { ...deps.metrics, limitCounts: () => counts },
  })
  return (query = '') => call('GET', `/services${query}`)
}

const SHOP = `
tiers: [free, pro]
default_tier: pro
consumers: [{ header: { name: x-user-id, from: anyone } }, { api_key: { store: true } }]
services:
  payments:
    upstreams: [http://127.0.0.1:9001, http://127.0.0.1:9002]
    on_failure: closed
    limits:
      free: [10/min, { amount: 5, window: 1m, name: tighter, candidate: true }]
      pro: unlimited
  beta: { upstreams: [http://127.0.0.1:9003], maintenance: true, limits: { free: 1/s, pro: 2/s } }
  idle: { upstreams: [http://127.0.0.1:9004], limits: { free: 1/s, pro: 2/s } }
routes:
  - { path: /pay/*, host: api.example.com, service: payments, methods: [POST], cost: 5, auth: { any_of: [api_key], scopes: [pay], forward: { url: "http://auth.internal/?secret" } } }
  - { path: /refunds/*, split: [{ service: payments, weight: 90 }, { service: beta, weight: 10 }] }
  - { path: /health, respond: { status: 200 } }
`

t.test(
  'GET /services shows limits by tier with their counts, and the routes that lead to a service',
  async (t) => {
    const ask = await startOn(t, SHOP, [
      {
        ...{ service: 'payments', tier: 'free', limit: 'minute', candidate: false },
        decisions: { allowed: 7, near: 2, denied: 1 },
      },
      {
        ...{ service: 'payments', tier: 'free', limit: 'tighter', candidate: true },
        decisions: { allowed: 4, near: 0, denied: 6 },
      },
    ])
    const { status, json, text } = await ask()
    t.equal(status, 200)
    t.notMatch(text, /secret|9001/)
    t.match(json, { total: 3, next: null })
    const [payments, beta, idle] = json.services
    t.equal(json.services.length, 3)
    t.match(payments, { service: 'payments', upstreams: 2, on_failure: 'closed', maintenance: false })
    const limit = { algorithm: 'sliding', by: 'consumer', window_ms: 60_000 }
    t.strictSame(payments.tiers, [
      {
        ...{ tier: 'free', default: false, unlimited: false },
        limits: [
          {
            name: 'minute',
            ...limit,
            amount: 10,
            text: '10/min',
            decisions: { allowed: 7, near: 2, denied: 1 },
          },
        ],
        candidates: [
          {
            name: 'tighter',
            ...limit,
            amount: 5,
            text: '5/min',
            decisions: { allowed: 4, near: 0, denied: 6 },
          },
        ],
      },
      { tier: 'pro', default: true, unlimited: true, limits: [] },
    ])
    t.strictSame(payments.routes, [
      {
        hosts: ['api.example.com'],
        path: '/pay/*',
        ...{ methods: ['POST'], service: 'payments', cost: 5 },
        auth: { any_of: ['api_key'], required: true, scopes: ['pay'], forward: 'auth.internal' },
      },
      {
        hosts: [],
        path: '/refunds/*',
        ...{ methods: [], service: 'payments', cost: 1 },
        split: [
          { service: 'payments', weight: 90 },
          { service: 'beta', weight: 10 },
        ],
      },
    ])
    t.match(beta, { service: 'beta', maintenance: true, routes: [{ path: '/refunds/*' }] })
    t.match(beta.tiers[0].limits, [{ decisions: { allowed: 0, near: 0, denied: 0 } }])
    t.match(idle, { service: 'idle', routes: [] })
  },
)

t.test('match finds a service by its name, with all its routes, or by one route', async (t) => {
  const ask = await startOn(t, SHOP)
  const found = async (match: string) =>
    (await ask(`?match=${encodeURIComponent(match)}`)).json.services.map(
      ({ service, routes }: { service: string; routes: { path: string }[] }) =>
        `${service}: ${routes.map(({ path }) => path).join()}`,
    )
  t.same(await found('BETA'), ['beta: /refunds/*'])
  t.same(await found('pay'), ['payments: /pay/*,/refunds/*'])
  t.same(await found('refunds'), ['payments: /refunds/*', 'beta: /refunds/*'])
  t.same(await found('example.com/PAY'), ['payments: /pay/*'])
  t.same(await found('idle'), ['idle: '])
  for (const none of ['nothing', '<img src=x>', '\ud800', '%']) t.same(await found(none.toWellFormed()), [])
})

t.test('pages hold 100 routes, however many a service has', async (t) => {
  const paths = Array.from({ length: 250 }, (_, i) => `  - { path: /r${i}, service: ${i < 120 ? 'a' : 'b'} }`)
  const ask = await startOn(
    t,
    `
tiers: [free]
consumers: [{ header: { name: x-user-id, from: anyone } }]
services:
  a: { upstreams: [http://127.0.0.1:9001], limits: { free: 1/s } }
  b: { upstreams: [http://127.0.0.1:9001], limits: { free: 1/s } }
routes:
${paths.join('\n')}
`,
  )
  const pages: Answer['json'][] = []
  for (let next: string | null = '0'; next !== null; next = pages.at(-1).next)
    pages.push((await ask(`?after=${next}`)).json)
  const sizes = pages.map(({ services }) =>
    services.map(({ service, routes }: { service: string; routes: [] }) => `${service} ${routes.length}`),
  )
  t.same(sizes, [['a 100'], ['a 20', 'b 80'], ['b 50']])
  t.same(
    pages.map(({ total }) => total),
    [250, 250, 250],
  )
  t.same((await ask('?after=9999')).json, { services: [], total: 250, next: null })
  for (const bad of ['?after=-1', '?after=x', '?after=1&after=2', '?n=1', `?match=${'x'.repeat(201)}`])
    t.equal((await ask(bad)).status, 400, bad.slice(0, 20))
})

t.test('a gateway counts what live and candidate limits decided about the same requests', async (t) => {
  const { address, admin } = await startWhole(
    t,
    `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
log: { access: off }
tiers: [free]
consumers: [{ header: { name: x-user-id, from: anyone } }]
services:
  a:
    upstreams: [http://127.0.0.1:1]
    limits: { free: [3/h, { amount: 1, window: 1h, name: tighter, candidate: true }] }
routes: [{ path: /*, service: a }]
`,
  )
  for (let i = 0; i < 5; i++) await fetch(address, { headers: { 'x-user-id': 'acme' } })
  const { services } = (await (await fetch(`${admin}/services`)).json()) as Answer['json']
  const [{ limits, candidates }] = services[0].tiers
  const decided = ({ decisions: { allowed, near, denied } }: Answer['json']) => [allowed + near, denied]
  t.same(
    [limits, candidates].map(([limit]) => decided(limit)),
    [
      [3, 2],
      [1, 4],
    ],
  )
})
