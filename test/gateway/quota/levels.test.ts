import t from 'tap'
import { problemOf, startSite } from '../../support/gateway/site.js'
import { rawExchange, rawRequest } from '../../support/http/raw.js'

/** Consumers come from a header, and may have a tenant; here anybody may set both. */
const CONSUMERS = `
tiers: [free, pro]
trusted_proxies: [127.0.0.1]
consumers:
  - api_key: { keys: [{ key: key-of-pro, consumer: paul, tier: pro, tenant: umbrella }] }
  - header: { name: X-User-Id, tenant: X-Tenant-Id, from: anyone }
`
const PRO = 'X-Api-Key: key-of-pro'

async function ask(port: number, line: string, ...fields: string[]) {
  const { responses } = await rawExchange(port, rawRequest(line, ...fields))
  return responses[0]!
}

t.test('by ip: an address has one quota, whatever consumer it names; IPv6 counts by /64', async (t) => {
  const { gateway } = await startSite(
    t,
    `${CONSUMERS}
services:
  payments:
    upstreams: [PAYMENTS]
    limits: { free: [{ amount: 2, window: 1m, by: ip }, 100/min], pro: unlimited }
routes: [{ path: /*, service: payments }]
`,
  )
  const from = (address: string, user: string) =>
    ask(gateway.port, 'GET /', `X-Forwarded-For: ${address}`, `X-User-Id: ${user}`)
  t.equal((await from('2001:db8::1', 'ann')).header('ratelimit'), '"ip-minute";r=1;t=60')
  t.equal((await from('2001:db8::2', 'ben')).status, 200)
  const denied = await from('2001:db8::3', 'cay')
  t.equal(denied.status, 429)
  t.match(problemOf(denied), {
    detail:
      /^The quota "ip-minute" \(2 per 60 s\) of your address, tier free on payments, is used up; try again in \d+ s\.$/,
    'violated-policies': ['ip-minute'],
  })
  t.equal((await from('2001:db8:0:1::1', 'ann')).status, 200, 'another network')
  t.equal((await from('203.0.113.9', 'ann')).status, 200)
})

t.test("a consumer whose id is an address spends none of that address's quota", async (t) => {
  const { gateway } = await startSite(
    t,
    `
tiers: [free]
trusted_proxies: [127.0.0.1]
consumers:
  - api_key: { keys: [{ key: key-of-one, consumer: 192.0.2.7 }] }
  - ip: {}
services: { payments: { upstreams: [PAYMENTS], limits: { free: 2/min } } }
routes: [{ path: /*, service: payments }]
`,
  )
  const from = async (...fields: string[]) =>
    (await ask(gateway.port, 'GET /', 'X-Forwarded-For: 192.0.2.7', ...fields)).status
  t.same([await from(), await from(), await from()], [200, 200, 429], 'the address')
  const key = 'X-Api-Key: key-of-one'
  t.same([await from(key), await from(key), await from(key)], [200, 200, 429], 'the consumer')
})

t.test('by tenant: from the key or a header; a consumer without one counts alone', async (t) => {
  const { gateway, payments } = await startSite(
    t,
    `${CONSUMERS}
services:
  payments:
    upstreams: [PAYMENTS]
    limits:
      free: { amount: 2, window: 1m, by: tenant }
      pro: { amount: 2, window: 1m, by: tenant }
routes: [{ path: /*, service: payments }]
`,
  )
  const as = (user: string, tenant?: string) =>
    ask(
      gateway.port,
      'GET /',
      `X-User-Id: ${user}`,
      ...(tenant === undefined ? [] : [`X-Tenant-Id: ${tenant}`]),
    )
  t.equal((await as('ann', 'umbrella')).status, 200)
  t.equal((await ask(gateway.port, 'GET /', PRO)).status, 200, 'the same tenant, from the key')
  const denied = await as('ben', 'umbrella')
  t.equal(denied.status, 429)
  t.match(problemOf(denied).detail, /of your tenant, tier free on payments, is used up/)
  t.equal((await as('ben', 'acme')).status, 200)
  for (const status of [200, 200, 429])
    t.equal((await as('umbrella')).status, status, 'a consumer of that name')
  t.equal((await as('ann')).status, 200)

  t.same(payments.received[0]!.values('x-tenant-id'), ['umbrella'], 'the backend sees what was believed')
  const { length } = payments.received
  await ask(gateway.port, 'GET /', PRO, 'X-Tenant-Id: another', 'X-User-Id: someone')
  t.equal(gateway.records.at(-1)?.status, 429, 'a key has the tenant that the configuration says')
  gateway.clock.now += 120_000
  await ask(gateway.port, 'GET /', PRO, 'X-Tenant-Id: another', 'X-User-Id: someone')
  t.same(payments.received[length]!.values('x-tenant-id'), [], 'an unverified tenant is not forwarded')
  t.same(payments.received[length]!.values('x-user-id'), [])
})

