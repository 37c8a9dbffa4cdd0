// Tests src/admin/routes/read-request.ts
import { createHash } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import type { Shards } from '../../src/fleet/open-store.js'
import type { ForgettableMap } from '../../src/fleet/replicated-map.js'
import type { UpstreamState } from '../../src/upstream/pool/state.js'
import { accessOf, EXAMPLE, startAdmin } from '../support/gateway/admin.js'
import { snapshotOf } from '../support/gateway/gateway.js'

type Call = Awaited<ReturnType<typeof startAdmin>>['call']

interface Example {
  readonly path: string
  readonly body?: unknown
  readonly action: string
  /** Creates what has to exist before; resolves with the path then. */
  readonly make?: (call: Call) => Promise<string>
}

const BOOST = '/boosts/payments/minute/consumer/alice'
const OVERRIDE = '/overrides/payments/minute/consumer/alice'
const BLOCK = '/bans/203.0.113.0%2F24'
const anyKey = (suffix: string) => async (call: Call) => {
  const made = await call('POST', '/keys', { body: { consumer: 'alice' } })
  return `/keys/${made.json.id}${suffix}`
}

/** One valid request for each endpoint that writes. A new endpoint fails the tests below until it is added here. */
const WRITES: Readonly<Record<string, Example>> = {
  'POST /meter/resend': {
    path: '/meter/resend',
    body: { from: '2026-11-30T08:00Z', to: '2026-11-30T09:00Z' },
    action: 'meter.resend',
  },
  'POST /config/reload': { path: '/config/reload', action: 'config.reload' },
  'PUT /consumers/:id/tier': { path: '/consumers/alice/tier', body: { tier: 'pro' }, action: 'tier.set' },
  'DELETE /consumers/:id/tier': { path: '/consumers/alice/tier', action: 'tier.remove' },
  'DELETE /usage/:service/:consumer': { path: '/usage/payments/alice', action: 'usage.reset' },
  'PUT /upstreams/:service/:address': {
    path: '/upstreams/payments/127.0.0.1:9001',
    body: { state: 'drained' },
    action: 'upstream.drain',
  },
  'PUT /boosts/:service/:limit/:of/:id': { path: BOOST, body: { by: 5, for: '1h' }, action: 'boost.set' },
  'DELETE /boosts/:service/:limit/:of/:id': { path: BOOST, action: 'boost.remove' },
  'PUT /overrides/:service/:limit/:of/:id': { path: OVERRIDE, body: { amount: 50 }, action: 'override.set' },
  'DELETE /overrides/:service/:limit/:of/:id': { path: OVERRIDE, action: 'override.remove' },
  'POST /import': {
    path: '/import',
    body: { rows: [{ consumer: 'alice', tier: 'pro' }] },
    action: 'import.rows',
  },
  'POST /store/accept': { path: '/store/accept', action: 'store.accept' },
  'POST /store/restore': { path: '/store/restore', action: 'store.restore' },
  'POST /store/split': { path: '/store/split', action: 'store.split' },
  'POST /store/join': { path: '/store/join', action: 'store.join' },
  'PUT /bans/:block': { path: BLOCK, body: { for: '1h' }, action: 'ban.set' },
  'DELETE /bans/:block': { path: BLOCK, action: 'ban.remove' },
  'POST /keys': { path: '/keys', body: { consumer: 'alice' }, action: 'key.create' },
  'POST /keys/:id/rotate': {
    path: '/keys/0123456789abcdef/rotate',
    body: {},
    action: 'key.rotate',
    make: anyKey('/rotate'),
  },
  'DELETE /keys/:id': { path: '/keys/0123456789abcdef', action: 'key.revoke', make: anyKey('') },
}
/** A store that forgets again as soon as it is decided. */
const FORGETFUL: ForgettableMap = {
  history: () => ({
    what: 'bans',
    held: 1,
    forgottenAt: 1,
    known: true,
    rollbacks: 1,
    isWhole: true,
  }),
  confirmedAt: () => 1,
  look: async () => FORGETFUL.history(),
  accept: async () => {},
  restore: async () => 1,
}
const SHARDS: Shards = {
  layout: async () => ({ moves: 0, shards: 1, other: undefined }),
  move: async (shards) => ({ shards, moved: true, copied: {} }),
}
const METERING = 'metering: { spool: { path: usage }, to: { file: { path: usage.jsonl } } }'
/** POST endpoints that change nothing. */
const QUESTIONS = ['POST /explain']
/** Endpoints that anybody who reaches the port may read. */
const PUBLIC = ['GET /', 'GET /page/:file', 'GET /healthz', 'GET /readyz', 'GET /jwks.json']

/** Returns `METHOD /path` of every route, as Fastify's router has them. */
function routesOf(app: FastifyInstance): string[] {
  const parents: string[] = []
  return app
    .printRoutes({ commonPrefix: false })
    .split('\n')
    .flatMap((line) => {
      const [, indent, name, methods] = /^([│├└─ ]+)(\S+) \((.+)\)$/.exec(line) ?? []
      if (indent === undefined || name === undefined || methods === undefined) return []
      const depth = indent.length / 4
      const path = (parents[depth - 1] ?? '') + name
      parents[depth] = path
      return methods.split(', ').map((method) => `${method} ${path}`)
    })
}

const isWrite = (route: string) => !/^(GET|HEAD) /.test(route) && !QUESTIONS.includes(route)

