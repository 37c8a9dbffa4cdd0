// Tests src/metering/usage-table.ts src/metering/columns.ts
import fc from 'fast-check'
import t from 'tap'
import { ANONYMOUS, createUsageCounter, OTHERS } from '../../src/metering/usage-counter.js'
import { exampleDecision, exampleRecord, exampleSnapshot } from '../support/gateway/snapshot.js'

type Settings = Parameters<typeof createUsageCounter>[0]

const settings = (changes: Partial<Settings> = {}): Settings => ({
  every: 60_000,
  spool: { path: '/nowhere', size: 1e9 },
  to: { file: { path: '/nowhere', size: 1e9 } },
  by: ['consumer', 'tenant', 'service', 'tier'],
  count: ['requests'],
  addresses: false,
  max_groups: 1000,
  source: 'tidegate',
  ...changes,
})

const snapshot = exampleSnapshot()
const upstream = snapshot.services[0]!.upstreams[0]
const allowed = exampleDecision({})
const denied = exampleDecision({ allowed: false, violated: 1 })

function open(changes: Partial<Settings> = {}) {
  const counter = createUsageCounter(settings(changes), 0)
  return {
    counter,
    record: (record: Parameters<typeof exampleRecord>[1]) =>
      counter.record(
        exampleRecord(snapshot, { upstream, decision: allowed, bytesIn: 0, bytesOut: 0, ...record }),
      ),
    groups: () => [...counter.table().groups()],
  }
}

t.test('each group counts its requests, cost, denials and bytes', async (t) => {
  const { record, groups } = open({ count: ['requests', { requests: { status: '5xx' } }] })
  record({ bytesIn: 10, bytesOut: 100, status: 200 })
  record({ bytesIn: 1, bytesOut: 2, status: 503, cost: 7 })
  record({ decision: denied, upstream: undefined, status: 429, bytesOut: 50 })
  record({ consumer: 'bob', tenant: 'acme', tier: 1, status: 200 })
  t.strictSame(groups(), [
    {
      index: 0,
      labels: { consumer: 'alice', tenant: null, service: 'payments', tier: 'free', route: null },
      counts: [2, 8, 1, 11, 152, 0, 0, 0, 1],
    },
    {
      index: 1,
      labels: { consumer: 'bob', tenant: 'acme', service: 'payments', tier: 'pro', route: null },
      counts: [1, 1, 0, 0, 0, 0, 0, 0, 0],
    },
  ])
})

t.test('what was decided without the store, and what was refunded, is counted apart', async (t) => {
  const { record, groups } = open()
  record({ decision: exampleDecision({ decidedBy: 'open' }) })
  record({ decision: exampleDecision({ decidedBy: 'local' }) })
  record({ cost: 0 })
  t.strictSame(groups()[0]!.counts, [3, 2, 0, 0, 0, 1, 1, 1])
})

t.test('a request that neither reached an upstream nor was denied by a limit is not counted', async (t) => {
  const { record, groups } = open()
  record({ upstream: undefined, status: 503 })
  const closed = exampleDecision({ allowed: false, decidedBy: 'closed' })
  record({ upstream: undefined, status: 503, decision: closed })
  record({ route: undefined })
  record({ consumer: undefined })
  record({ tier: -1 })
  t.strictSame(groups(), [])
})

t.test('callers known by address are one group, unless each is asked for', async (t) => {
  const one = open()
  const each = open({ addresses: true })
  for (const consumer of ['192.0.2.1', '192.0.2.2']) {
    one.record({ consumer, identifiedBy: 'ip' })
    each.record({ consumer, identifiedBy: 'ip' })
  }
  t.match(one.groups(), [{ labels: { consumer: ANONYMOUS }, counts: [2] }])
  t.match(each.groups(), [{ labels: { consumer: '192.0.2.1' } }, { labels: { consumer: '192.0.2.2' } }])
})

t.test('beyond max_groups everything is counted in one group a place', async (t) => {
  const { record, groups } = open({ max_groups: 2 })
  for (let i = 0; i < 10; i++) record({ consumer: `c${i}` })
  record({ consumer: 'c0' })
  t.match(groups(), [
    { labels: { consumer: 'c0' }, counts: [2] },
    { labels: { consumer: 'c1' }, counts: [1] },
    { labels: { consumer: OTHERS }, counts: [8] },
  ])
})

t.test('by names what tells groups apart', async (t) => {
  const perTenant = open({ by: ['tenant'] })
  const perRoute = open({ by: ['route'] })
  for (const one of [perTenant, perRoute]) {
    one.record({ consumer: 'a', tenant: 'acme' })
    one.record({ consumer: 'b', tenant: 'acme' })
    one.record({ consumer: 'c', route: snapshot.routes[1] })
    one.record({ consumer: '192.0.2.1', identifiedBy: 'ip' })
  }
  t.match(perTenant.groups(), [
    { labels: { consumer: null, tenant: 'acme', service: null }, counts: [2] },
    { labels: { tenant: 'c' }, counts: [1] },
    { labels: { consumer: ANONYMOUS }, counts: [1] },
  ])
  t.match(perRoute.groups(), [
    { labels: { consumer: null, tenant: null, route: '/payments/*' }, counts: [3] },
    { labels: { route: '/payments/refunds' }, counts: [1] },
  ])
})

t.test('over intervals and groups, no request is lost or counted twice', async () => {
  const request = fc.record({
    consumer: fc.constantFrom('a', 'b', 'c', 'a\u0000b', '__proto__'),
    tenant: fc.option(fc.constantFrom('t', 'a', 'b'), { nil: undefined }),
    tier: fc.nat(2),
    route: fc.constantFrom(...snapshot.routes),
    cost: fc.option(fc.nat(5), { nil: undefined }),
    denied: fc.boolean(),
    rotate: fc.boolean(),
  })
  const sum = (all: readonly number[][], column: number) =>
    all.reduce((total, counts) => total + counts[column]!, 0)
  fc.assert(
    fc.property(fc.array(request, { maxLength: 60 }), (requests) => {
      const { counter, record } = open({ max_groups: 100 })
      const tables = [counter.table()]
      requests.forEach(({ denied: isDenied, rotate, ...one }, i) => {
        record({ ...one, decision: isDenied ? denied : allowed })
        if (rotate) {
          counter.rotate(i + 1)
          tables.push(counter.table())
        }
      })
      const counts = tables.flatMap((table) => [...table.groups()].map((group) => [...group.counts]))
      const labels = tables.map((table) => [...table.groups()].map((group) => JSON.stringify(group.labels)))
      const served = requests.filter((one) => !one.denied)
      const cost = served.reduce((total, { cost, route }) => total + (cost ?? route.cost), 0)
      return (
        sum(counts, 0) === served.length &&
        sum(counts, 1) === cost &&
        sum(counts, 2) === requests.length - served.length &&
        labels.every((all) => new Set(all).size === all.length)
      )
    }),
  )
})