t.test('a share: one consumer of a tenant cannot starve the rest, and learns its limit', async (t) => {
  const { gateway } = await startSite(
    t,
    `${CONSUMERS}
services:
  payments:
    upstreams: [PAYMENTS]
    limits: { free: { amount: 4, window: 1m, by: tenant, share: 0.5 }, pro: unlimited }
routes: [{ path: /*, service: payments }]
`,
  )
  const as = (user: string, ...tenant: string[]) =>
    ask(gateway.port, 'GET /', `X-User-Id: ${user}`, ...tenant.map((name) => `X-Tenant-Id: ${name}`))
  const first = await as('ann', 'umbrella')
  t.equal(first.header('ratelimit-policy'), '"tenant-minute";q=4;w=60, "tenant-minute-share";q=2;w=60')
  t.equal(first.header('ratelimit'), '"tenant-minute-share";r=1;t=60')
  t.equal((await as('ann', 'umbrella')).status, 200)
  const denied = await as('ann', 'umbrella')
  t.match(problemOf(denied), {
    status: 429,
    detail:
      /^The quota "tenant-minute-share" \(2 per 60 s\) of your share of "tenant-minute", tier free on payments, is used up; try/,
    'violated-policies': ['tenant-minute-share'],
  })
  t.equal((await as('ben', 'umbrella')).status, 200, 'the rest is there for others')
  t.equal((await as('cay', 'umbrella')).header('ratelimit'), '"tenant-minute";r=0;t=60')
  t.match(problemOf(await as('dan', 'umbrella')), { 'violated-policies': ['tenant-minute'] })
  t.match(problemOf(await as('ann', 'umbrella')), {
    'violated-policies': ['tenant-minute', 'tenant-minute-share'],
  })
  const alone = await as('ann')
  t.equal(
    alone.header('ratelimit-policy'),
    '"tenant-minute";q=4;w=60',
    'a consumer without a tenant has all of it',
  )
  t.equal(alone.header('ratelimit'), '"tenant-minute";r=3;t=60')
})

t.test('an invalid tenant id is 401; a repeated or look-alike tenant header counts as none', async (t) => {
  const { gateway, payments } = await startSite(
    t,
    `${CONSUMERS}
services: { payments: { upstreams: [PAYMENTS] } }
routes: [{ path: /*, service: payments }]
`,
  )
  const user = 'X-User-Id: ann'
  t.equal((await ask(gateway.port, 'GET /', user, 'X-Tenant-Id:')).status, 401)
  t.equal((await ask(gateway.port, 'GET /', user, `X-Tenant-Id: ${'x'.repeat(257)}`)).status, 401)
  t.equal((await ask(gateway.port, 'GET /', user, 'X-Tenant-Id: a', 'X-Tenant-Id: b')).status, 400)
  t.equal((await ask(gateway.port, 'GET /', user, 'Connection: x-tenant-id')).status, 400)
  t.equal((await ask(gateway.port, 'GET /', user, 'X_Tenant_Id: a')).status, 200)
  t.same(
    payments.received.map((one) => one.rawHeaders.filter((name) => /tenant/i.test(name))),
    [[]],
  )
})

t.test('by route: all consumers of a route share it, and other routes have their own', async (t) => {
  const { gateway } = await startSite(
    t,
    `${CONSUMERS}
services:
  payments: { upstreams: [PAYMENTS], limits: { free: { amount: 1, window: 1m, by: route }, pro: unlimited } }
routes:
  - { path: /a/*, service: payments }
  - { path: /b/*, service: payments }
`,
  )
  t.equal((await ask(gateway.port, 'GET /a/1', 'X-User-Id: ann')).status, 200)
  const denied = await ask(gateway.port, 'GET /a/2', 'X-User-Id: ben')
  t.equal(denied.status, 429)
  t.match(problemOf(denied).detail, /of all callers of this route, tier free on payments, is used up/)
  t.equal((await ask(gateway.port, 'GET /b/1', 'X-User-Id: ann')).status, 200)
})

t.test('by service: two tiers share one count with two amounts, so free is denied first', async (t) => {
  const { gateway } = await startSite(
    t,
    `${CONSUMERS}
services:
  payments:
    upstreams: [PAYMENTS]
    limits:
      free: [10/min, { amount: 2, window: 1m, by: service }]
      pro: [10/s, { amount: 3, window: 1m, by: service }]
routes: [{ path: /*, service: payments }]
`,
  )
  const free = (user: string) => ask(gateway.port, 'GET /', `X-User-Id: ${user}`)
  const pro = () => ask(gateway.port, 'GET /', PRO)
  t.equal((await free('ann')).status, 200)
  t.equal((await pro()).status, 200)
  const denied = await free('ben')
  t.equal(denied.status, 429)
  t.match(problemOf(denied).detail, /of all callers of the service, tier free on payments, is used up/)
  t.equal((await pro()).status, 200)
  t.equal((await pro()).status, 429)
})
