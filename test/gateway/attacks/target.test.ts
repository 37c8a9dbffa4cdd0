// Tests src/gateway/exchange/authority.ts
import fc from 'fast-check'
import t from 'tap'
import type { Route } from '../../../src/config/snapshot/snapshot.js'
import { upstreamPath } from '../../../src/gateway/forward/upstream-request.js'
import { matchRoute } from '../../../src/gateway/stages/route.js'
import { exchangeFor } from '../../support/gateway/exchange.js'
import { snapshotOf } from '../../support/gateway/gateway.js'
import { expectRefused, problemOf, type Site, startSite } from '../../support/gateway/site.js'
import { rawExchange } from '../../support/http/raw.js'
import { readings } from '../../support/http/readings.js'

/**
 * However a path is spelled, it is refused, or the gateway charges the route of the path that the upstream got, even under looser
 * readings than HTTP allows.
 */

const SITE = `
tiers: [free]
services:
  payments: { upstreams: [PAYMENTS], limits: { free: 1000000/s } }
  marketing: { upstreams: [MARKETING], limits: { free: 1000000/s } }
routes:
  - { path: /payments/*, service: payments, strip_prefix: /payments }
  - { path: /payments/refunds, service: payments, strip_prefix: /payments, cost: 5 }
  - { path: /payments/accounts/:id/close, service: payments, strip_prefix: /payments, cost: 7 }
  - { path: "/payments/users/@me:all", service: payments, strip_prefix: /payments, cost: 9 }
  - { path: /marketing/*, service: marketing }
`

function get(target: string, host = 'gateway.example'): string {
  return `GET ${target} HTTP/1.1\r\nHost: ${host}\r\n\r\n`
}

/**
 * Sends one target.
 *
 * @returns `refused`, `right`, or what is wrong
 */
async function verdict(site: Site, target: string, host?: string): Promise<string> {
  const { gateway } = site
  const received = site.received()
  const recorded = gateway.records.length
  const { responses } = await rawExchange(gateway.port, get(target, host))
  await gateway.recorded(recorded + 1)
  const { route, status } = gateway.records.at(-1)!
  if (status !== 200) {
    if (status !== 400 && status !== 404 && status !== 414) return `an answer of ${status}`
    if (site.received() !== received) return 'refused, and yet something reached an upstream'
    const { error } = gateway.records.at(-1)!
    return problemOf(responses[0]!).code === error ? 'refused' : `answered, but recorded as ${error}`
  }
  if (site.received() !== received + 1) return 'not one request reached an upstream'
  const upstream = route!.service.name === 'payments' ? site.payments : site.marketing
  return complaint(gateway.snapshot().match, route!, upstream.received.at(-1)!.url)
}

type Match = ReturnType<typeof snapshotOf>['match']

/** Returns what is wrong with the charged route, under any reading of the path that the upstream got. */
function complaint(match: Match, charged: Route, url: string): string {
  for (const reading of readings(url.split('?', 1)[0]!)) {
    const asRouted = charged.stripPrefix + reading
    const route = match('GET', '', asRouted)
    if (route === undefined || isMethods(route)) continue
    if (route.service === charged.service && route.cost <= charged.cost) continue
    return `${charged.label} was charged, the upstream got ${url}, which can be read as ${asRouted}`
  }
  return 'right'
}

function isMethods(found: object): found is readonly string[] {
  return Array.isArray(found)
}

