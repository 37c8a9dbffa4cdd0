import fc from 'fast-check'
import t from 'tap'
import { costOf as costOfRoute, reportedCost, requestCost } from '../../../src/gateway/quota/cost.js'
import { matchRoute } from '../../../src/gateway/stages/route.js'
import { exchangeFor } from '../../support/gateway/exchange.js'
import { snapshotOf, startGateway } from '../../support/gateway/gateway.js'
import { rawExchange, rawRequest } from '../../support/http/raw.js'
import { recordingUpstream } from '../../support/http/upstream.js'

const snapshot = snapshotOf(`
tiers: [free]
services: { models: { upstreams: [http://a], limits: { free: 1000/min } } }
routes:
  - { path: /*, service: models, cost: { header: X-Request-Cost, max: 50, default: 3, consumers: [acme, umbrella] } }
`)

function costOf(consumer: string, ...headers: string[]): number {
  const x = exchangeFor(snapshot, { headers })
  matchRoute(x)
  x.consumer = consumer
  return requestCost(x, x.route!)
}

t.test('a trusted consumer sets the cost of its request, up to the maximum', async (t) => {
  t.equal(costOf('acme', 'X-Request-Cost', '7'), 7)
  t.equal(costOf('umbrella', 'x-REQUEST-cost', '50'), 50)
  t.equal(costOf('acme', 'X-Request-Cost', '51'), 50)
  t.equal(costOf('acme', 'X-Request-Cost', '9'.repeat(1000)), 50)
  t.equal(costOf('acme', 'X-Request-Cost', '007'), 7)
})

t.test('other consumers, and invalid costs, pay the default', async (t) => {
  t.equal(costOf('mallory', 'X-Request-Cost', '1'), 3)
  t.equal(costOf('acme'), 3)
  t.equal(costOf('acme', 'X-Request-Cost', '1', 'X-Request-Cost', '1'), 3, 'said twice')
  t.equal(
    costOf('acme', 'X-Request-Cost', '7', 'Connection', 'x-request-cost'),
    3,
    'named as a field of the hop',
  )
  for (const bad of ['0', '', '-1', '+1', '1.5', '1e1', '0x10', '1,1', ' ', '٣', 'Infinity', 'NaN']) {
    t.equal(costOf('acme', 'X-Request-Cost', bad), 3, JSON.stringify(bad))
  }
})

t.test('the cost header is forwarded unchanged', async (t) => {
  const { headers } = exchangeFor(snapshot, { headers: ['X-Request-Cost', '700'] })
  t.same(headers.forward, ['X-Request-Cost', '700'])
})

t.test('whatever is sent, a cost is a whole number within its bounds', async (t) => {
  const text = fc.oneof(fc.string(), fc.bigInt().map(String), fc.double().map(String))
  fc.assert(
    fc.property(text, (value) => {
      const asked = costOf('acme', 'X-Request-Cost', value)
      t.ok(Number.isInteger(asked) && asked >= 1 && asked <= 50, value)
      const told = reportedCost(['X-Cost', value], 'x-cost')
      t.ok(told === undefined || (Number.isInteger(told) && told >= 0 && told < 2 ** 25), value)
    }),
    { numRuns: 200 },
  )
})

t.test('no spelling that a backend may take for another route costs less than that route', async (t) => {
  const dear = snapshotOf(`
tiers: [free]
services: { api: { upstreams: [http://a], limits: { free: 1000/min } } }
routes:
  - { path: /*, service: api, allow_encoded: true }
  - { path: /reports/export, service: api, cost: 20 }
  - { path: /refunds/:id, service: api, cost: 5, methods: [POST] }
`)
  const paid = (target: string, method = 'GET') => {
    const x = exchangeFor(dear, { target, method })
    t.equal(matchRoute(x), undefined, target)
    return costOfRoute(x, x.route!)
  }
  for (const target of [
    '/reports/export',
    '/reports%2Fexport',
    '/reports%2fexport',
    '/reports/export;x',
    '/reports;a=b/export',
    '/reports%5Cexport',
    '/reports/%2565xport',
    '/reports/export%3Fx',
    '/reports/export%20',
    '/reports%252Fexport',
  ])
    t.equal(paid(target), 20, target)
  t.equal(paid('/refunds%2F7', 'POST'), 5)
  t.equal(paid('/refunds%2F7'), 1, 'a method that the dear route does not take')
  t.equal(paid('/files/a%2Fb;c'), 1)
})

t.test('of two possible routes the quota is charged the higher cost', async (t) => {
  const upstream = await recordingUpstream(t)
  const gateway = await startGateway(
    t,
    `
tiers: [free]
services: { api: { upstreams: ["${upstream.origin}"], limits: { free: 10/min } } }
routes:
  - { path: /*, service: api, allow_encoded: true }
  - { path: /export, service: api, cost: 6 }
`,
  )
  const ask = async (target: string) =>
    (await rawExchange(gateway.port, rawRequest(`GET ${target}`))).responses[0]!.status
  t.equal(await ask('/export;x'), 200)
  t.equal(await ask('/%2565xport'), 429)
  t.equal(await ask('/plain;x'), 200)
})
