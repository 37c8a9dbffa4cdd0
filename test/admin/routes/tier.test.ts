// Tests src/admin/routes/tier-of.ts
import t from 'tap'
import { startAdmin } from '../../support/gateway/admin.js'

t.test('assigns a tier to a consumer, shows it, and takes it back', async (t) => {
  const { call, deps, logged } = await startAdmin(t)
  const path = '/consumers/alice/tier'
  t.same((await call('GET', path)).json, {
    consumer: 'alice',
    assigned: null,
    until: null,
    tier: 'free',
    tier_from: 'default',
  })
  const put = await call('PUT', path, { body: { tier: 'enterprise' } })
  const assigned = {
    consumer: 'alice',
    assigned: 'enterprise',
    until: null,
    tier: 'enterprise',
    tier_from: 'assignment',
  }
  t.match(put, { status: 200 })
  t.same(put.json, assigned)
  t.same((await call('GET', path)).json, assigned)
  t.equal(deps.assignments.get('alice')?.tier, 'enterprise')
  t.same((await call('DELETE', path)).json, {
    consumer: 'alice',
    assigned: null,
    until: null,
    tier: 'free',
    tier_from: 'default',
  })
  t.equal(deps.assignments.get('alice'), undefined)
  t.equal((await call('DELETE', path)).status, 200, 'there is nothing to take back, and that is fine')
  t.match(
    logged.map(({ fields }) => fields),
    [
      { audit: { action: 'tier.set', target: 'alice', before: null, after: 'enterprise' } },
      { audit: { action: 'tier.remove', target: 'alice', before: 'enterprise', after: null } },
      { audit: { action: 'tier.remove', before: null, after: null } },
    ],
  )
})

t.test('a consumer with an API key returns to the tier of the key', async (t) => {
  const { call } = await startAdmin(t)
  t.match((await call('PUT', '/consumers/acme/tier', { body: { tier: 'free' } })).json, {
    tier: 'free',
    tier_from: 'assignment',
  })
  t.match((await call('DELETE', '/consumers/acme/tier')).json, { tier: 'pro', tier_from: 'credential' })
})

t.test('an assignment to a removed tier is reported', async (t) => {
  const { call, deps } = await startAdmin(t)
  await deps.assignments.set('alice', 'gold')
  t.same((await call('GET', '/consumers/alice/tier')).json, {
    consumer: 'alice',
    assigned: 'gold',
    until: null,
    tier: 'free',
    tier_from: 'default',
  })
})

t.test('an unknown tier or a malformed body is refused, with the valid ones', async (t) => {
  const { call, deps } = await startAdmin(t)
  const put = (body: unknown, id = 'alice') => call('PUT', `/consumers/${id}/tier`, { body })
  t.match((await put({ tier: 'gold' })).json, {
    status: 422,
    detail: 'No tier "gold"; the tiers are free, pro, enterprise.',
  })
  t.match((await put({ tier: '' })).json, { status: 422 })
  for (const body of [
    {},
    [],
    'null',
    '"pro"',
    { tier: 1 },
    { tier: null },
    { tier: 'pro', also: 1 },
    { Tier: 'pro' },
    '',
  ]) {
    t.match((await put(body)).json, { status: 400, detail: /Send \{"tier":"…"\}/ }, JSON.stringify(body))
  }
  t.equal((await put({ tier: 'pro' }, '')).status, 400, 'an empty id')
  t.equal((await put({ tier: 'pro' }, 'x'.repeat(1025))).status, 400, 'an endless id')
  t.equal(deps.assignments.get('alice'), undefined)
})

t.test('an id may hold a slash, a percent sign and anything else', async (t) => {
  const { call, deps } = await startAdmin(t)
  for (const id of ['a/b', '%2F', '..', '__proto__', 'constructor', 'tier', 'é🌊']) {
    t.equal(
      (await call('PUT', `/consumers/${encodeURIComponent(id)}/tier`, { body: { tier: 'pro' } })).status,
      200,
      id,
    )
    t.equal(deps.assignments.get(id)?.tier, 'pro')
  }
})

t.test('an assignment for a time shows when it ends, and is recorded so', async (t) => {
  const { call, deps, logged } = await startAdmin(t)
  const before = Date.now()
  const { json } = await call('PUT', '/consumers/alice/tier', { body: { tier: 'pro', for: '2h' } })
  t.match(json, { assigned: 'pro', tier: 'pro', tier_from: 'assignment' })
  const until = Date.parse(json.until)
  t.ok(until >= before + 7_200_000 && until <= Date.now() + 7_200_000)
  t.same((await call('GET', '/consumers/alice/tier')).json, json)
  t.match((await call('GET', '/usage/payments/alice')).json, { tier: 'pro', tier_until: json.until })
  t.match(logged[0]?.fields, { audit: { before: null, after: { tier: 'pro', until: json.until } } })
  for (const time of ['', '1y', '0', 5, null]) {
    const { status } = await call('PUT', '/consumers/alice/tier', { body: { tier: 'pro', for: time } })
    t.equal(status, 400, `${time}`)
  }
  await deps.assignments.set('bob', 'pro', Date.now() - 1)
  t.match(
    (await call('GET', '/consumers/bob/tier')).json,
    { assigned: null, tier: 'free' },
    'one that is over',
  )
})
