// Tests src/admin/routes/key-request.ts src/admin/store-down.ts
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { createKeyList } from '../../../src/admin/routes/keys.js'
import { digestOf, isKey } from '../../../src/credentials/key-format.js'
import type { StoredKey } from '../../../src/fleet/api-keys.js'
import { createKeyStore } from '../../../src/fleet/keyring.js'
import { createMemoryLastUsed } from '../../../src/fleet/last-used.js'
import { createMemoryMap } from '../../../src/fleet/replicated-map.js'
import { EXAMPLE, startAdmin } from '../../support/gateway/admin.js'
import { memoryAssignments, snapshotOf } from '../../support/gateway/gateway.js'

const snapshot = snapshotOf(EXAMPLE.replace('api_key: { keys:', 'api_key: { store: true, keys:'))
const config = {
  current: () => snapshot,
  status: () => ({}),
  reload: () => Promise.resolve({ result: 'unchanged' as const }),
}
const start = (t: Parameters<typeof startAdmin>[0]) => startAdmin(t, { config })

t.test('creates a key, which is shown once, lists it and revokes it', async (t) => {
  const { call, deps } = await start(t)
  const asked = {
    consumer: 'bob',
    tier: 'pro',
    tenant: 'acme',
    scopes: ['a', 'b'],
    name: 'ci',
    expires_in: '90d',
  }
  const { status, json } = await call('POST', '/keys', { body: asked })
  t.equal(status, 200)
  const { key, ...shown } = json
  t.ok(isKey(key))
  t.equal(shown.id, digestOf(key).slice(0, 16))
  t.match(shown, { consumer: 'bob', tier: 'pro', tenant: 'acme', scopes: ['a', 'b'], name: 'ci' })
  t.match(shown, { state: 'active', replaced_by: null, last_used: null })
  t.equal(Date.parse(shown.expires) - Date.parse(shown.created), 90 * 86_400_000)
  const list = await call('GET', '/keys')
  t.same(list.json, { keys: [shown], more: false })
  t.same((await call('GET', `/keys/${shown.id}`)).json, shown)
  t.notMatch(list.text, key)
  t.notMatch(JSON.stringify(deps.keys.keys().get(shown.id)), key)

  await deps.keys.lastUsed.touch([shown.id], 29_000_000)
  t.match((await call('GET', `/keys/${shown.id}`)).json, { last_used: '2025-02-19T21:20:00.000Z' })
  const gone = { id: shown.id, consumer: 'bob', revoked: true }
  t.same((await call('DELETE', `/keys/${shown.id}`)).json, gone)
  t.equal(deps.keys.keys().get(shown.id), undefined)
  t.match(await call('DELETE', `/keys/${shown.id}`), { status: 404 })
  t.match(await call('GET', `/keys/${shown.id}`), { status: 404, json: { detail: /may have been revoked/ } })
  t.match(await call('GET', '/keys/nonsense'), { status: 404, json: { detail: /16 hex digits/ } })
})

t.test('the audit log has every action, and no key', async (t) => {
  const { call, logged } = await start(t)
  const { key, id } = (await call('POST', '/keys', { body: { consumer: 'bob' } })).json
  const headers = { 'x-reason': `${key} was found in a repository` }
  const next = (await call('POST', `/keys/${id}/rotate`, { headers, body: { overlap: '0' } })).json
  await call('DELETE', `/keys/${id}`)
  const entries = logged.flatMap(({ fields }) => ('audit' in fields ? [fields.audit] : []))
  t.match(entries, [
    { action: 'key.create', target: `bob/${id}`, after: { expires: 'never' } },
    { action: 'key.rotate', target: `bob/${id}`, after: { replaced_by: next.id } },
    { action: 'key.revoke', target: `bob/${id}`, before: { replaced_by: next.id } },
  ])
  const kept = (await call('GET', '/audit')).text
  t.match(kept, /tg_live_\*\*\* was found/)
  t.notMatch(kept, key.slice(8))
})

t.test("rotates a key: the old one works for a while, the new one until the old one's end", async (t) => {
  const { call } = await start(t)
  const body = { consumer: 'bob', tier: 'pro', scopes: ['a'], expires_in: '30d' }
  const old = (await call('POST', '/keys', { body })).json
  const next = (await call('POST', `/keys/${old.id}/rotate`)).json
  t.match(next, { consumer: 'bob', tier: 'pro', scopes: ['a'], state: 'active' })
  t.not(next.key, old.key)
  t.equal(Date.parse(next.expires) - Date.parse(next.created), 30 * 86_400_000)
  const { replaces } = next
  t.match(replaces, { id: old.id, state: 'active', replaced_by: next.id })
  t.equal(
    Date.parse(replaces.expires) - Date.parse(next.created),
    86_400_000,
    'a day, if nothing else is said',
  )
  const again = await call('POST', `/keys/${old.id}/rotate`)
  t.match(again, {
    status: 422,
    json: { detail: `The key ${old.id} was replaced by ${next.id}; rotate that one.` },
  })
  const short = (await call('POST', `/keys/${next.id}/rotate`, { body: { overlap: '0', expires_in: '1h' } }))
    .json
  t.match(short.replaces, { state: 'expired' })
  t.equal(Date.parse(short.expires) - Date.parse(short.created), 3_600_000)
  t.match(await call('POST', `/keys/${'0'.repeat(16)}/rotate`), { status: 404 })
})

