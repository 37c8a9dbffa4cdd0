// Tests src/telemetry/decisions/all-gateways-denials.ts
import t from 'tap'
import { LONE_FLEET } from '../../../src/fleet/gateway-rpc.js'
import { createKeyStore } from '../../../src/fleet/keyring.js'
import { createMemoryLastUsed } from '../../../src/fleet/last-used.js'
import { createMemoryMap } from '../../../src/fleet/replicated-map.js'
import {
  createDenialsOfAll,
  DENIALS,
  type Denial,
  MOST_DENIALS,
} from '../../../src/telemetry/decisions/all-gateways-denials.js'
import { createSeenOfAll } from '../../../src/telemetry/decisions/all-gateways-seen.js'
import { createKeptDecisions } from '../../../src/telemetry/decisions/decision-store.js'
import { configOf, EXAMPLE, startAdmin } from '../../support/gateway/admin.js'
import { exampleDecision, exampleRecord, exampleSnapshot } from '../../support/gateway/snapshot.js'
import { scratchFolder } from '../../support/scratch.js'

const snapshot = exampleSnapshot()

/** Decisions of a gateway: each id was denied, a second after the one before. */
function keptOf(ids: readonly string[], consumer = 'alice', from = 1_760_000_000_000) {
  let now = from
  const kept = createKeptDecisions({ keep: 200, now: () => now })
  for (const requestId of ids) {
    now += 1000
    const decision = exampleDecision({ allowed: false, violated: 1, remaining: 0, retryMs: 1200, at: now })
    const denied = { requestId, consumer, status: 429, error: 'quota_exceeded', decision } as const
    kept.keep(exampleRecord(snapshot, { ...denied, upstream: undefined, durationMs: 0 }))
  }
  return kept
}

const numbered = (name: string, count: number) => Array.from({ length: count }, (_, i) => `${name}-${i}`)
const withKeys = (yaml: string) => yaml.replace('api_key: { keys:', 'api_key: { store: true, keys:')

t.test('GET /consumers/{id} tells tier, limits, boosts, overrides, keys and denials at once', async (t) => {
  const { call } = await startAdmin(t, {
    config: configOf(withKeys(EXAMPLE)),
    parts: { decisions: keptOf(['d-1', 'd-2'], 'globex') },
  })
  const reason = { 'x-reason': 'ticket 4711' }
  const key = await call('POST', '/keys', { body: { consumer: 'globex', tier: 'pro', name: 'batch' } })
  await call('PUT', '/boosts/payments/minute/consumer/globex', {
    body: { by: 50, for: '1h' },
    headers: reason,
  })
  await call('PUT', '/overrides/payments/second/consumer/globex', { body: { amount: 7 } })
  await call('PUT', '/consumers/globex/tier', { body: { tier: 'enterprise', for: '2h' } })
  await call('DELETE', '/consumers/globex/tier')
  const { status, json } = await call('GET', '/consumers/globex')
  t.equal(status, 200)
  t.match(json, {
    consumer: 'globex',
    by_address: false,
    tenant: null,
    tier: 'pro',
    tier_from: 'credential',
    identified_by: 'api_key',
    assigned: null,
    until: null,
    tiers: ['free', 'pro', 'enterprise'],
    services: [
      {
        service: 'payments',
        unlimited: false,
        limits: [
          { name: 'second', amount: 7, used: 0, changed: {} },
          { name: 'minute', amount: 150, remaining: 150 },
        ],
      },
      { service: 'marketing', unlimited: false, limits: [{ name: 'minute', amount: 600 }] },
    ],
    services_left_out: 0,
    boosts: [{ consumer: 'globex', service: 'payments', limit: 'minute', by: 50, reason: 'ticket 4711' }],
    overrides: [{ limit: 'second', amount: 7, until: null }],
    keys: [{ id: key.json.id, consumer: 'globex', name: 'batch', state: 'active', last_used: null }],
    more_keys: false,
    bans: [],
    denials: [
      {
        request_id: 'd-2',
        time: '2025-10-09T08:53:22.000Z',
        service: 'payments',
        limit: 'minute',
        status: 429,
        why: /^Denied: the limit "minute" \(10\/min\) of globex/,
        node: LONE_FLEET.node,
      },
      { request_id: 'd-1' },
    ],
    nodes: { answered: 1, silent: [], problem: null },
    hours: null,
    problems: {},
  })
  t.notMatch(JSON.stringify(json), key.json.key.slice(12), 'never a key')
})

