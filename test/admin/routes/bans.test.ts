import t from 'tap'
import { startAdmin } from '../../support/gateway/admin.js'
import { snapshotOf } from '../../support/gateway/gateway.js'

const at = (block: string) => `/bans/${encodeURIComponent(block)}`

t.test('bans a block for a while, shows it, and lifts it', async (t) => {
  const { call, deps, logged } = await startAdmin(t)
  t.same((await call('GET', '/bans')).json, { bans: [], total: 0 })
  const put = await call('PUT', at('203.0.113.0/24'), { body: { for: '1h', reason: 'scraping' } })
  t.match(put.json, { block: '203.0.113.0/24', source: 'manual', reason: 'scraping' })
  t.equal(Date.parse(put.json.until) - Date.parse(put.json.since), 3_600_000)
  t.same((await call('GET', '/bans')).json, { bans: [put.json], total: 1 })
  t.match(deps.bans.get('203.0.113.0/24'), { reason: 'scraping' })
  t.match((await call('PUT', at('2001:db8::1'))).json, {
    block: '2001:db8::1/128',
    until: null,
    reason: null,
  })

  t.same((await call('DELETE', at('203.0.113.7'))).json, {
    block: '203.0.113.7/32',
    lifted: [],
    still: [put.json],
  })
  t.same((await call('DELETE', at('203.0.113.0/24'))).json, {
    block: '203.0.113.0/24',
    lifted: [put.json],
    still: [],
  })
  t.equal(deps.bans.get('203.0.113.0/24'), undefined)
  t.match(
    logged.map(({ fields }) => fields),
    [
      { audit: { action: 'ban.set', target: '203.0.113.0/24', before: null, after: { reason: 'scraping' } } },
      { audit: { action: 'ban.set', target: '2001:db8::1/128' } },
      { audit: { action: 'ban.remove', target: '203.0.113.7/32', before: null } },
      { audit: { action: 'ban.remove', target: '203.0.113.0/24', before: { reason: 'scraping' } } },
    ],
  )
})

t.test('lifting a ban lists every wider ban that still holds', async (t) => {
  const { call, deps } = await startAdmin(t)
  const ban = { source: 'manual', since: 1 } as const
  const wider = {
    '203.0.113.77': ['203.0.113.76/31', '203.0.113.64/27', '203.0.0.0/16', '128.0.0.0/1', '0.0.0.0/0'],
    '2001:db8:1:2:3:4:5:6': ['2001:db8:1:2:3:4:5:0/112', '2001:db8:1::/48', '2000::/3', '::/0'],
  }
  const others = ['203.0.113.78/31', '203.0.113.96/27', '2001:db8:2::/48', '64.0.0.0/2']
  for (const block of [...others, ...Object.values(wider).flat()]) await deps.bans.set(block, ban)
  for (const [address, blocks] of Object.entries(wider)) {
    const { json } = await call('DELETE', at(address))
    const still = (json.still as { block: string }[]).map(({ block }) => block)
    t.same(still, blocks, address)
  }
  t.match((await call('DELETE', at('203.0.113.64/27'))).json, { lifted: [{}], still: [{}, {}, {}] })
})

t.test('lifting the ban of an IPv6 address lifts an automatic ban of its /64', async (t) => {
  const { call, deps } = await startAdmin(t)
  await deps.bans.set('2001:db8::/64', { source: 'auto', since: 1000 })
  t.match((await call('DELETE', at('2001:db8::abcd'))).json, {
    lifted: [{ block: '2001:db8::/64', source: 'auto' }],
    still: [],
  })
  t.equal(deps.bans.get('2001:db8::/64'), undefined)
})

t.test('a ban names the settings that let the address in anyway', async (t) => {
  const snapshot = snapshotOf(`
trusted_proxies: [192.0.2.0/24]
edge: { allow: [203.0.113.7, "2001:db8::/32"] }
tiers: [free]
services: { a: { upstreams: [http://a], limits: { free: 1/s } } }
routes: [{ path: /*, service: a }]
`)
  const config = {
    current: () => snapshot,
    status: () => ({}),
    reload: () => Promise.resolve({ result: 'unchanged' as const }),
  }
  const { call } = await startAdmin(t, { config })
  const letsIn = async (block: string) => (await call('PUT', at(block))).json.let_in
  t.same(await Promise.all(['192.0.2.9', '203.0.113.7', '2001:db8::7', '203.0.113.8'].map(letsIn)), [
    'trusted_proxies',
    'edge.allow',
    'edge.allow',
    undefined,
  ])
})

t.test('a malformed or too wide block, and another body, are refused', async (t) => {
  const { call, deps } = await startAdmin(t)
  const cases: [string, unknown, number, RegExp][] = [
    ['banana', {}, 400, /not an address block/],
    ['203.0.113.7/24', {}, 400, /write 203\.0\.113\.0\/24/],
    ['0.0.0.0/0', {}, 422, /wider than \/8/],
    ['2000::/3', {}, 422, /wider than \/16/],
    ['203.0.113.7', { for: '1 hour' }, 400, /30m, 1h or 7d/],
    ['203.0.113.7', { for: '0' }, 400, /30m, 1h or 7d/],
    ['203.0.113.7', { for: '90d' }, 400, /^"for" is a duration from 1s to 31d, /],
    ['203.0.113.7', { reason: 'x'.repeat(201) }, 400, /200 characters/],
    ['203.0.113.7', { until: 5 }, 400, /"for":"1h"/],
  ]
  for (const [block, body, status, detail] of cases) {
    const answer = await call('PUT', at(block), { body })
    t.equal(answer.status, status, `${block} ${JSON.stringify(body)}`)
    t.match(answer.json.detail, detail)
  }
  t.equal(deps.bans.entries().size, 0)
})
