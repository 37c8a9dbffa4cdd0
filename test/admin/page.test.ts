// Tests src/admin/routes/{overview,whoami}.ts
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { LONE_FLEET } from '../../src/fleet/gateway-rpc.js'
import { accessOf, startAdmin } from '../support/gateway/admin.js'

const PAGE = new URL('../../src/admin/page/', import.meta.url)

t.test('the page may run only its own files, and connect only to its own server', async (t) => {
  const { call } = await startAdmin(t)
  const { status, headers, text } = await call('GET', '/')
  t.equal(status, 200)
  t.equal(headers['content-type'], 'text/html; charset=utf-8')
  const policy = new Map(
    String(headers['content-security-policy'])
      .split('; ')
      .map((directive) => directive.split(/ (.*)/s) as [string, string]),
  )
  t.strictSame(Object.fromEntries(policy), {
    'default-src': "'none'",
    'script-src': "'self'",
    'style-src': "'self'",
    'connect-src': "'self'",
    'img-src': 'data:',
    'base-uri': "'none'",
    'form-action': "'none'",
    'frame-ancestors': "'none'",
    'require-trusted-types-for': "'script'",
    'trusted-types': "'none'",
  })
  t.notMatch(text, /\son\w+=|\sstyle=|javascript:|<style/i, 'nothing inline, which would not run')
  t.notMatch(text, /<script(?! type="module" src="page\/main\.js"><\/script>)/)
  for (const [, address] of text.matchAll(/(?:src|href)="([^"#]+)"/g))
    t.notMatch(address, /^\/|^https?:/, 'addresses are relative, so that the page works behind a prefix')
})

t.test('each file of the page is served with its type, and again only when it has changed', async (t) => {
  const { call } = await startAdmin(t)
  const types = { html: 'text/html', js: 'text/javascript', css: 'text/css' }
  const imported = new Set<string>()
  for (const name of readdirSync(PAGE)) {
    const { status, headers, text } = await call('GET', `/page/${name}`)
    t.equal(status, 200, name)
    t.match(headers, {
      'content-type': `${types[name.split('.')[1] as keyof typeof types]}; charset=utf-8`,
      'cache-control': 'no-cache',
      'x-content-type-options': 'nosniff',
    })
    t.equal(text, readFileSync(new URL(name, PAGE), 'utf8'))
    const again = await call('GET', `/page/${name}`, { headers: { 'if-none-match': headers.etag! } })
    t.strictSame([again.status, again.text], [304, ''])
    t.notMatch(text, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function/, name)
    t.notMatch(text, /https?:\/\/(?!www\.w3\.org\/2000\/svg')/, 'nothing comes from elsewhere')
    for (const [, other] of text.matchAll(/ from '\.\/([\w.-]+)'$/gm)) imported.add(other!)
  }
  for (const name of imported) t.ok(readdirSync(PAGE).includes(name), `${name} is there`)
  for (const path of ['/page/', '/page/none.js', '/page/..%2Fserver.js', '/page/%2e%2e%2fdeps.js'])
    t.equal((await call('GET', path)).status, 404, path)
})

t.test('the page itself needs no token and holds no data; its data needs one', async (t) => {
  const { call, port } = await startAdmin(t, { access: accessOf({ token: 'a-token-of-the-operators' }) })
  const asked = { headers: { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' } }
  t.equal((await call('GET', '/')).status, 200)
  t.equal((await call('GET', '/page/main.js')).status, 200)
  t.equal((await call('GET', '/', asked)).status, 200, 'another page may lead to it')
  t.equal((await call('GET', '/page/main.js', asked)).status, 403, 'and not take a part of it')
  for (const path of ['/overview', '/top', '/upstreams', '/config', '/whoami'])
    t.equal((await call('GET', path)).status, 401)
  t.equal((await call('GET', '/overview', asked)).status, 403)
  const open = await startAdmin(t)
  const foreign = { headers: { host: `evil.example:${port}` } }
  for (const path of ['/', '/page/main.js'])
    t.equal((await open.call('GET', path, foreign)).status, 403, 'no other name leads to it without a token')
})

t.test('GET /whoami says whose token it is, and its role', async (t) => {
  const open = await startAdmin(t)
  t.strictSame((await open.call('GET', '/whoami')).json, { who: 'loopback', role: 'operator' })
  const sha256 = createHash('sha256').update('the-token-of-vera').digest('hex')
  const access = accessOf({ tokens: [{ name: 'vera', role: 'viewer', sha256 }] })
  const { call } = await startAdmin(t, { access })
  const headers = { authorization: 'Bearer the-token-of-vera' }
  t.strictSame((await call('GET', '/whoami', { headers })).json, { who: 'vera', role: 'viewer' })
})

t.test('GET /overview tells in one response what the gateway is doing', async (t) => {
  const { call, deps } = await startAdmin(t)
  const { json } = await call('GET', '/overview')
  t.match(json, {
    at: /^\d{4}-/,
    node: LONE_FLEET.node,
    status: 'ready',
    store: 'up',
    reasons: [],
    config: { hash: deps.config.current().hash },
    traffic: { services: [], connections: 0 },
  })
  const traffic = await deps.metrics.traffic()
  const degraded = { ...deps.metrics, traffic: () => ({ ...traffic, degraded: true }) }
  const ready = () => ({ ready: false, reasons: ['shutting down'] })
  const worse = await startAdmin(t, { metrics: degraded, ready })
  t.match((await worse.call('GET', '/overview')).json, {
    status: 'not_ready',
    reasons: ['shutting down'],
    store: 'degraded',
  })
  t.notOk('extensions' in (json as object))
  const extensions = new Map([['fraud', {}]])
  const failed = { ...deps.metrics, traffic: () => ({ ...traffic, extensionErrors: { fraud: 3 } }) }
  const current = { ...deps.config.current(), extensions }
  const extended = await startAdmin(t, {
    metrics: failed,
    config: { ...deps.config, current: () => current },
  })
  t.match((await extended.call('GET', '/overview')).json, { extensions: [{ name: 'fraud', errors: 3 }] })
})

t.test('any number of readers share the counts, and each sees the state as it is', async (t) => {
  let reads = 0
  let reasons = ['starting']
  const { deps } = await startAdmin(t)
  const traffic = await deps.metrics.traffic()
  const metrics = {
    ...deps.metrics,
    traffic() {
      reads++
      return traffic
    },
  }
  const { call } = await startAdmin(t, { metrics, ready: () => ({ ready: true, reasons }) })
  const answers = await Promise.all([1, 2, 3].map(() => call('GET', '/overview')))
  t.equal(reads, 1)
  t.equal(new Set(answers.map(({ json }) => json.at)).size, 1)
  reasons = []
  t.match((await call('GET', '/overview')).json, { reasons: [] })
})

type Slot = { readonly [name: string]: number } | null

interface Figures {
  perSecond(before: number, after: number, ms: number): number
  rate(value: number): string
  milliseconds(value: number | null): string
  range(count: number, error: number): string
  seen(text: string): string
  encoded(text: string): string
  roundTop(value: number): number
  stretches<T>(slots: readonly T[], fits: (slot: T) => boolean): [number, number][]
  areas(slots: readonly (readonly number[] | null)[], count: number, top: number): string[]
  lines(values: readonly (number | null)[], top: number): string
  byMinutes(slots: readonly object[], size: number): readonly Slot[]
}

const figures = (await import(new URL('figures.js', PAGE).href)) as Figures

t.test('the page computes rates and texts from figures', async (t) => {
  const { perSecond, rate, milliseconds, range, seen, encoded } = figures
  t.equal(perSecond(10, 30, 2000), 10)
  t.equal(perSecond(30, 10, 2000), 5, 'a gateway that began anew')
  t.equal(perSecond(0, 10, 0), 0)
  t.strictSame([0, 0.04, 9.96, 12.4, 12_345].map(rate), ['0', '<0.1', '10.0', '12', '12,345'])
  t.strictSame([null, 0.05, 12.3, 1500, 20_000].map(milliseconds), ['–', '0.1 ms', '12 ms', '1.5 s', '20 s'])
  t.strictSame([range(1730, 0), range(204, 3)], ['1,730', '201–204'])
  t.equal(seen('<b>\u202e\u0000é'), '<b>\\u{202e}\\u{0}é')
  t.equal(encoded('a/../%#?\ud800'), 'a%2F..%2F%25%23%3F%EF%BF%BD')
})

t.test('the chart leaves gaps where there are no samples', async (t) => {
  const { areas, lines, roundTop, stretches } = figures
  t.strictSame([0, 0.2, 1, 1.1, 2.5, 99, 101].map(roundTop), [1, 1, 1, 1.2, 3, 100, 120])
  t.strictSame(
    stretches([0, 1, 1, 0, 1], (one) => one > 0),
    [
      [1, 3],
      [4, 5],
    ],
  )
  t.strictSame(areas([null, null], 2, 10), ['', ''])
  t.strictSame(areas([null, [5, 2.5], null], 2, 10), [
    'M1,50.00L1.5,50.00L2,50.00L2,100.00L1.5,100.00L1,100.00Z',
    'M1,25.00L1.5,25.00L2,25.00L2,50.00L1.5,50.00L1,50.00Z',
  ])
  t.equal(lines([0, 10, null, 5], 10), 'M0,100.00L0.5,100.00L1.5,0.00L2,0.00M3,50.00L3.5,50.00L4,50.00')
})

t.test('the table of the chart adds up samples, and says nothing of gaps', async (t) => {
  const sample = (ok: number, p50_ms: number | null) => ({
    responses: { ok, client_error: 0, limited: 1, server_error: 0 },
    shed: 2,
    without_store: 3,
    p50_ms,
    p95_ms: null,
    p99_ms: 9,
  })
  t.match(figures.byMinutes([sample(1, 4), sample(2, null), sample(3, 7), null!, null!, null!], 3), [
    {
      start: 0,
      count: 3,
      responses: { ok: 6, limited: 3 },
      shed: 6,
      without_store: 9,
      p50_ms: 7,
      p95_ms: null,
    },
    { start: 3, count: 0, responses: { ok: 0 }, p99_ms: null },
  ])
})

t.test('the page describes limits and tiers in words', async (t) => {
  const file = new URL('../../src/admin/page/figures.js', import.meta.url).href
  const { quotaText, tierText, decidedText } = (await import(file)) as Record<
    'quotaText' | 'tierText' | 'decidedText',
    (data: unknown) => string
  >
  const limit = { algorithm: 'sliding', by: 'consumer', amount: 1200, window_ms: 60_000 }
  t.equal(quotaText(limit), '1,200 a minute')
  t.equal(quotaText({ ...limit, window_ms: 3_600_000 }), '1,200 an hour')
  t.equal(quotaText({ ...limit, window_ms: 90_000, by: 'ip' }), '1,200 in 90 seconds, by address')
  t.equal(
    quotaText({ ...limit, algorithm: 'token_bucket', burst: 20, window_ms: 1000 }),
    '1,200 a second, 20 at once',
  )
  t.equal(quotaText({ algorithm: 'concurrency', by: 'tenant', amount: 5 }), '5 at once, by tenant')
  t.equal(
    quotaText({ ...limit, algorithm: 'calendar', period: 'day', time_zone: 'UTC' }),
    '1,200 a day in UTC',
  )
  t.equal(
    quotaText({ ...limit, by: 'tenant', share_of: 'group' }),
    '1,200 a minute, for each consumer of a tenant',
  )
  const tiers = [
    { tier_from: 'default' },
    { tier_from: 'assignment' },
    { tier_from: 'credential', identified_by: 'api_key' },
    { tier_from: 'credential', identified_by: null },
    { tier_from: 'source:crm', tier_stale: true },
    { tier_from: null },
  ]
  t.strictSame(tiers.map(tierText), [
    'the default',
    'assigned by an operator',
    'from its API key',
    'from its credential',
    'from the tier source crm, whose answer is older than its ttl',
    '',
  ])
  t.strictSame(['store', 'open', 'new'].map(decidedText), [
    'by the store',
    'without counting: the store was away',
    'new',
  ])
})
