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

interface Figures {
  perSecond(before: number, after: number, ms: number): number
  quantile(bounds: readonly number[], counts: readonly number[], share: number): number | null
  difference(before: readonly number[], after: readonly number[]): number[]
  rate(value: number): string
  milliseconds(value: number | null): string
  range(count: number, error: number): string
  seen(text: string): string
  areas(
    samples: readonly (readonly number[])[],
    most: number,
    width: number,
    height: number,
  ): { paths: string[]; top: number }
}

t.test('the page computes rates, percentiles and differences from figures', async (t) => {
  const file = new URL('../../src/admin/page/figures.js', import.meta.url).href
  const { perSecond, quantile, difference, rate, milliseconds, range, seen, areas } = (await import(
    file
  )) as Figures
  t.equal(perSecond(10, 30, 2000), 10)
  t.equal(perSecond(30, 10, 2000), 5, 'a gateway that began anew')
  t.equal(perSecond(0, 10, 0), 0)
  t.strictSame(difference([], [1, 2]), [1, 2])
  t.strictSame(difference([1, 2], [4, 2]), [3, 0])
  t.equal(quantile([1, 2, 4], [0, 0, 0, 0], 0.5), null)
  t.equal(quantile([1, 2, 4], [10, 10, 0, 0], 0.5), 1)
  t.equal(quantile([1, 2, 4], [10, 0, 10, 0], 0.75), 3)
  t.equal(quantile([1, 2, 4], [1, 0, 0, 99], 0.99), 4, 'above the last bound nothing is known')
  t.strictSame([0, 0.04, 9.96, 12.4, 12_345].map(rate), ['0', '0.0', '10.0', '12', '12,345'])
  t.strictSame([null, 0.05, 12.3, 1500, 20_000].map(milliseconds), ['–', '0.1 ms', '12 ms', '1.5 s', '20 s'])
  t.strictSame([range(1730, 0), range(204, 3)], ['1,730', '201–204'])
  t.equal(seen('<b>\u202e\u0000é'), '<b>\\u{202e}\\u{0}é')
  t.strictSame(areas([], 10, 100, 50).paths, [])
  t.strictSame(areas([[1, 1]], 10, 100, 50).paths, ['', ''], 'a single moment has no line')
  const { paths, top } = areas(
    [
      [1, 0],
      [2, 2],
    ],
    3,
    100,
    40,
  )
  t.equal(top, 4)
  t.strictSame(paths, [
    'M50.0,30.0L100.0,20.0L100.0,40.0L50.0,40.0Z',
    'M50.0,30.0L100.0,0.0L100.0,20.0L50.0,30.0Z',
  ])
})
