import t from 'tap'
import { signed } from '../../support/credentials/signing.js'
import { expectRefused, problemOf, startSite } from '../../support/gateway/site.js'
import { http2Client } from '../../support/http/http2-client.js'
import { rawExchange, rawRequest } from '../../support/http/raw.js'
import { handshake } from '../../support/http/websocket.js'

const SITE = `
tiers: [free, pro]
consumers:
  - signature:
      keys:
        - { id: acme-1, secret: a-secret-of-the-partner, consumer: acme, tier: pro, tenant: group }
        - { id: bob-1, secret: YW5vdGhlci1zZWNyZXQtb2YtYm9i, encoding: base64, consumer: bob }
  - header: { name: x-user-id, from: anyone }
  - ip: {}
server: { http2: { enabled: true } }
services:
  payments: { upstreams: [PAYMENTS], identity: headers }
  marketing: { upstreams: [MARKETING] }
routes:
  - { path: /*, service: payments }
  - { path: /m/*, service: marketing, strip_prefix: /m, websocket: true }
`
const ACME = { secret: 'a-secret-of-the-partner', keyid: 'acme-1' }

/** The components that the defaults require. */
const lines = (method: string, target: string, authority = 'gateway.example') => {
  const [path = '', ...query] = target.split('?')
  return [
    ['@method', method],
    ['@authority', authority],
    ['@path', path],
    ['@query', `?${query.join('?')}`],
  ] as const
}

const header = ([a, b, c, d]: readonly string[]) => [`${a}: ${b}`, `${c}: ${d}`]
const request = (line: string, host: string, ...fields: readonly string[]) =>
  [`${line} HTTP/1.1`, `Host: ${host}`, ...fields, '', ''].join('\r\n')

t.test("a signed request is its signer's, and is forwarded with its signature", async (t) => {
  const { gateway, payments, marketing } = await startSite(t, SITE)
  const target = '/a//b%41?x=1&y=%20?'
  const fields = header(signed(lines('GET', target), ACME))
  const { responses } = await rawExchange(
    gateway.port,
    request(`GET ${target}`, 'Gateway.Example:80', ...fields),
  )
  t.equal(responses[0]!.status, 200, responses[0]!.body)
  t.match(gateway.records, [{ consumer: 'acme', tier: 1, tenant: 'group', identifiedBy: 'signature' }])
  const got = payments.received[0]!
  t.same([got.values('signature').length, got.values('signature-input').length], [1, 1])
  t.same(got.values('x-consumer-id'), ['acme'])

  const bob = { secret: Buffer.from('YW5vdGhlci1zZWNyZXQtb2YtYm9i', 'base64').toString(), keyid: 'bob-1' }
  const several = [
    ...header(signed(lines('GET', '/m/x'), { ...ACME, keyid: 'unknown', label: 'a' })),
    ...header(signed(lines('GET', '/m/x'), { ...bob, label: 'b' })),
  ]
  const two = await rawExchange(gateway.port, request('GET /m/x', 'gateway.example', ...several))
  t.equal(two.responses[0]!.status, 200, two.responses[0]!.body)
  t.match(gateway.records[1], { consumer: 'bob', tier: 0 })
  t.match(marketing.received[0]!.values('signature'), [/^a=:.+:, b=:.+:$/], 'fields of one name are one list')
})

t.test('an invalid signature is 401, and no other credential is tried', async (t) => {
  const { gateway, payments } = await startSite(t, SITE)
  const ask = async (line: string, ...fields: readonly string[]) => {
    const bytes = request(line, 'gateway.example', ...fields, 'X-User-Id: mallory')
    const { responses } = await rawExchange(gateway.port, bytes)
    return responses[0]!
  }
  const good = header(signed(lines('GET', '/a?x=1'), ACME))
  for (const [what, line, fields] of [
    ['another path', 'GET /b?x=1', good],
    ['another query', 'GET /a?x=2', good],
    ['another method', 'PUT /a?x=1', good],
    [
      'another secret',
      'GET /a?x=1',
      header(signed(lines('GET', '/a?x=1'), { ...ACME, secret: 'guessed-secret' })),
    ],
    ['another host', 'GET /a?x=1', header(signed(lines('GET', '/a?x=1', 'other.example'), ACME))],
    ['another key', 'GET /a?x=1', [good[0]!.replace('acme-1', 'bob-1'), good[1]!]],
    ['an unknown key', 'GET /a?x=1', [good[0]!.replace('acme-1', 'nobody'), good[1]!]],
  ] as const) {
    const answer = await ask(line, ...fields)
    t.equal(answer.status, 401, what)
    t.equal(problemOf(answer).detail, 'The signature is not valid.', what)
    t.equal(answer.header('www-authenticate'), 'Signature realm="tidegate"')
    t.equal(answer.header('accept-signature'), 'sig=("@method" "@authority" "@path" "@query");created;keyid')
  }
  t.match(gateway.records.at(-1), {
    error: 'unauthorized',
    consumer: undefined,
    cause: /^signature: no signature by a key/,
  })
  for (const fields of [[good[0]!], [good[1]!], ['Signature: x', 'Signature-Input: y']])
    t.equal(problemOf(await ask('GET /a?x=1', ...fields)).status, 401, fields.join())
  t.same(payments.received, [])
  t.equal((await ask('GET /a?x=1', ...good)).status, 200)
  t.same(payments.received[0]!.values('x-user-id'), [], 'an unchecked identity header is not forwarded')
})

