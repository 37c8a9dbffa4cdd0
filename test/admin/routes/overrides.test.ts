import t from 'tap'
import { AMOUNTS, createAmounts } from '../../../src/fleet/overrides.js'
import { createMemoryMap } from '../../../src/fleet/replicated-map.js'
import { NOW, startAdmin } from '../../support/gateway/admin.js'

const BOOST = '/boosts/payments/minute/consumer/alice'

t.test('a boost is set, shown, listed and removed, and each change is recorded', async (t) => {
  const { call, deps, logged } = await startAdmin(t)
  const before = Date.now()
  const put = await call('PUT', BOOST, { body: { by: 500, for: '1h' }, headers: { 'x-reason': 'ticket 7' } })
  t.match(put, { status: 200 })
  t.match(put.json, { consumer: 'alice', service: 'payments', limit: 'minute', by: 500, reason: 'ticket 7' })
  t.same(put.json.amounts, { free: 510, pro: 600, enterprise: 1500 })
  const until = Date.parse(put.json.until as string)
  t.ok(until >= before + 3_600_000 && until <= Date.now() + 3_600_000)
  t.same((await call('GET', '/boosts')).json, { boosts: [put.json], not_shown: 0 })
  t.same((await call('GET', '/boosts?consumer=bob')).json, { boosts: [], not_shown: 0 })
  t.same((await call('GET', '/overrides')).json, { overrides: [], not_shown: 0 })
  const removed = await call('DELETE', BOOST)
  t.match(removed.json, { consumer: 'alice', removed: true, amounts: { free: 10 } })
  t.match(await call('DELETE', BOOST), {
    status: 404,
    json: { detail: /There is no boost of minute on payments/ },
  })
  t.equal(deps.amounts.map.entries().size, 0)
  t.match(
    logged.map(({ fields }) => fields),
    [
      {
        audit: {
          action: 'boost.set',
          target: 'payments/minute/consumer/alice',
          before: null,
          after: { by: 500, until: put.json.until },
          reason: 'ticket 7',
        },
      },
      { audit: { action: 'boost.remove', before: { by: 500 }, after: null } },
    ],
  )
})

t.test("parts of a name cannot be shifted to reach another consumer's boost", async (t) => {
  const { call, deps, logged } = await startAdmin(t)
  await call('PUT', '/boosts/payments/minute/consumer/a:b', { body: { by: 5, for: '1h' } })
  const others = ['/boosts/payments:minute/a/consumer/b', '/boosts/payments/minute:a/consumer/b']
  for (const path of others) t.match(await call('DELETE', path), { status: 404 }, path)
  t.equal(deps.amounts.map.entries().size, 1)
  t.equal(logged.length, 1, 'only the boost that was set')
  t.match(await call('DELETE', '/boosts/payments/minute/consumer/a:b'), { status: 200 })
})

t.test("a tenant's override stays until removed, and is listed after those that end", async (t) => {
  const { call } = await startAdmin(t)
  const path = '/overrides/payments/minute/tenant/acme%2Fgroup'
  const put = await call('PUT', path, { body: { amount: 70 } })
  const made = {
    tenant: 'acme/group',
    service: 'payments',
    limit: 'minute',
    amount: 70,
    until: null,
    reason: null,
  }
  t.same(put.json, { ...made, amounts: { free: 70, pro: 70, enterprise: 70 } })
  await call('PUT', '/overrides/payments/minute/consumer/bob', { body: { amount: 9, for: '30d' } })
  const { overrides } = (await call('GET', '/overrides')).json as {
    overrides: { consumer?: string; tenant?: string }[]
  }
  t.same(
    overrides.map(({ consumer, tenant }) => consumer ?? tenant),
    ['bob', 'acme/group'],
  )
  t.match((await call('DELETE', path)).json, { tenant: 'acme/group', amounts: { free: 10 } })
})

t.test('usage shows the amount in force, and what makes it up', async (t) => {
  const { call } = await startAdmin(t)
  await call('PUT', BOOST, { body: { by: 5, for: '1h' } })
  await call('PUT', '/overrides/payments/minute/tenant/acme', { body: { amount: 70 } })
  t.match((await call('GET', '/usage/payments/alice')).json, {
    limits: [
      { amount: 15, remaining: 15, changed: { tier_amount: 10, override: null, boost: 5, until: /^2/ } },
    ],
  })
  t.match((await call('GET', '/usage/payments/alice?tenant=acme')).json, {
    tenant: 'acme',
    limits: [{ amount: 75, changed: { tier_amount: 10, override: 70, boost: 5, until: /^2/ } }],
  })
  t.match((await call('GET', '/usage/payments/bob?tenant=acme')).json, {
    limits: [{ amount: 70, changed: { tier_amount: 10, override: 70, boost: 0, until: null } }],
  })
})

