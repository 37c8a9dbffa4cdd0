// Tests src/config/snapshot/exempt.ts
import t from 'tap'
import type { Policy } from '../../../src/config/snapshot/policy.js'
import type { Exchange } from '../../../src/gateway/exchange/exchange.js'
import { resolveLimits } from '../../../src/gateway/stages/limits.js'
import { matchRoute } from '../../../src/gateway/stages/route.js'
import { exchangeFor } from '../../support/gateway/exchange.js'
import { memoryAmounts, snapshotOf } from '../../support/gateway/gateway.js'

const snapshot = snapshotOf(`
tiers: [free, pro]
services:
  payments: { upstreams: [http://127.0.0.1:9001], limits: { free: 10/min, pro: unlimited } }
routes:
  - { path: /payments/*, service: payments }
`)
const [service] = snapshot.services
const free = service!.policies[0]!
const raised: Policy = { ...free, base: free }
const inMemory: Policy = { ...free, base: free }

function asked(by: Exchange['identifiedBy'], tier = 0) {
  const x = exchangeFor(snapshot, { target: '/payments/1' })
  matchRoute(x)
  x.consumer = 'acme'
  x.tenant = 'acme-group'
  x.identifiedBy = by
  x.tier = tier
  return x
}

t.test('the limits are those of the tier, with the changes of consumer and tenant', async (t) => {
  const amounts = memoryAmounts()
  const stage = resolveLimits(amounts)
  const x = asked('api_key')
  t.equal(stage(x), undefined)
  t.equal(x.policy, free)
  for (const [of, id] of [
    ['consumer', 'acme'],
    ['tenant', 'acme-group'],
  ] as const)
    await amounts.map.set(`boost:${of}:payments:minute:${id}`, { amount: 5, until: 9e14, reason: undefined })
  const boosted = asked('api_key')
  t.equal(stage(boosted), undefined)
  t.match(boosted, { policy: { limits: [{ amount: 20 }] }, limitsUnchecked: false })
  const unlimited = asked('api_key', 1)
  t.equal(stage(unlimited), undefined)
  t.equal(unlimited.policy, undefined)
})

t.test('a stranger waits for its changes; one that cannot be looked up is marked', async (t) => {
  const strangerOf = async (find: () => Policy | Promise<Policy>, by: Exchange['identifiedBy']) => {
    const x = asked(by)
    let count = 0
    const stage = resolveLimits({
      find() {
        count++
        return find()
      },
      policyFor: () => inMemory,
      isWhole: () => false,
    })
    t.equal(await stage(x), undefined)
    return [x.policy, x.limitsUnchecked, count]
  }
  t.same(await strangerOf(() => Promise.resolve(raised), 'api_key'), [raised, false, 1])
  t.same(await strangerOf(() => raised, 'api_key'), [raised, false, 1])
  const lost = () => Promise.reject(new Error('the store is away'))
  t.same(await strangerOf(lost, 'api_key'), [inMemory, true, 1])
  t.same(await strangerOf(lost, 'ip'), [free, false, 0], 'an address is not looked up')
})

t.test('a caller that the service exempts has no limits, by its id or its address', (t) => {
  const snapshot = snapshotOf(`
tiers: [free]
services:
  payments:
    upstreams: [http://127.0.0.1:9001]
    limits: { free: 10/min }
    exempt: { consumers: [staff, 192.0.2.1], addresses: [10.0.0.0/8] }
routes:
  - { path: /payments/*, service: payments }
`)
  const stage = resolveLimits(memoryAmounts())
  const exemptFor = (consumer: string, identifiedBy: Exchange['identifiedBy'], clientIp = '198.51.100.7') => {
    const x = exchangeFor(snapshot, { target: '/payments/1' })
    matchRoute(x)
    Object.assign(x, { consumer, identifiedBy, clientIp, tier: 0 })
    t.equal(stage(x), undefined)
    t.equal(x.policy === undefined, x.exempt)
    return x.exempt
  }
  t.ok(exemptFor('staff', 'api_key'))
  t.notOk(exemptFor('ann', 'api_key'))
  t.ok(exemptFor('ann', 'api_key', '10.1.2.3'))
  t.ok(exemptFor('10.1.2.3', 'ip', '10.1.2.3'))
  t.notOk(exemptFor('192.0.2.1', 'ip', '192.0.2.1'), 'an address is no id')
  t.end()
})