t.test('a signed field with a look-alike beside it is refused', async (t) => {
  const { gateway, payments } = await startSite(t, SITE)
  const own = header(signed([...lines('GET', '/a'), ['x-amount', '10']], ACME))
  const ask = async (...more: readonly string[]) => {
    const bytes = request('GET /a', 'gateway.example', ...own, 'X-Amount: 10', ...more)
    return (await rawExchange(gateway.port, bytes)).responses[0]!
  }
  t.equal((await ask()).status, 200)
  for (const twin of ['X_Amount: 99', 'x.amount: 99']) {
    const answer = await ask(twin)
    t.equal(answer.status, 401, twin)
    t.match(problemOf(answer).detail, /covers x-amount/)
  }
  t.equal((await ask('x_other: 99')).status, 200)
  t.equal(payments.received.length, 2)
})

t.test('a nonce is valid once', async (t) => {
  const { gateway } = await startSite(t, SITE)
  const bytes = (more: string) =>
    request('GET /a', 'gateway.example', ...header(signed(lines('GET', '/a'), { ...ACME, more })))
  const first = bytes(';nonce="n-1"')
  const answers = []
  for (const one of [first, first, bytes(';nonce="n-2"'), bytes(''), bytes('')])
    answers.push((await rawExchange(gateway.port, one)).responses[0]!)
  t.same(
    answers.map(({ status }) => status),
    [200, 401, 200, 200, 200],
  )
  t.equal(problemOf(answers[1]!).detail, 'The nonce was used before.')
  const forged = request(
    'GET /a',
    'gateway.example',
    ...header(signed(lines('GET', '/a'), { ...ACME, secret: 'guessed-secret', more: ';nonce="n-3"' })),
  )
  t.equal((await rawExchange(gateway.port, forged)).responses[0]!.status, 401)
  t.equal(
    (await rawExchange(gateway.port, bytes(';nonce="n-3"'))).responses[0]!.status,
    200,
    'strangers use up none',
  )
})

t.test('requests and handshakes share the nonces that were used', async (t) => {
  const { gateway, marketing } = await startSite(t, SITE)
  const fields = (nonce: string) => {
    const [a = '', b, c = '', d] = signed(lines('GET', '/m/x'), { ...ACME, more: `;nonce="${nonce}"` })
    return { [a]: b, [c]: d }
  }
  const asHandshake = async (nonce: string) => {
    const bytes = handshake('/m/x', { Host: 'gateway.example', ...fields(nonce) })
    return (await rawExchange(gateway.port, bytes)).responses[0]!.status
  }
  const asRequest = async (nonce: string) => {
    const own = Object.entries(fields(nonce)).map(([name, value]) => `${name}: ${value}`)
    const bytes = request('GET /m/x', 'gateway.example', ...own)
    return (await rawExchange(gateway.port, bytes)).responses[0]!.status
  }
  t.equal(await asRequest('n-1'), 200)
  t.equal(await asHandshake('n-1'), 401)
  t.equal(await asHandshake('n-2'), 200, 'its backend speaks no WebSocket')
  t.equal(await asRequest('n-2'), 401)
  t.equal(marketing.received.length, 2)
})

t.test(
  "content-digest covers the body, and behind a proxy the signature covers the proxy's URL",
  async (t) => {
    const { gateway, payments } = await startSite(t, `${SITE}\ntrusted_proxies: [127.0.0.1]`)
    const digest = 'sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:'
    const base = [
      ['@method', 'POST'],
      ['@target-uri', 'https://shop.example/pay?x'],
      ['content-digest', digest],
      ['content-length', '5'],
    ] as const
    const fields = [
      'X-Forwarded-Proto: https',
      'X-Forwarded-Host: shop.example:443',
      `Content-Digest: ${digest}`,
      'Content-Length: 5',
    ]
    const post = async (covered: readonly (readonly [string, string])[]) => {
      const all = [...fields, ...header(signed(covered, ACME))]
      return (await rawExchange(gateway.port, `${request('POST /pay?x', 'inner', ...all)}hello`))
        .responses[0]!
    }
    t.equal((await post(base)).status, 200)
    t.match(payments.received, [{ body: 'hello' }])
    const without = await post(base.filter(([name]) => name !== 'content-digest'))
    t.equal(problemOf(without).detail, 'The signature does not cover content-digest.')
  },
)

t.test('HTTP/2 requests are signed alike, and Connection cannot remove a signature', async (t) => {
  const site = await startSite(t, SITE)
  const http2 = await http2Client(t, site.gateway.origin)
  const [, input, , signature] = signed(lines('GET', '/a?b', 'api.example'), ACME)
  const answer = await http2.ask('/a?b', { 'signature-input': input, signature })
  t.equal(answer.status, 200, answer.body)
  t.match(site.gateway.records, [{ consumer: 'acme', identifiedBy: 'signature' }])
  const taken = rawRequest('GET /', 'Connection: close, Signature-Input')
  await expectRefused(t, site, 'named by Connection', taken, { status: 400, code: 'bad_header' })
  const value = rawRequest('GET /', 'X-User-Id: signature', 'Signature: a=:AQ==:', 'Signature: b=:AQ==:')
  const { responses } = await rawExchange(site.gateway.port, value)
  t.equal(responses[0]!.status, 401, 'an id by the name of a field is no field')
})