t.test('an invalid boost or override is refused, with the valid form', async (t) => {
  const { call, deps } = await startAdmin(t)
  const put = async (path: string, body: unknown) => {
    const { status, json } = await call('PUT', path, { body })
    return `${status} ${json.detail}`
  }
  t.match(
    await put('/boosts/paymnts/minute/consumer/a', { by: 1, for: '1h' }),
    /^404 No service "paymnts"; the services are/,
  )
  t.match(
    await put('/boosts/payments/minut/consumer/a', { by: 1, for: '1h' }),
    /^404 No limit "minut" on payments; its limits are minute/,
  )
  t.match(
    await put('/boosts/payments/minute/ip/a', { by: 1, for: '1h' }),
    /^404 A boost is for a consumer or a tenant/,
  )
  for (const body of [
    {},
    [],
    'null',
    { by: 1 },
    { by: '1', for: '1h' },
    { amount: 1, for: '1h' },
    { by: 1, for: '1h', x: 1 },
  ]) {
    t.match(await put(BOOST, body), /^400 Send \{"by":500,"for":"1h"\}/, JSON.stringify(body))
  }
  for (const time of ['', '1', '1y', '0', '999ms', '367d', 5, null]) {
    t.match(await put(BOOST, { by: 1, for: time }), /^400 "for" is a duration from 1s to 366d/, `${time}`)
  }
  for (const by of [0, -1, 1.5, 33_554_432]) {
    t.match(
      await put(BOOST, { by, for: '1h' }),
      /^422 "by" is .*; it must be a whole number from 1 to 3355\d{4}/,
      `${by}`,
    )
  }
  t.match(
    await put('/overrides/payments/minute/consumer/a', { amount: 0 }),
    /^422 "amount" is 0; it must be a whole number/,
  )
  t.match(await put('/overrides/payments/minute/consumer/a', {}), /^400 Send \{"amount":5000\}/)
  t.match(
    await put(`/boosts/payments/minute/consumer/${'x'.repeat(1025)}`, { by: 1, for: '1h' }),
    /^400 A consumer id has/,
  )
  t.equal(deps.amounts.map.entries().size, 0)
})

t.test('a store that is away is 503; the override of a removed limit can be removed', async (t) => {
  const { call, deps } = await startAdmin(t)
  const value = { amount: 5, until: NOW * 2, reason: undefined }
  await deps.amounts.map.set('boost:consumer:gone:minute:alice', value)
  t.match((await call('GET', '/boosts')).json, { boosts: [{ service: 'gone', amounts: {} }] })
  t.match(await call('DELETE', '/boosts/gone/minute/consumer/alice'), { status: 200 })
  const away = await startAdmin(t, {
    amounts: {
      ...deps.amounts,
      map: { ...deps.amounts.map, read: () => Promise.reject(new Error('no connection')) },
    },
  })
  t.match(await away.call('PUT', BOOST, { body: { by: 5, for: '1h' } }), { status: 503 })
  t.match(await away.call('DELETE', BOOST), { status: 503 })
})

t.test(
  'of more than a gateway holds, those of a consumer are looked up, and all are read in pages',
  async (t) => {
    let away = false
    const map = createMemoryMap(AMOUNTS)
    const lookUp = async (key: string) => {
      if (away) throw new Error('the store is away')
      return map.get(key)
    }
    const amounts = createAmounts({
      ...map,
      isWhole: () => false,
      get: () => undefined,
      entries: () => new Map(),
      find: lookUp,
      read: lookUp,
      /** Each page has one of them. */
      async page(cursor = '1.0.0') {
        if (away) throw new Error('the store is away')
        const all = [...map.entries()]
        const i = Number(cursor.split('.')[2])
        return { values: all.slice(i, i + 1), next: i + 1 < all.length ? `1.0.${i + 1}` : undefined }
      },
    })
    const { call } = await startAdmin(t, { amounts })
    const put = await call('PUT', BOOST, { body: { by: 500, for: '1h' } })
    t.same(put.json.amounts, { free: 510, pro: 600, enterprise: 1500 })
    await call('PUT', '/overrides/payments/minute/consumer/alice', { body: { amount: 70 } })
    await call('PUT', '/boosts/payments/minute/tenant/acme', { body: { by: 5, for: '2h' } })
    const names = async (path: string, list = 'boosts') =>
      (await call('GET', path)).json[list].map(
        ({ consumer, tenant }: Record<string, string>) => consumer ?? tenant,
      )
    t.same(await names('/boosts'), ['alice', 'acme'])
    t.same(await names('/boosts?after=1.0.2'), ['acme'])
    t.same(await names('/boosts?consumer=alice'), ['alice'])
    t.same(await names('/boosts?tenant=acme&service=payments'), ['acme'])
    t.same(await names('/boosts?tenant=acme&service=other'), [])
    t.same(await names('/boosts?consumer=bob'), [])
    t.same(await names('/overrides', 'overrides'), ['alice'])
    const [shown] = (await call('GET', '/boosts?consumer=alice')).json.boosts
    t.same(shown.amounts, { free: 570, pro: 570, enterprise: 570 })
    const { limits } = (await call('GET', '/usage/payments/alice')).json
    t.match(limits, [{ name: 'minute', amount: 570 }])
    t.match(await call('DELETE', BOOST), { status: 200, json: { amounts: { free: 70 } } })
    away = true
    t.match(await call('GET', '/boosts'), { status: 503 })
    t.match(await call('GET', '/boosts?consumer=alice'), { status: 503 })
    t.match(
      (await call('GET', '/usage/payments/alice')).json.limits,
      [{ name: 'minute', amount: 70 }],
      'known',
    )
    t.match((await call('GET', '/usage/payments/bob')).json.limits, [{ name: 'minute', amount: 10 }])
  },
)
