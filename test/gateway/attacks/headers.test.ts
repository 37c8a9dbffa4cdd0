import { createHash } from 'node:crypto'
import t from 'tap'
import { expectRefused, type Site, startSite } from '../../support/gateway/site.js'
import { rawExchange } from '../../support/http/raw.js'
import type { Received } from '../../support/http/upstream.js'

/**
 * Tests what an upstream may believe of a header: identity and origin only if the gateway verified them. Tests check what the
 * upstream received.
 */

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

const SITE = `
tiers: [free, pro]
consumers:
  - api_key: { header: x-api-key, keys: [{ sha256: ${sha256('key-of-acme')}, consumer: acme, tier: pro }] }
  - header: { name: x-user-id, from: anyone }
  - ip: {}
services:
  payments: { upstreams: [PAYMENTS], limits: { free: 100000/s, pro: 100000/s } }
routes:
  - { path: /*, service: payments }
  - { path: /own-host, service: payments, preserve_host: true }
`
const BEHIND_PROXY = `${SITE}\ntrusted_proxies: [127.0.0.1]`
const BAD = { status: 400, code: 'bad_header' } as const

function get(...fields: readonly string[]): string {
  return ['GET /x HTTP/1.1', 'Host: gateway.example', ...fields, '', ''].join('\r\n')
}

/** Sends a request that passes, and returns what the upstream got. */
async function passed(site: Site, bytes: string): Promise<Received> {
  const { responses } = await rawExchange(site.gateway.port, bytes)
  if (responses[0]?.status !== 200) throw new Error(responses[0]?.head)
  return site.payments.received.at(-1)!
}

/** Returns the lower-case names of all fields that arrived. */
function names({ rawHeaders }: Received): string[] {
  return rawHeaders.filter((_, i) => i % 2 === 0).map((name) => name.toLowerCase())
}

t.test('an identity is forwarded only if the gateway verified it', async (t) => {
  const site = await startSite(t, SITE)
  const byKey = await passed(site, get('X-Api-Key: key-of-acme', 'X-User-Id: mallory'))
  t.same(byKey.values('x-api-key'), ['key-of-acme'])
  t.same(byKey.values('x-user-id'), [], 'the key identifies; the id is not read')
  t.match(site.gateway.records.at(-1), { consumer: 'acme', tier: 1 })

  const byHeader = await passed(site, get('X-User-Id: alice'))
  t.same(byHeader.values('x-user-id'), ['alice'])
  t.match(site.gateway.records.at(-1), { consumer: 'alice', tier: 0 })

  const byAddress = await passed(site, get())
  t.same(
    names(byAddress).filter((name) => /user|key/.test(name)),
    [],
  )
  t.match(site.gateway.records.at(-1), { consumer: '127.0.0.1', clientIp: '127.0.0.1' })
})

t.test('field names that a backend could read as an identity or an origin are dropped', async (t) => {
  const site = await startSite(t, SITE)
  const twins = [
    'x_user_id',
    'X_User-Id',
    'x-user_id',
    'x_api_key',
    'X_FORWARDED_FOR',
    'x-forwarded_for',
    'x_real_ip',
    'x.user.id',
    'X~User+Id',
    "x!user'id",
    'x-api.key',
    'X-Consumer.Id',
    'x.forwarded.for',
    'client.cert',
  ]
  const framing = [
    'content_length',
    'transfer_encoding',
    'x_request_id',
    'x_http_method_override',
    'x_forwarded_anything',
  ]
  const fields = [...twins, ...framing].map((name) => `${name}: mallory`)
  const got = await passed(
    site,
    get('X-User-Id: alice', ...fields, 'my_own_field: stays', 'my.own.field: stays'),
  )
  t.same(got.values('x-user-id'), ['alice'])
  t.same(
    got.rawHeaders.filter((text) => text === 'mallory'),
    [],
  )
  t.same(got.values('my_own_field'), ['stays'])
  t.same(got.values('my.own.field'), ['stays'])
})