/** Expensive paths, and spellings that must not make them cheap. */
const spellings = [
  '/payments/refunds',
  '/payments/refunds/',
  '/payments/refunds//',
  '//payments//refunds',
  '/payments/%72efunds',
  '/payments/%52efunds',
  '/%70ayments/refunds',
  '/payments/refund%73',
  '/payments/refund%2573',
  '/payments/refund%25%37%33',
  '/payments/refund%25%373',
  '/payments/refund%252573',
  '/payments%2frefunds',
  '/payments%2Frefunds',
  '/payments%252frefunds',
  '/payments%5crefunds',
  '/payments\\refunds',
  '/payments/.%2frefunds',
  '/payments/./refunds',
  '/payments/x/../refunds',
  '/payments/x/%2e%2e/refunds',
  '/payments/x/%2e%2E/refunds',
  '/payments/x/.%2e/refunds',
  '/payments/x/..%2frefunds',
  '/payments/x/..%5crefunds',
  '/payments/x%2f..%2frefunds',
  '/payments/x/%252e%252e/refunds',
  '/payments/x/..;/refunds',
  '/payments/x/..;a=b/refunds',
  '/payments/x/..%3b/refunds',
  '/payments/refunds;',
  '/payments/refunds;jsessionid=1',
  '/payments/refunds%3b',
  '/payments/refunds%3Bx',
  '/payments;x/refunds',
  '/payments/;/refunds',
  '/payments/;x=1/refunds',
  '/payments/refunds%00',
  '/payments/refunds%0a',
  '/payments/refunds%20',
  '/payments/refunds%23',
  '/payments/refunds%3f',
  '/payments/refunds%23x',
  '/payments/refunds%3Fx',
  '/payments/accounts/1/close%3f',
  '/payments/refunds#x',
  '/payments/refunds?x',
  '/payments/refunds?',
  '/payments/refunds%',
  '/payments/refunds%7',
  '/payments/refunds%zz',
  '/payments/%u0072efunds',
  '/payments/%c1%b2efunds',
  '/payments/accounts/1/close',
  '/payments/accounts/1%2f2/close',
  '/payments/accounts/1/2/../close',
  '/payments/accounts/1/clos%65',
  '/payments/accounts/1//close',
  '/payments/accounts/%252f/close',
  '/payments/users/@me:all',
  '/payments/users/%40me:all',
  '/payments/users/%40me%3Aall',
  '/payments/users/%40me%3aall',
  '/payments/users/%2540me:all',
  '/payments/users/@%6de%3aall',
  '/marketing/../payments/refunds',
  '/marketing/..%2fpayments/refunds',
  '/marketing/%2e%2e/payments/refunds',
  '/marketing/..;/payments/refunds',
  '/marketing/..\\payments\\refunds',
  '/marketing%2f..%2fpayments%2frefunds',
  '/marketing/%252e%252e/payments/refunds',
  '//evil.example/payments/refunds',
  '///evil.example/payments/refunds',
  '/\\evil.example/payments/refunds',
  '/payments//evil.example/refunds',
  '/payments/http://evil.example/refunds',
  'http://gateway.example/payments/refunds',
  'http://gateway.example/payments/%72efunds',
  'http://gateway.example//payments/refunds',
  'http://gateway.example/payments/../marketing',
  'http://gateway.example\\payments/refunds',
  'http://gateway.example/payments%2frefunds',
  'http://evil.example/payments/refunds',
  'http://gateway.example@evil.example/payments/refunds',
  'http://evil.example@gateway.example/payments/refunds',
  'http:///payments/refunds',
  'https://gateway.example/payments/refunds',
]

t.test('no spelling of a path reaches it around its own route', async (t) => {
  const site = await startSite(t, SITE)
  for (const target of spellings) {
    t.match(await verdict(site, target), /^(refused|right)$/, target)
  }
  const { records, logged } = site.gateway
  t.equal(records.length, spellings.length, 'each is recorded once')
  t.same(logged, [])
})

t.test('plain and needlessly escaped forms of a path pass, at its cost', async (t) => {
  const site = await startSite(t, SITE)
  const costs = [
    ['/payments/refunds', 5, '/refunds'],
    ['/payments/refunds/', 5, '/refunds/'],
    ['//payments//refunds', 5, '/refunds'],
    ['/%70ayments/%72efund%73?a=%2f..;b', 5, '/refunds?a=%2f..;b'],
    ['/payments/users/%40me%3aall', 9, '/users/%40me%3Aall'],
    ['/payments/accounts/%2d/close', 7, '/accounts/-/close'],
    ['http://gateway.example/payments/refunds?x', 5, '/refunds?x'],
    ['/payments/Refunds', 1, '/Refunds'],
    ['/payments/refunds%20', 1, '/refunds%20'],
    ['/payments/why%3F', 1, '/why%3F'],
    ['/payments/c%23/x', 1, '/c%23/x'],
    ['/payments/refund%3Fs', 1, '/refund%3Fs'],
    ['/payments/caf%c3%a9', 1, '/caf%C3%A9'],
    ['/payments', 1, '/'],
    ['//payments?', 1, '/?'],
  ] as const
  for (const [target, cost, url] of costs) {
    const before = site.gateway.records.length
    await rawExchange(site.gateway.port, get(target))
    await site.gateway.recorded(before + 1)
    t.match(site.gateway.records.at(-1), { status: 200, route: { cost } }, target)
    t.equal(site.payments.received.at(-1)!.url, url, target)
  }
})