t.test('an expired key is listed as expired, and cannot be rotated', async (t) => {
  const { call, deps } = await start(t)
  const sha256 = digestOf('one')
  const id = sha256.slice(0, 16)
  const old: StoredKey = {
    ...{
      id,
      sha256,
      consumer: 'bob',
      tier: undefined,
      tenant: undefined,
      scopes: undefined,
      name: undefined,
    },
    ...{ created: Date.now() - 2000, expires: Date.now() - 1000, replacedBy: undefined },
  }
  await deps.keys.keys().set(id, old)
  t.match((await call('GET', '/keys?consumer=bob')).json, { keys: [{ id, state: 'expired' }] })
  t.match(await call('POST', `/keys/${id}/rotate`), {
    status: 422,
    json: { detail: `The key ${id} has expired; create a new one.` },
  })
})

t.test('lists by consumer, page by page, each key once', async (t) => {
  const { call, deps } = await start(t)
  const ids: string[] = []
  for (let i = 0; i < 2300; i++) {
    const sha256 = digestOf(String(i))
    const id = sha256.slice(0, 16)
    ids.push(id)
    await deps.keys.keys().set(id, {
      ...{ id, sha256, consumer: i % 100 === 0 ? 'bob' : 'eve', tier: undefined, tenant: undefined },
      ...{ scopes: undefined, name: undefined, created: i, expires: undefined, replacedBy: undefined },
    })
  }
  const found: string[] = []
  let pages = 0
  for (let more = true; more; pages++) {
    const { json } = await call('GET', `/keys${found.length === 0 ? '' : `?after=${found.at(-1)}`}`)
    found.push(...json.keys.map((key: { id: string }) => key.id))
    more = json.more
  }
  t.equal(pages, 3)
  t.same(found, ids.toSorted())
  const bobs = (await call('GET', '/keys?consumer=bob')).json
  t.equal(bobs.keys.length, 23)
  t.equal(bobs.more, false)
  for (const query of ['?consumer=a&consumer=b', '?limit=5', '?after=a&after=b']) {
    t.match(await call('GET', `/keys${query}`), { status: 400 }, query)
  }
})

t.test('however many keys there are, a list of them lets requests through', async (t) => {
  const { deps } = await start(t)
  for (let i = 0; i < 50_000; i++) {
    const id = i.toString(16).padStart(16, '0')
    await deps.keys.keys().set(id, {
      ...{ id, sha256: id.padEnd(64, '0'), consumer: `c${i % 1000}`, tier: undefined, tenant: undefined },
      ...{ scopes: undefined, name: undefined, created: i, expires: undefined, replacedBy: undefined },
    })
  }
  const { list } = createKeyList(deps)
  let turns = 0
  let isOver = false
  const count = () => {
    turns++
    if (!isOver) setImmediate(count)
  }
  setImmediate(count)
  const { keys: told } = await list('c7', undefined)
  isOver = true
  t.equal(told.length, 50)
  t.ok(turns >= 9, `${turns} turns of the event loop`)
})

t.test('says what is wrong with a request', async (t) => {
  const { call, deps } = await start(t)
  const wrong: [body: unknown, detail: RegExp][] = [
    [{}, /consumer has 1 to 256/],
    [[], /Send \{"consumer":"…"\}/],
    ['null', /Send/],
    [{ consumer: '' }, /consumer has/],
    [{ consumer: 'x'.repeat(257) }, /consumer has/],
    [{ consumer: 'bob', tier: 7 }, /tier has 1 to 256/],
    [{ consumer: 'bob', tenant: '' }, /tenant has/],
    [{ consumer: 'bob', name: 'x'.repeat(101) }, /name has/],
    [{ consumer: 'bob', scopes: [] }, /scopes is a list/],
    [{ consumer: 'bob', scopes: ['a', 'a'] }, /scopes is a list/],
    [{ consumer: 'bob', scopes: ['a b'] }, /scopes is a list/],
    [{ consumer: 'bob', expires_in: '1s' }, /from 1m to 3650d/],
    [{ consumer: 'bob', expires_in: 90 }, /from 1m/],
    [{ consumer: 'bob', expires: '90d' }, /No member "expires"/],
  ]
  for (const [body, detail] of wrong) {
    t.match(await call('POST', '/keys', { body }), { status: 400, json: { detail } }, JSON.stringify(body))
  }
  t.match(await call('POST', '/keys', { body: { consumer: 'bob', tier: 'gold' } }), {
    status: 422,
    json: { detail: 'No tier "gold"; the tiers are free, pro, enterprise.' },
  })
  t.equal(deps.keys.keys().entries().size, 0)
  const { id } = (await call('POST', '/keys', { body: { consumer: 'bob' } })).json
  for (const body of [{ overlap: '91d' }, { overlap: 1 }, { expires_in: '1s' }, { for: '1h' }, []]) {
    t.match(await call('POST', `/keys/${id}/rotate`, { body }), { status: 400 }, JSON.stringify(body))
  }
})