t.test('a repeated identity header is 400', async (t) => {
  const site = await startSite(t, SITE)
  await expectRefused(t, site, 'two ids', get('X-User-Id: alice', 'x-user-id: bob'), BAD)
  await expectRefused(t, site, 'the same id twice', get('X-User-Id: alice', 'X-User-Id: alice'), BAD)
  await expectRefused(t, site, 'two keys', get('X-Api-Key: key-of-acme', 'x-api-key: key-of-acme'), BAD)
})

t.test('a bad key is 401, and no other credential is tried', async (t) => {
  const site = await startSite(t, SITE)
  const { responses } = await rawExchange(site.gateway.port, get('X-Api-Key: wrong', 'X-User-Id: alice'))
  t.match(responses, [{ status: 401 }])
  t.equal(responses[0]!.header('www-authenticate'), 'ApiKey realm="tidegate"')
  t.notMatch(responses[0]!.body, /wrong"/)
  t.same(site.payments.received, [])
  t.match(site.gateway.records, [{ status: 401, error: 'unauthorized', consumer: undefined, tier: -1 }])
})

t.test('Connection cannot name a field that tells who the client is or where it comes from', async (t) => {
  for (const yaml of [SITE, BEHIND_PROXY]) {
    const site = await startSite(t, yaml)
    for (const name of [
      'x-user-id',
      'X-User-ID',
      'x-api-key',
      'x-forwarded-for',
      'X-Forwarded-Host',
      'forwarded',
      'x-real-ip',
    ]) {
      for (const value of [name, `close, ${name}`, `keep-alive,${name} ,te`]) {
        await expectRefused(t, site, value, get('X-User-Id: alice', `Connection: ${value}`), BAD)
      }
    }
    const apart = get('X-User-Id: alice', 'Connection: keep-alive', 'Connection: x-user-id')
    await expectRefused(t, site, 'in a second field', apart, BAD)
  }
})

t.test('hop-by-hop fields are dropped, including those that Connection names', async (t) => {
  const site = await startSite(t, SITE)
  const got = await passed(
    site,
    get(
      'Connection: keep-alive, X-Hop ,x-other',
      'X-Hop: 1',
      'x-OTHER: 2',
      'Keep-Alive: timeout=5',
      'Proxy-Connection: keep-alive',
      'Proxy-Authorization: Basic eDp5',
      'TE: trailers',
      'Upgrade: h2c',
      'HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA',
      'Authorization: Bearer stays',
      'X-End: stays',
    ),
  )
  const gone = [
    'x-hop',
    'x-other',
    'keep-alive',
    'proxy-connection',
    'proxy-authorization',
    'te',
    'upgrade',
    'http2-settings',
  ]
  t.same(
    names(got).filter((name) => gone.includes(name)),
    [],
  )
  t.same(got.values('authorization'), ['Bearer stays'])
  t.same(got.values('x-end'), ['stays'])
})

t.test('fields that ask a backend for another path or method are dropped', async (t) => {
  const site = await startSite(t, SITE)
  const asking = [
    'X-Original-URL',
    'X-Rewrite-URL',
    'X-HTTP-Method-Override',
    'X-HTTP-Method',
    'X-Method-Override',
  ]
  const got = await passed(site, get(...asking.map((name) => `${name}: /refunds`)))
  t.match(got, { method: 'GET', url: '/x' })
  t.notOk(got.rawHeaders.includes('/refunds'))
})

t.test('forwarding fields are written anew, unless a trusted proxy sent them', async (t) => {
  const claims = [
    'X-Forwarded-For: 1.1.1.1, 198.51.100.1',
    'X-Forwarded-Proto: https',
    'X-Forwarded-Host: shop.example',
    'X-Forwarded-Port: 443',
    'X-Forwarded-Prefix: /shop',
    'Forwarded: for=198.51.100.1',
    'X-Real-IP: 198.51.100.1',
    'Client-Cert: :MIIB:',
    'X-SSL-Client-Verify: SUCCESS',
  ]
  const site = await startSite(t, SITE)
  const stranger = await passed(site, get(...claims))
  const origin = ({ values }: Received) =>
    [
      'x-forwarded-for',
      'x-forwarded-proto',
      'x-forwarded-host',
      'x-forwarded-port',
      'x-forwarded-prefix',
      'forwarded',
      'x-real-ip',
      'client-cert',
      'x-ssl-client-verify',
    ].map((name) => values(name).join(' | '))
  t.same(origin(stranger), ['127.0.0.1', 'http', 'gateway.example', '', '', '', '', '', ''])
  t.match(site.gateway.records.at(-1), { consumer: '127.0.0.1', clientIp: '127.0.0.1' })

  const behind = await startSite(t, `${BEHIND_PROXY}\ntrusted_headers: [x-ssl-client-verify]`)
  const proxied = await passed(behind, get(...claims))
  t.same(origin(proxied), [
    '1.1.1.1, 198.51.100.1, 127.0.0.1',
    'https',
    'shop.example',
    '443',
    '/shop',
    'for=198.51.100.1',
    '198.51.100.1',
    ':MIIB:',
    'SUCCESS',
  ])
  t.match(behind.gateway.records.at(-1), { consumer: '198.51.100.1', clientIp: '198.51.100.1' })
})

t.test('Via adds the gateway after the proxies before it', async (t) => {
  const site = await startSite(t, SITE)
  t.same((await passed(site, get())).values('via'), ['1.1 tidegate'])
  t.same((await passed(site, get('Via: 1.0 a', 'via: 1.1 b'))).values('via'), ['1.0 a, 1.1 b, 1.1 tidegate'])
  const old = await passed(site, 'GET /x HTTP/1.0\r\n\r\n')
  t.same(old.values('via'), ['1.0 tidegate'])
  const { responses } = await rawExchange(site.gateway.port, get())
  t.equal(responses[0]!.header('via'), '1.1 tidegate')
})

t.test("the upstream gets its own Host, or the client's if configured", async (t) => {
  const site = await startSite(t, SITE)
  t.same((await passed(site, get())).values('host'), [site.payments.authority])
  const own = await passed(site, get().replace('/x', '/own-host'))
  t.same(own.values('host'), ['gateway.example'])
  const none = await passed(site, 'GET /own-host HTTP/1.0\r\n\r\n')
  t.same(none.values('host'), [site.payments.authority])
  t.same(none.values('x-forwarded-host'), [])
})

t.test('a valid request id is kept, else a new one is made, and all three sides see the same', async (t) => {
  const site = await startSite(t, SITE)
  const { gateway, payments } = site
  const idOf = async (...fields: string[]) => {
    const { responses } = await rawExchange(gateway.port, get(...fields))
    await gateway.recorded(payments.received.length)
    const ids = [
      responses[0]!.header('x-request-id'),
      payments.received.at(-1)!.values('x-request-id').join(' | '),
      gateway.records.at(-1)!.requestId,
    ]
    t.equal(new Set(ids).size, 1, ids.join(' '))
    return ids[0]!
  }
  for (const id of ['a', 'req-1', '9f2c61d3-a0b4.1_k', 'x'.repeat(64)])
    t.equal(await idOf(`X-Request-Id: ${id}`), id)
  const bad = ['', 'x'.repeat(65), 'a b', 'a"b', 'a\tb', 'a,b', '{}', '\xe4', '%0a', '<script>']
  const made = new Set<string>()
  for (const id of bad) {
    const own = await idOf(`X-Request-Id: ${id}`)
    t.match(own, /^[0-9a-f]{12}-[0-9a-z]+$/, JSON.stringify(id))
    made.add(own)
  }
  t.equal(made.size, bad.length, 'each is new')
  t.match(await idOf('X-Request-Id: a', 'X-Request-Id: b'), /^[ab]$/)
})

t.test('a refusal carries the request id, too', async (t) => {
  const site = await startSite(t, SITE)
  const { responses } = await rawExchange(site.gateway.port, get('X-Request-Id: mine', 'X-Api-Key: wrong'))
  t.equal(responses[0]!.header('x-request-id'), 'mine')
  t.equal(JSON.parse(responses[0]!.body).request_id, 'mine')
})

t.test('a request with more than 100 fields is 431, and one with 100 passes whole', async (t) => {
  const site = await startSite(t, SITE)
  const large = { status: 431, code: 'headers_too_large' } as const
  const fields = (count: number) => Array.from({ length: count }, (_, i) => `a${i}: ${i}`)
  for (const count of [100, 101, 150, 199, 200, 500, 1_000, 1_500]) {
    await expectRefused(t, site, `${count} and Host`, get(...fields(count)), large)
  }
  const hidden = get(...fields(300), 'X-User-Id: alice', 'Content-Length: 5')
  await expectRefused(t, site, 'with a body behind', `${hidden}abcde`, large)
  const got = await passed(site, get(...fields(99)))
  t.equal(names(got).filter((name) => /^a\d+$/.test(name)).length, 99)
})

t.test('a header of more than 16 KiB is 431', async (t) => {
  const site = await startSite(t, SITE)
  const large = { status: 431, code: 'headers_too_large' } as const
  await expectRefused(t, site, 'one field', get(`X: ${'a'.repeat(17_000)}`), large)
  await expectRefused(t, site, 'one name', get(`${'a'.repeat(17_000)}: x`), large)
  await expectRefused(
    t,
    site,
    'without an end',
    `GET /x HTTP/1.1\r\nHost: a\r\nX: ${'a'.repeat(20_000)}`,
    large,
  )
  const many = Array.from({ length: 90 }, (_, i) => `a${i}: ${'a'.repeat(190)}`)
  await expectRefused(t, site, 'ninety', get(...many), large)
  const got = await passed(site, get(`X: ${'a'.repeat(15_000)}`))
  t.equal(got.values('x')[0]?.length, 15_000)
})

t.test('names of Object members are ordinary field names', async (t) => {
  const site = await startSite(t, SITE)
  const got = await passed(site, get('__proto__: a', 'constructor: b', 'toString: c', 'hasOwnProperty: d'))
  t.same(
    ['__proto__', 'constructor', 'tostring', 'hasownproperty'].map((name) => got.values(name)),
    [['a'], ['b'], ['c'], ['d']],
  )
})

t.test('repeated fields, their order and their bytes are kept', async (t) => {
  const site = await startSite(t, SITE)
  const got = await passed(
    site,
    get(
      'Cookie: a=1',
      'X-List: 1',
      'Cookie: b=2',
      'X-LIST: 2',
      'X-Latin: \xe4\xff',
      'Accept: */*',
      'x-empty:',
    ),
  )
  t.same(got.values('cookie'), ['a=1', 'b=2'])
  t.same(got.values('x-list'), ['1', '2'])
  t.same(got.values('x-latin'), ['\xe4\xff'])
  t.same(got.values('x-empty'), [''])
  t.ok(got.rawHeaders.includes('X-LIST'))
})

t.test('no decoded byte gets into a header', async (t) => {
  const site = await startSite(t, SITE)
  for (const target of ['/a%0d%0aX-Evil:%201', '/a%0aX-Evil:%201', '/a%00']) {
    const bytes = get().replace('/x', target)
    await expectRefused(t, site, target, bytes, { status: 400, code: 'bad_target' })
  }
  const got = await passed(site, get().replace('/x', '/x?a=%0d%0aX-Evil:%201'))
  t.equal(got.url, '/x?a=%0d%0aX-Evil:%201')
  t.same(got.values('x-evil'), [])
})

t.test('any Content-Type passes, and no body is parsed', async (t) => {
  const site = await startSite(t, SITE)
  for (const type of [
    'application/json',
    'application/json; charset=utf-8',
    'text/x; \t"',
    '',
    'nonsense',
    'a/b, c/d',
  ]) {
    const bytes = `POST /x HTTP/1.1\r\nHost: gateway.example\r\nContent-Type: ${type}\r\nContent-Length: 5\r\n\r\n{"a":`
    const got = await passed(site, bytes)
    t.match(got, { body: '{"a":', complete: true }, type)
    t.same(got.values('content-type'), [type.trim()])
  }
})