t.test('with metering, what a consumer used by hour is told for the last 24 hours', async (t) => {
  const now = Date.now()
  const metering = { hours: async () => ({ hours: [[now - (now % 3_600_000), 7, 14, 2]], since: now }) }
  const { call } = await startAdmin(t, { parts: { metering } })
  const { json } = await call('GET', '/consumers/alice')
  t.equal(json.hours.length, 24)
  t.match(json.hours[23], { requests: 7, cost: 14, denied: 2 })
  t.match(json, { hours_since: new Date(now).toISOString(), hours_nodes: { answered: 1, silent: [] } })
})

t.test('a consumer of whom nothing is known has the default tier and empty lists', async (t) => {
  const { call } = await startAdmin(t)
  const hostile = '../<img src=x>\u202e#%é'
  t.match((await call('GET', `/consumers/${encodeURIComponent(hostile)}`)).json, {
    consumer: hostile,
    tier: 'free',
    tier_from: 'default',
    boosts: [],
    overrides: [],
    keys: [],
    denials: [],
  })
  t.match(await call('GET', `/consumers/${'x'.repeat(1025)}`), {
    status: 400,
    json: { detail: /at most 1024/ },
  })
  t.equal((await call('GET', '/consumers/%ED%A0%80')).status, 400, 'a lone surrogate is not UTF-8')
  t.match(await call('GET', '/consumers/alice?tier=pro'), {
    status: 400,
    json: { detail: /No parameter "tier"/ },
  })
})

t.test('boosts and limits of the tenant are shown, too', async (t) => {
  const config = configOf(
    `${EXAMPLE.replace('free: 10/min,', 'free: [10/min, { amount: 50, window: 1m, by: tenant, name: group }],')}`,
  )
  const { call } = await startAdmin(t, { config })
  await call('PUT', '/boosts/payments/group/tenant/acme-group', { body: { by: 5, for: '1h' } })
  t.match((await call('GET', '/consumers/bob?tenant=acme-group')).json, {
    tenant: 'acme-group',
    services: [{ limits: [{ name: 'minute' }, { name: 'group', by: 'tenant', amount: 55 }] }, {}],
    boosts: [{ tenant: 'acme-group', limit: 'group', by: 5 }],
  })
})

t.test('an address is shown as it is counted, with the bans that hold for it', async (t) => {
  const { call } = await startAdmin(t, {
    config: configOf(EXAMPLE.replace('from: anyone }', 'from: anyone }\n  - ip: {}')),
  })
  await call('PUT', '/bans/2001:db8::%2F48', { body: { reason: 'scraping' } })
  t.match((await call('GET', '/consumers/2001:db8::7')).json, {
    consumer: '2001:db8:0:0::/64',
    by_address: true,
    bans: [{ block: '2001:db8::/48', reason: 'scraping' }],
  })
})

t.test('an address that is metered with all others has no hours of its own', async (t) => {
  const spool = scratchFolder(t, 'spool-')
  const config = (addresses: boolean) =>
    configOf(
      `${EXAMPLE.replace('from: anyone }', 'from: anyone }\n  - ip: {}')}
metering: { addresses: ${addresses}, spool: { path: ${spool} }, to: { http: { url: "http://127.0.0.1:9/" } } }
`,
    )
  const metering = { hours: async () => ({ hours: [], since: 0 }) }
  const one = await startAdmin(t, { config: config(false), parts: { metering } })
  t.match((await one.call('GET', '/consumers/192.0.2.7')).json, {
    by_address: true,
    hours: null,
    hours_nodes: null,
    problems: { hours: 'All addresses are metered as one: see metering.addresses.' },
  })
  t.equal((await one.call('GET', '/consumers/alice')).json.hours.length, 24)
  const each = await startAdmin(t, { config: config(true), parts: { metering } })
  t.equal((await each.call('GET', '/consumers/192.0.2.7')).json.hours.length, 24)
})

t.test('a part that cannot be read is null, and problems says why', async (t) => {
  const away = () => Promise.reject(new Error('away'))
  const keys = createKeyStore((shape) => ({ ...createMemoryMap(shape), ready: away() }), {
    ...createMemoryLastUsed(1),
    read: away,
  })
  const { call } = await startAdmin(t, { keys })
  t.match((await call('GET', '/consumers/alice')).json, {
    tier: 'free',
    services: [{ service: 'payments' }, { service: 'marketing' }],
    keys: null,
    more_keys: false,
    denials: [],
    problems: { keys: /^Could not list the keys: the store is out of reach/ },
  })
})

t.test('a hundred services are shown, and the number of the others', async (t) => {
  const services = numbered('s', 102).map(
    (name) => `  ${name}: { upstreams: [http://127.0.0.1:9001], limits: { free: 10/min } }`,
  )
  const { call } = await startAdmin(t, {
    config: configOf(
      `tiers: [free]\nservices:\n${services.join('\n')}\nroutes: [{ path: /*, service: s-0 }]\n`,
    ),
  })
  const { json } = await call('GET', '/consumers/alice')
  t.equal(json.services.length, 100)
  t.equal(json.services[99].service, 's-99')
  t.equal(json.services_left_out, 2)
})