/** Ways to bend a path: each changes a text at some place. */
const hex = (text: string, at: number) => text.charCodeAt(at).toString(16).padStart(2, '0')
const bends: readonly ((text: string, at: number) => string)[] = [
  (text, at) => `${text.slice(0, at)}%${hex(text, at)}${text.slice(at + 1)}`,
  (text, at) => `${text.slice(0, at)}%${hex(text, at).toUpperCase()}${text.slice(at + 1)}`,
  (text, at) => `${text.slice(0, at)}%25${hex(text, at)}${text.slice(at + 1)}`,
  (text, at) => `${text.slice(0, at)}/${text.slice(at)}`,
  (text, at) => `${text.slice(0, at)}/./${text.slice(at)}`,
  (text, at) => `${text.slice(0, at)}/x/../${text.slice(at)}`,
  (text, at) => `${text.slice(0, at)}/x/%2e%2E/${text.slice(at)}`,
  (text, at) => `${text.slice(0, at)}/..;/${text.slice(at)}`,
  (text, at) => `${text.slice(0, at)};x=y${text.slice(at)}`,
  (text, at) => `${text.slice(0, at)}%3b${text.slice(at)}`,
  (text, at) => `${text.slice(0, at)}%00${text.slice(at)}`,
  (text, at) => `${text.slice(0, at)}%20${text.slice(at)}`,
  (text, at) => `${text.slice(0, at)}%3f${text.slice(at)}`,
  (text, at) => `${text.slice(0, at)}%23${text.slice(at)}`,
  (text, at) => text.slice(0, at) + text.slice(at).replace('/', '\\'),
  (text, at) => text.slice(0, at) + text.slice(at).replace('/', '%2f'),
  (text, at) => text.slice(0, at) + text.slice(at).replace('/', '%5C'),
  (text, at) => text.slice(0, at) + text.slice(at).replace('/', '%252F'),
  (text, at) => text.slice(0, at) + text.slice(at).replace('%', '%25'),
  (text, at) => text.slice(0, at) + text.slice(at + 1),
  (text) => `${text}/`,
  (text) => `${text}?q=/../x`,
  (text) => `//evil.example${text}`,
  (text) => `/marketing/..${text}`,
]

const bentPath = fc
  .tuple(
    fc.constantFrom(
      '/payments/refunds',
      '/payments/accounts/7/close',
      '/payments/users/@me:all',
      '/marketing/x',
    ),
    fc.array(fc.tuple(fc.nat(bends.length - 1), fc.nat(1_000)), { minLength: 1, maxLength: 4 }),
  )
  .map(([path, steps]) =>
    steps.reduce<string>((text, [bend, at]) => bends[bend]!(text, at % (text.length || 1)), path),
  )

t.test('matchRoute charges the right route for any randomly bent path', async (t) => {
  const snapshot = snapshotOf(
    SITE.replace('PAYMENTS', 'http://127.0.0.1:1').replace('MARKETING', 'http://127.0.0.1:2'),
  )
  let passed = 0
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(bentPath, (target) => {
        const x = exchangeFor(snapshot, { target })
        if (matchRoute(x) !== undefined) return
        passed++
        const wrong = complaint(snapshot.match, x.route!, upstreamPath(x, x.route!.service.upstreams[0]!))
        if (wrong !== 'right') throw new Error(`${target}: ${wrong}`)
      }),
      { numRuns: 20_000 },
    ),
  )
  t.ok(passed > 2_000, `${passed} of 20,000 were not refused`)
})

t.test('the gateway charges the right route for any randomly bent path on the wire', async (t) => {
  const site = await startSite(t, SITE)
  const absolute = fc.boolean()
  await t.resolves(
    fc.assert(
      fc.asyncProperty(bentPath, absolute, async (path, inFull) => {
        const target = inFull ? `http://gateway.example${path}` : path
        const found = await verdict(site, target)
        if (found !== 'refused' && found !== 'right') throw new Error(`${target}: ${found}`)
      }),
      { numRuns: 400 },
    ),
  )
  t.same(site.gateway.logged, [])
})

