import t, { type Test } from 'tap'
import type { Layout } from '../../../src/fleet/layout.js'
import type { Shards } from '../../../src/fleet/open-store.js'
import { type ForgettableMap, type MapHistory, MapRefusal } from '../../../src/fleet/replicated-map.js'
import { accessOf, NOW, startAdmin } from '../../support/gateway/admin.js'

interface TestMap extends ForgettableMap {
  readonly did: string[]
}

/** A map whose store has forgotten; `known`: this gateway still knows the contents. */
function forgotten(what: string, known = true): TestMap {
  const did: string[] = []
  let history: MapHistory = {
    what,
    held: 3,
    forgottenAt: NOW,
    known,
    rollbacks: 1,
    isWhole: true,
  }
  const decide = (held: number) => {
    history = { ...history, held, forgottenAt: undefined, known: true }
  }
  return {
    did,
    history: () => history,
    confirmedAt: () => NOW,
    look: async () => history,
    async accept() {
      did.push('accept')
      decide(1)
    },
    async restore() {
      did.push('restore')
      if (!known) return undefined
      decide(3)
      return 3
    },
  }
}

function kept(what: string): TestMap {
  const history = {
    what,
    held: 2,
    forgottenAt: undefined,
    known: true,
    rollbacks: 0,
    isWhole: true,
  }
  const not = () => Promise.reject(new Error('nobody has asked for it'))
  return {
    did: [],
    history: () => history,
    confirmedAt: () => NOW,
    look: async () => history,
    accept: not,
    restore: not,
  }
}

const start = (t: Test, ...maps: ForgettableMap[]) => startAdmin(t, { maps: () => maps })
const SINCE = new Date(NOW).toISOString()

t.test('GET /store shows what is kept, forgotten and lost', async (t) => {
  const { call } = await start(t, kept('bans'), forgotten('API keys'), forgotten('tier assignments', false))
  const { status, json } = await call('GET', '/store')
  t.equal(status, 200)
  t.strictSame(json, {
    records: [
      { records: 'bans', state: 'kept', held: 2, whole: true, since: null },
      { records: 'API keys', state: 'forgotten', held: 3, whole: true, since: SINCE },
      { records: 'tier assignments', state: 'lost', held: 3, whole: true, since: SINCE },
    ],
  })
  t.strictSame((await (await startAdmin(t)).call('GET', '/store')).json, { records: [] }, 'without Redis')
})

t.test('POST /store/restore and /store/accept end the open question, and are recorded', async (t) => {
  for (const [action, held] of [
    ['restore', 3],
    ['accept', 1],
  ] as const) {
    const [keys, bans] = [forgotten('API keys'), kept('bans')]
    const { call } = await start(t, keys, bans)
    const { status, json, headers } = await call('POST', `/store/${action}`, {
      headers: { 'x-reason': 'incident 7' },
    })
    t.equal(status, 200)
    t.equal(headers['x-audit'], 'stored')
    t.strictSame(json.records[0], { records: 'API keys', state: 'kept', held, whole: true, since: null })
    t.strictSame(keys.did, [action])
    const { json: audit } = await call('GET', '/audit')
    t.match(audit.entries, [
      {
        action: `store.${action}`,
        target: 'store',
        before: [{ records: 'API keys', state: 'forgotten', held: 3, whole: true, since: SINCE }],
        after: { 'API keys': held },
        reason: 'incident 7',
      },
    ])
    const again = await call('POST', `/store/${action}`)
    t.match(again, { status: 422, json: { code: 'unprocessable', detail: /has forgotten nothing/ } })
  }
})

t.test('records that no gateway knows are not restored, and the response says so', async (t) => {
  const lost = forgotten('API keys', false)
  const { call } = await start(t, lost)
  const { status, json } = await call('POST', '/store/restore')
  t.equal(status, 422)
  t.match(
    json.detail,
    'No gateway still has what the store has forgotten (API keys). Accept what the store has',
  )
  t.equal((await call('POST', '/store/accept')).status, 200)

  const both = await start(t, forgotten('API keys', false), forgotten('bans'))
  const partly = await both.call('POST', '/store/restore')
  t.match(partly.json.records, [{ state: 'lost' }, { state: 'kept' }])
})

t.test('POST /store/split and /store/join move the records, once, and are recorded', async (t) => {
  let layout: Layout = { moves: 0, shards: 1, other: undefined }
  const asked: number[] = []
  const shards: Shards = {
    layout: async () => layout,
    async move(target) {
      asked.push(target)
      const moved = layout.shards !== target
      layout = { moves: layout.moves + 3, shards: target, other: undefined }
      return { shards: target, moved, copied: moved ? { 'tier assignments': 5 } : {} }
    },
  }
  const { call } = await startAdmin(t, { maps: () => [kept('bans')], shards })
  t.match((await call('GET', '/store')).json, { shards: 1, moving: false })
  const split = await call('POST', '/store/split')
  t.match(split, { status: 200, json: { shards: 64, moving: false, copied: { 'tier assignments': 5 } } })
  t.match(await call('POST', '/store/split'), { status: 200, json: { shards: 64, copied: {} } })
  t.equal((await call('POST', '/store/join')).json.shards, 1)
  t.same(asked, [64, 64, 1])
  const { json: audit } = await call('GET', '/audit')
  t.match(audit.entries, [
    { action: 'store.join' },
    {
      action: 'store.split',
      target: 'store',
      before: { shards: 1 },
      after: { shards: 64, copied: { 'tier assignments': 5 } },
    },
  ])
  layout = { moves: 9, shards: 1, other: 64 }
  t.match((await call('GET', '/store')).json, { shards: 1, moving: true })
})

t.test('a move that cannot be done says why', async (t) => {
  const reason = new MapRefusal('another operator is doing that; if not, try again in 30 s')
  const shards: Shards = {
    layout: async () => ({ moves: 0, shards: 1, other: undefined }),
    move: () => Promise.reject(reason),
  }
  t.match(await (await startAdmin(t, { shards })).call('POST', '/store/split'), {
    status: 422,
    json: { detail: 'Could not split the store: another operator is doing that; if not, try again in 30 s.' },
  })
  t.match(await (await startAdmin(t)).call('POST', '/store/join'), {
    status: 422,
    json: { detail: 'The gateway has no Redis, so there is nothing to split or join.' },
  })
})

t.test('both take an operator, and a store', async (t) => {
  const access = accessOf({
    tokens: [
      {
        name: 'sue',
        role: 'support',
        sha256: '2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b',
      },
    ],
  })
  const { call } = await startAdmin(t, { maps: () => [forgotten('API keys')], access })
  const headers = { authorization: 'Bearer secret' }
  t.equal((await call('GET', '/store', { headers })).status, 200)
  for (const action of ['accept', 'restore', 'split', 'join']) {
    t.match(await call('POST', `/store/${action}`, { headers }), {
      status: 403,
      json: { detail: /role operator/ },
    })
  }
  const away = { ...forgotten('API keys'), look: () => Promise.reject(new Error('no connection')) }
  const down = await start(t, away)
  for (const [method, path] of [
    ['GET', '/store'],
    ['POST', '/store/accept'],
    ['POST', '/store/restore'],
  ] as const) {
    t.match(await down.call(method, path), { status: 503, json: { code: 'store_unavailable' } }, path)
  }
})