t.test('a configuration without store: true gets no keys', async (t) => {
  const { call } = await startAdmin(t)
  t.match(await call('POST', '/keys', { body: { consumer: 'bob' } }), {
    status: 422,
    json: { detail: /set store: true in an api_key/ },
  })
  t.equal((await call('GET', '/keys')).status, 200, 'existing keys are still listed')
})

t.test('at the maximum number of keys the response says so', async (t) => {
  const keys = createKeyStore((shape) => createMemoryMap({ ...shape, most: 1 }), createMemoryLastUsed(1))
  const { call } = await startAdmin(t, { config, keys })
  await call('POST', '/keys', { body: { consumer: 'bob' } })
  t.match(await call('POST', '/keys', { body: { consumer: 'bob' } }), {
    status: 422,
    json: {
      detail: 'Could not create a key: there are already 1 API keys, which is the most; remove some first.',
    },
  })
})

t.test("a consumer's tier is that of its newest key in the store", async (t) => {
  const { call } = await start(t)
  for (const tier of ['enterprise', 'pro']) {
    await call('POST', '/keys', { body: { consumer: 'bob', tier } })
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
  t.match((await call('GET', '/consumers/bob/tier')).json, { tier: 'pro', tier_from: 'credential' })
  t.match((await call('GET', '/usage/payments/bob')).json, { tier: 'pro', tier_from: 'credential' })
  t.match((await call('PUT', '/consumers/bob/tier', { body: { tier: 'free' } })).json, { tier: 'free' })
  t.match((await call('GET', '/consumers/eve/tier')).json, { tier: 'free', tier_from: 'default' })
})

t.test('of more keys than a gateway holds, those of a consumer are read from the store', async (t) => {
  let away = false
  let slow = false
  const keys = createKeyStore((shape) => {
    const map = createMemoryMap(shape)
    return {
      ...map,
      isWhole: () => false,
      entries: () => new Map(),
      /** Each page has one key. */
      async page(cursor = '1.0.0') {
        if (away) throw new Error('the store is away')
        if (slow) await delay(1050)
        const all = [...map.entries()]
        const i = Number(cursor.split('.')[2])
        return { values: all.slice(i, i + 1), next: i + 1 < all.length ? `1.0.${i + 1}` : undefined }
      },
    }
  }, createMemoryLastUsed(10))
  const { call } = await startAdmin(t, { config, keys })
  const ids: string[] = []
  for (const consumer of ['bob', 'eve', 'bob'])
    ids.push((await call('POST', '/keys', { body: { consumer, tier: 'pro' } })).json.id)
  const list = (await call('GET', '/keys')).json
  t.match(list, { more: false })
  t.notOk('next' in list)
  t.same(new Set(list.keys.map(({ id }: { id: string }) => id)), new Set(ids))
  t.equal((await call('GET', '/keys?consumer=bob')).json.keys.length, 2)
  t.equal((await call('GET', '/keys?consumer=eve&after=1.0.2')).json.keys.length, 0, 'from the cursor on')
  t.match(await call('GET', `/keys/${ids[0]}`), { status: 200, json: { consumer: 'bob' } })
  t.match((await call('GET', '/consumers/bob/tier')).json, { tier: 'pro', tier_from: 'credential' })
  slow = true
  t.match((await call('GET', '/keys?consumer=bob')).json, { more: true, next: '1.0.1' }, 'a second at most')
  t.match((await call('GET', '/consumers/nobody/tier')).json, {
    tier: 'free',
    tier_notes: [/not enough time to read all API keys/],
  })
  away = true
  t.match(await call('GET', '/keys'), { status: 503 })
  t.match((await call('GET', '/consumers/bob/tier')).json, {
    tier: 'free',
    tier_notes: [/the store could not tell which API keys it has/],
  })
})

t.test('an assignment that cannot be looked up, or has no effect, is noted', async (t) => {
  const all = memoryAssignments()
  await all.set('192.0.2.1', 'pro')
  const find = async (consumer: string) => {
    if (consumer === 'bob') throw new Error('the store is away')
    return all.get(consumer)
  }
  const byAddress = snapshotOf(`
tiers: [free, pro]
services: { payments: { upstreams: [http://127.0.0.1:9001] } }
routes: [{ path: /*, service: payments }]
consumers: [{ header: { name: x-id, from: [127.0.0.1/32] } }, { ip: {} }]
`)
  const { call } = await startAdmin(t, {
    config: { ...config, current: () => byAddress },
    assignments: { ...all, find, isWhole: () => false },
  })
  const tierOf = async (id: string) => (await call('GET', `/consumers/${id}/tier`)).json
  t.match(await tierOf('bob'), { tier_from: 'default', tier_notes: [/could not tell whether a tier/] })
  t.match(await tierOf('192.0.2.1'), {
    ...{ assigned: 'pro', tier: 'free', tier_from: 'default' },
    tier_notes: [/which has no effect: there are too many/],
  })
})