t.test('denials of all gateways are merged, newest first, at most 20', async (t) => {
  const theirs = DENIALS.answer({ decisions: keptOf(numbered('b', 30), 'alice', 1_760_000_015_500) }, 'alice')
  const [one] = theirs as Denial[]
  const fleet = (answers: readonly unknown[]) => ({
    node: 'a:1',
    ask: async <A>() => ({
      answers: answers.map((answer) => ({ node: 'b:2', member: 'b:2~1', answer: answer as A })),
      silent: ['c:3'],
      problem: undefined,
    }),
  })
  const mine = { decisions: keptOf(numbered('a', 30)) }
  const find = (answers: readonly unknown[]) =>
    createDenialsOfAll(
      () => fleet(answers),
      async (question, body) => question.answer(mine as never, body),
    )('alice')
  const { denials, nodes } = await find([theirs])
  t.equal(denials.length, MOST_DENIALS)
  t.strictSame(
    denials.slice(13, 18).map(({ request_id, node }) => `${request_id} ${node}`),
    ['b-16 b:2', 'b-15 b:2', 'b-14 b:2', 'a-29 a:1', 'b-13 b:2'],
  )
  t.strictSame(nodes, { answered: 2, silent: ['c:3'], problem: null })

  const wrong = [
    null,
    'text',
    { length: 3 },
    [null, 7, {}],
    [{ ...one, why: 'x'.repeat(1001) }],
    [{ ...one, time: 'yesterday' }],
    [{ ...one, limit: 7 }],
  ]
  t.ok(
    (await find(wrong)).denials.every(({ node }) => node === 'a:1'),
    'malformed answers are ignored',
  )
  const flood = (await find([new Array(1000).fill(one)])).denials
  t.equal(flood.length, MOST_DENIALS, 'nor does a flood of them')
})

t.test('a gateway answers questions about consumers only', async (t) => {
  const own = async (consumer: string) =>
    DENIALS.answer({ decisions: keptOf(['d-1']) }, consumer) as readonly Denial[]
  t.match(await DENIALS.forGateways!('alice', own), [{ request_id: 'd-1' }])
  for (const body of ['', 7, null, { consumer: 'alice' }, 'x'.repeat(257)])
    t.equal(await DENIALS.forGateways!(body, own), null)
  const long = 'x'.repeat(1024)
  const find = createDenialsOfAll(
    () => ({ ...LONE_FLEET, node: 'a:1' }),
    async (question, body) => question.answer({ decisions: keptOf(['long'], long) } as never, body),
  )
  t.match((await find(long)).denials, [{ request_id: 'long' }], 'however long the id is')
})

t.test("answers of workers are merged like those of gateways, and a route's long text is cut", async (t) => {
  const [a, b] = [keptOf(numbered('a', 15)), keptOf(numbered('b', 15))].map(
    (decisions) => DENIALS.answer({ decisions }, 'alice') as readonly Denial[],
  )
  t.equal((DENIALS.merge([a!, b!], 'alice') as readonly Denial[]).length, MOST_DENIALS)
  t.strictSame(DENIALS.merge([], 'alice'), [])
})

t.test(
  'however many people look at the page, other gateways are asked ten questions a second at most',
  async (t) => {
    const asked: number[] = []
    const fleet = {
      ...LONE_FLEET,
      async ask<A>() {
        asked.push(performance.now())
        return {
          answers: [] as { node: string; member: string; answer: A }[],
          silent: [],
          problem: undefined,
        }
      },
    }
    const ask = async () => undefined
    const { call } = await startAdmin(t, { fleet, ask, seen: createSeenOfAll(() => fleet, ask) })
    const paths = [
      ...numbered('consumer', 6).map((id) => `/consumers/${id}`),
      ...['limited', 'near', 'cost', 'share'].map((by) => `/top?by=${by}`),
      ...['/history?of=fleet', `/history?of=fleet&since=${new Date().toISOString()}`],
    ]
    const end = performance.now() + 4000
    async function reader(i: number): Promise<void> {
      t.equal((await call('GET', paths[i % paths.length]!)).status, 200)
      if (performance.now() < end) await reader(i)
    }
    await Promise.all(Array.from({ length: 3 * paths.length }, (_, i) => reader(i)))
    t.ok(asked.length > 12, `${asked.length} questions`)
    const seconds = (performance.now() - asked[0]!) / 1000
    t.ok(asked.length / Math.ceil(seconds) <= 10, `${asked.length} questions in ${seconds} s`)
  },
)