async function start(t: Parameters<typeof startAdmin>[0], changes: Parameters<typeof startAdmin>[1] = {}) {
  const drained = { service: 'payments', address: 'http://127.0.0.1:9001', state: 'drained' } as UpstreamState
  const upstreams = { describe: () => [], setState: () => drained }
  const snapshot = snapshotOf(
    `${EXAMPLE.replace('api_key: { keys:', 'api_key: { store: true, keys:')}\n${METERING}`,
  )
  const config = {
    current: () => snapshot,
    status: () => ({}),
    reload: () => Promise.resolve({ result: 'unchanged' as const }),
  }
  const admin = await startAdmin(t, {
    parts: { upstreams },
    config,
    maps: () => [FORGETFUL],
    shards: SHARDS,
    ...changes,
  })
  const routes = routesOf(admin.app)
  const entries = async () => {
    const lines = await admin.deps.audit.stream().read({ since: 0, count: 1000 })
    return lines.map(({ text }) => JSON.parse(text) as { action: string; reason: string })
  }
  /** Builds the example request of a route, with the test's changes. */
  function write(route: string, headers: Record<string, string> = {}, path = WRITES[route]!.path) {
    return admin.call(route.split(' ')[0]!, path, { headers, body: WRITES[route]!.body })
  }
  return { ...admin, routes, writes: routes.filter(isWrite), entries, write }
}

t.test('the table has every endpoint that writes', async (t) => {
  const { routes, writes } = await start(t)
  t.ok(routes.includes('GET /usage/:service/:consumer'), 'the routes were found')
  for (const route of writes) t.ok(WRITES[route], `${route} has an example`)
})

t.test('every endpoint that writes records its change, with the reason', async (t) => {
  const { writes, write, entries, call, logged } = await start(t)
  const secrets: string[] = []
  for (const route of writes) {
    const { path, make, action } = WRITES[route]!
    const made = (await make?.(call)) ?? path
    const before = (await entries()).length
    const { status, headers, json } = await write(route, { 'x-reason': `because ${route}` }, made)
    t.match({ status, audit: headers['x-audit'] }, { status: 200, audit: 'stored' }, route)
    const all = await entries()
    // An import has one entry for each row, and one for all.
    t.equal(all.length, before + (route === 'POST /import' ? 2 : 1), `${route}: its entries`)
    t.match(all[0], { action, reason: `because ${route}` })
    if (json.key !== undefined) secrets.push(json.key)
  }
  const said = JSON.stringify([await entries(), logged])
  t.ok(secrets.length > 0)
  for (const secret of secrets) t.notOk(said.includes(secret), 'a key that was made stands nowhere')
})

t.test('no page of another site can make any endpoint write, or read a response', async (t) => {
  const { port, routes, writes, write, call, entries } = await start(t)
  const own = `http://127.0.0.1:${port}`
  const foreign: Record<string, string>[] = [
    { origin: 'http://evil.example' },
    { origin: 'null' },
    { origin: `${own}.evil.example` },
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
    // Its own name, which has come to lead here: the browser takes it for the same origin.
    {
      host: `evil.example:${port}`,
      origin: `http://evil.example:${port}`,
      'sec-fetch-site': 'same-origin',
    },
  ]
  for (const route of writes) {
    for (const headers of foreign) {
      const { status, headers: answered } = await write(route, headers)
      t.equal(status, 403, `${route} ${JSON.stringify(headers)}`)
      t.notOk(Object.keys(answered).some((name) => name.startsWith('access-control-')))
    }
    if (WRITES[route]!.body === undefined) continue
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x'])
      t.equal(
        (await write(route, { 'content-type': type })).status,
        415,
        `${route} ${type}, as forms send it`,
      )
  }
  t.same(await entries(), [], 'nothing was changed')
  for (const route of routes) {
    const [method = '', path = ''] = route.split(' ')
    if (method !== 'GET') continue
    const rebound = { host: `evil.example:${port}` }
    t.equal((await call(method, path, { headers: rebound })).status, 403, `${route} under another name`)
    if (path !== '/')
      t.equal((await call(method, path, { headers: { 'sec-fetch-site': 'cross-site' } })).status, 403, route)
  }
})

t.test('no response of any endpoint may be framed', async (t) => {
  const { routes, call } = await start(t)
  const open = routes.map((route) => route.split(' ') as [string, string])
  for (const [method, path] of [...open, ['GET', '/nowhere'], ['GET', '/usage/none/x']] as const) {
    const { headers } = await call(method, path)
    t.match(headers, { 'x-frame-options': 'DENY', 'x-content-type-options': 'nosniff' }, `${method} ${path}`)
  }
  t.match((await call('GET', '/')).headers['content-security-policy'], /frame-ancestors 'none'/)
})

t.test('with tokens, a stranger reads only public endpoints, and a viewer writes nothing', async (t) => {
  const token = 'the-token-of-vera'
  const sha256 = createHash('sha256').update(token).digest('hex')
  const access = accessOf({ tokens: [{ name: 'vera', role: 'viewer', sha256 }] })
  const { routes, writes, write, call, entries, logged } = await start(t, { access })
  for (const route of routes) {
    const [method = '', path = ''] = route.split(' ')
    if (method === 'HEAD' || PUBLIC.includes(route)) continue
    t.equal((await call(method, path)).status, 401, route)
  }
  for (const route of writes) {
    const { status, json } = await write(route, { authorization: `Bearer ${token}` })
    t.match(
      { status, json },
      { status: 403, json: { detail: /^This request needs the role (support|operator)/ } },
      route,
    )
  }
  t.same(await entries(), [])
  t.match(
    logged.map(({ fields }) => fields),
    writes.map((route) => ({
      who: 'vera',
      role: 'viewer',
      method: route.split(' ')[0],
      route: route.split(' ')[1],
    })),
    'and the log says who has tried',
  )
})
