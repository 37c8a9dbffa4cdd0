import t from 'tap'
import { AMOUNTS, amountKeyText, createAmounts } from '../../../src/fleet/overrides.js'
import { createMemoryMap } from '../../../src/fleet/replicated-map.js'
import { createKeptDecisions } from '../../../src/telemetry/decisions/decision-store.js'
import { problemOf, startSite } from '../../support/gateway/site.js'
import { rawExchange, rawRequest } from '../../support/http/raw.js'

t.test(
  'the next request gets a boost, which shows in the fields and the 429 text, until it ends',
  async (t) => {
    const { gateway } = await startSite(
      t,
      `
tiers: [free]
consumers: [{ header: { name: X-User-Id, tenant: X-Tenant-Id, from: anyone } }]
services:
  payments:
    upstreams: [PAYMENTS]
    limits: { free: { amount: 2, window: 1m } }
routes: [{ path: /*, service: payments }]
`,
    )
    const ask = async (...fields: string[]) =>
      (await rawExchange(gateway.port, rawRequest('GET /', 'X-User-Id: ann', ...fields))).responses[0]!
    const put = (
      kind: 'boost' | 'override',
      of: 'consumer' | 'tenant',
      id: string,
      amount: number,
      until?: number,
    ) =>
      gateway.amounts.map.set(amountKeyText({ kind, of, id, service: 'payments', limit: 'minute' }), {
        amount,
        until,
        reason: undefined,
      })
    for (const status of [200, 200, 429]) t.equal((await ask()).status, status)

    await put('boost', 'consumer', 'ann', 3, gateway.clock.now + 10 * 86_400_000)
    const boosted = await ask()
    t.equal(boosted.status, 200)
    t.equal(boosted.header('ratelimit-policy'), '"minute";q=5;w=60')
    t.equal(boosted.header('ratelimit'), '"minute";r=2;t=60')
    t.equal(boosted.header('x-ratelimit-limit'), '5')
    t.match(gateway.records.at(-1)?.policy?.limits[0], { amount: 5, changed: { tier: 2, boost: 3 } })
    t.equal((await ask()).status, 200)
    t.equal((await ask()).status, 200)
    t.match(problemOf(await ask()), {
      detail: /^The quota "minute" \(5 per 60 s\) of tier free on payments is used up; try again in \d+ s\.$/,
    })

    await put('override', 'tenant', 'acme', 10)
    const ofTenant = await ask('X-Tenant-Id: acme')
    t.equal(
      ofTenant.header('ratelimit'),
      '"minute";r=7;t=60',
      'ten, and three on top, of which five are used',
    )
    t.equal((await ask()).status, 429, 'without its tenant')
    t.equal((await ask('X-Tenant-Id: other')).status, 429)
  },
)

t.test('what the gateway does not hold is looked up, and the decision says if it could not be', async (t) => {
  let away = false
  const all = createMemoryMap(AMOUNTS)
  const held = new Set<string>()
  const get = (key: string) => (held.has(key) ? all.get(key) : undefined)
  const amounts = createAmounts({
    ...all,
    isWhole: () => false,
    get,
    find: (key) =>
      held.has(key)
        ? get(key)
        : new Promise((resolve, reject) => {
            setImmediate(() => {
              if (away) return reject(new Error('the store is away'))
              held.add(key)
              resolve(get(key))
            })
          }),
  })
  const decisions = createKeptDecisions({ keep: 100 })
  const { gateway } = await startSite(
    t,
    `
tiers: [free]
consumers: [{ header: { name: X-User-Id, from: anyone } }, { ip: {} }]
services:
  payments:
    upstreams: [PAYMENTS]
    limits: { free: { amount: 2, window: 1m } }
routes: [{ path: /*, service: payments }]
decisions: { sample: 1 }
`,
    {},
    { amounts, decisions },
  )
  for (const id of ['ann', 'bob', '127.0.0.1'])
    await amounts.map.set(`override:consumer:payments:minute:${id}`, {
      ...{ amount: 50, until: undefined, reason: undefined },
    })
  let asked = 0
  const ask = async (id: string, ...fields: string[]) => {
    const request = rawRequest('GET /', `X-Request-Id: of-${id}`, ...fields)
    const response = (await rawExchange(gateway.port, request)).responses[0]!
    await gateway.recorded(++asked)
    const found = decisions.find(`of-${id}`)
    return [response.status, response.header('ratelimit-policy'), found?.decision.limits_unchecked]
  }
  const asAnn = ['X-User-Id: ann']
  t.same(await ask('ann', ...asAnn), [200, '"minute";q=50;w=60', false])
  t.same(await ask('address'), [200, '"minute";q=2;w=60', false], 'an address is not looked up')
  away = true
  t.same(await ask('bob', 'X-User-Id: bob'), [200, '"minute";q=2;w=60', true])
  t.same(await ask('ann-2', ...asAnn), [200, '"minute";q=50;w=60', false], 'this one is held')
  away = false
  t.same(await ask('bob-2', 'X-User-Id: bob'), [200, '"minute";q=50;w=60', false], 'looked up again')
  t.equal(gateway.internalErrors(), 0)
})