t.test('a target never chooses the upstream', async (t) => {
  const site = await startSite(t, SITE)
  const { port } = new URL(site.marketing.origin)
  for (const target of [
    `//127.0.0.1:${port}/payments/x`,
    `/payments//127.0.0.1:${port}/x`,
    `/payments/http://127.0.0.1:${port}/x`,
    `/payments/@127.0.0.1:${port}/x`,
    `http://127.0.0.1:${port}/payments/x`,
    `http://gateway.example@127.0.0.1:${port}/payments/x`,
  ]) {
    t.match(await verdict(site, target), /^(refused|right)$/, target)
    t.match(await verdict(site, target, `127.0.0.1:${port}`), /^(refused|right)$/, target)
  }
  t.same(site.marketing.received, [])
})

t.test('a request needs exactly one valid Host, equal to that of an absolute target', async (t) => {
  const site = await startSite(t, SITE)
  const bad = { status: 400, code: 'bad_host' } as const
  const withHost = (fields: string, target = '/payments/x') => `GET ${target} HTTP/1.1\r\n${fields}\r\n`
  await expectRefused(t, site, 'none', withHost(''), bad)
  await expectRefused(
    t,
    site,
    'none, and an absolute target',
    withHost('', 'http://gateway.example/payments/x'),
    bad,
  )
  await expectRefused(t, site, 'twice', withHost('Host: a.example\r\nHost: b.example\r\n'), bad)
  await expectRefused(t, site, 'twice the same', withHost('Host: a.example\r\nhost: a.example\r\n'), bad)
  await expectRefused(t, site, 'empty', withHost('Host:\r\n'), bad)
  for (const host of [
    'a b',
    'a b/c@d',
    'a@b',
    'a/b',
    'a,b',
    'a:b:c',
    'a\\b',
    '[a]',
    'a:1x',
    '%61',
    'a?b',
    'a#b',
    'a..',
    'a..b',
    '.a',
    'a.b..',
    'a:99999',
    'a:65536',
    '[::::]',
    '[1.2.3.4]',
    '[::1]:70000',
    'a'.repeat(255),
  ]) {
    await expectRefused(t, site, host, withHost(`Host: ${host}\r\n`), bad)
  }
  const other = withHost('Host: a.example\r\n', 'http://b.example/payments/x')
  await expectRefused(t, site, 'another than in the target', other, bad)
})

t.test('a target without a path is refused', async (t) => {
  const site = await startSite(t, SITE)
  const bad = { status: 400, code: 'bad_target' } as const
  await expectRefused(t, site, 'GET *', get('*'), bad)
  await expectRefused(t, site, 'ftp', get('ftp://gateway.example/payments/x'), bad)
})

t.test('CONNECT and TRACE are 405; CONNECT also closes, as the following bytes are unknown', async (t) => {
  const site = await startSite(t, SITE)
  const connect = 'CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n'
  const refused = { status: 405, code: 'method_not_allowed' } as const
  const { record, response } = await expectRefused(t, site, 'CONNECT', `${connect}SSH-2.0-x\r\n`, refused)
  t.match(record, { method: 'CONNECT', target: '127.0.0.1:22' })
  t.equal(response.header('allow'), '')
  const { responses } = await rawExchange(site.gateway.port, get('/payments/x').replace('GET', 'TRACE'))
  t.match(responses, [{ status: 405 }])
  t.equal(responses[0]!.header('allow'), '')
  t.equal(site.received(), 0)
})

t.test('a target that is too long is 414, whether it ends or not', async (t) => {
  const site = await startSite(t, SITE)
  const long = { status: 414, code: 'uri_too_long' } as const
  await expectRefused(t, site, '8,193 characters', get('/payments/'.padEnd(8_193, 'a')), long)
  await expectRefused(t, site, 'more than the header may be', get('/payments/'.padEnd(17_000, 'a')), long)
  await expectRefused(t, site, 'and no end of it', `GET /payments/${'a'.repeat(20_000)}`, long)
  const { responses } = await rawExchange(site.gateway.port, get('/payments/'.padEnd(8_192, 'a')))
  t.match(responses, [{ status: 200 }])
})
