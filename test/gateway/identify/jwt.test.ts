import t, { type Test } from 'tap'
import { createTokens } from '../../../src/credentials/tokens.js'
import { createKey, startJwksServer, tokenOf } from '../../support/credentials/issuer.js'
import { explainOver } from '../../support/gateway/explain.js'
import { createClock, snapshotOf, startGateway } from '../../support/gateway/gateway.js'
import { http2Client } from '../../support/http/http2-client.js'
import { rawExchange } from '../../support/http/raw.js'
import { recordingUpstream } from '../../support/http/upstream.js'
import { handshake } from '../../support/http/websocket.js'

const key = createKey('p256', 'k1')
const ISSUER = 'https://id.example.com'
const QUIET = { info() {}, warn() {} }

function claimsOf(changes: object = {}): object {
  const now = Math.floor(Date.now() / 1000)
  return { iss: ISSUER, aud: 'api', sub: 'alice', iat: now, exp: now + 300, ...changes }
}

const signed = (changes: object = {}, by = key) =>
  tokenOf({ alg: 'ES256', kid: by.kid }, claimsOf(changes), by.privateKey)

function config(upstream: string, jwks: string, { jwt = '', more = '' } = {}): string {
  return `
tiers: [free, pro]
consumers:
  - jwt: { issuer: "${ISSUER}", audience: api, jwks_url: "${jwks}", tier: plan, tenant: org.id${jwt} }
  - api_key: { keys: [{ key: key-of-acme, consumer: acme }] }
services: { api: { upstreams: ["${upstream}"], limits: { free: 2/min, pro: 100/min } } }
routes: [{ path: /*, service: api, websocket: true }]
${more}`
}

async function site(t: Test, options: Parameters<typeof config>[2] = {}) {
  const upstream = await recordingUpstream(t)
  const jwks = await startJwksServer(t, [key.jwk])
  const gateway = await startGateway(t, config(upstream.origin, jwks.url, options))
  const ask = (authorization?: string, more: Record<string, string> = {}) =>
    fetch(gateway.origin, { headers: { ...(authorization === undefined ? {} : { authorization }), ...more } })
  return { upstream, jwks, gateway, ask }
}

t.test('a token identifies consumer, tenant and tier', async (t) => {
  const { upstream, jwks, gateway, ask } = await site(t)
  const token = signed({ plan: 'pro', org: { id: 'acme-group' }, scope: 'read write' })
  for (const scheme of ['Bearer', 'bearer', 'BEARER']) t.equal((await ask(`${scheme} ${token}`)).status, 200)
  await gateway.recorded(3)
  t.match(gateway.records[2], {
    consumer: 'alice',
    tenant: 'acme-group',
    tier: 1,
    tierFrom: 'credential',
    identifiedBy: 'jwt',
  })
  t.same(upstream.received[0]!.values('authorization'), [`Bearer ${token}`], 'the token goes on')
  t.equal(jwks.asked(), 1)
})

t.test('whatever is wrong with a token, the client only learns what to send', async (t) => {
  const { upstream, gateway, ask } = await site(t)
  const stranger = createKey('p256', 'k1')
  const bad: [string, string][] = [
    [`Bearer ${signed({}, stranger)}`, 'token: its signature is wrong'],
    [`Bearer ${tokenOf({ alg: 'none' }, claimsOf(), undefined)}`, 'token: its signature is not base64url'],
    [`Bearer ${signed({ aud: 'web' })}`, 'token: it is not for api'],
    [
      `Bearer ${signed({ iss: 'https://evil.example.com' })}`,
      'token: its issuer "https://evil.example.com" is not configured',
    ],
    [`Bearer ${signed({ sub: undefined })}`, 'token: its sub is not an id of 1 to 256 characters'],
    [`Bearer ${signed({ sub: 'x'.repeat(257) })}`, 'token: its sub is not an id'],
    [`Bearer ${signed({ sub: ['alice'] })}`, 'token: its sub is not an id'],
    ['Bearer opaque-token', 'token: it does not have three parts'],
  ]
  for (const [i, [authorization, cause]] of bad.entries()) {
    const response = await ask(authorization, { 'x-api-key': 'key-of-acme' })
    t.equal(response.status, 401, cause)
    t.equal(response.headers.get('www-authenticate'), 'Bearer realm="tidegate", error="invalid_token"')
    t.match(await response.json(), {
      code: 'unauthorized',
      detail: 'The token in authorization is not valid.',
    })
    await gateway.recorded(i + 1)
    t.equal(gateway.records[i]?.cause?.slice(0, cause.length), cause)
  }
  const expired = await ask(`Bearer ${signed({ exp: 1_000_000_000 })}`)
  t.equal(
    expired.headers.get('www-authenticate'),
    'Bearer realm="tidegate", error="invalid_token", error_description="The token has expired"',
  )
  t.match(await expired.json(), { detail: 'The token in authorization has expired; get a new one.' })
  for (const other of ['Basic YWxpY2U6cGFzcw==', signed(), ''])
    t.match(
      await (await ask(other)).json(),
      { status: 401, detail: /no bearer token/ },
      'and nothing else is tried',
    )
  t.equal(upstream.received.length, 0)
})

t.test('a request without a credential is told every accepted kind', async (t) => {
  const { ask } = await site(t)
  const response = await ask()
  t.equal(response.status, 401)
  t.equal(response.headers.get('www-authenticate'), 'Bearer realm="tidegate", ApiKey realm="tidegate"')
  t.match(await response.json(), { detail: 'Send a credential in authorization or x-api-key.' })
  t.equal((await ask(undefined, { 'x-api-key': 'key-of-acme' })).status, 200)
})

t.test('a valid token without the required scopes is 403', async (t) => {
  const { gateway, ask } = await site(t, { jwt: ', required_scopes: [read, "orders:write"]' })
  const response = await ask(`Bearer ${signed({ scope: 'read' })}`)
  t.equal(response.status, 403)
  t.equal(
    response.headers.get('www-authenticate'),
    'Bearer realm="tidegate", error="insufficient_scope", scope="read orders:write"',
  )
  t.match(await response.json(), { code: 'insufficient_scope', detail: /: read orders:write\./ })
  t.match(gateway.records[0], {
    error: 'insufficient_scope',
    cause: 'token: it does not have the scope orders:write',
  })
  t.equal((await ask(`Bearer ${signed({ scope: 'orders:write read' })}`)).status, 200)
})

t.test('an unknown tier counts as none, and an id with odd characters is an id', async (t) => {
  const { gateway, ask } = await site(t)
  const token = signed({ sub: 'a:b{c}\n"é', plan: 'platinum' })
  const statuses = []
  for (let i = 0; i < 3; i++) statuses.push((await ask(`Bearer ${token}`)).status)
  t.same(statuses, [200, 200, 429])
  await gateway.recorded(3)
  t.match(gateway.records[0], { consumer: 'a:b{c}\n"é', tier: 0, tierFrom: 'default' })
})

t.test('two issuers may have users of one name', async (t) => {
  const upstream = await recordingUpstream(t)
  const partner = createKey('ed25519', 'p')
  const gateway = await startGateway(
    t,
    config(upstream.origin, 'http://127.0.0.1:1/').replace(
      /- jwt: .*/,
      `- jwt:
      header: X-Token
      issuers:
        - { issuer: "${ISSUER}", audience: api, public_key: ${JSON.stringify(key.pem)} }
        - { issuer: partner, audience: api, public_key: ${JSON.stringify(partner.pem)}, id_prefix: "partner-" }`,
    ),
  )
  const ask = (token: string) => fetch(gateway.origin, { headers: { 'x-token': token } })
  t.equal((await ask(signed())).status, 200)
  t.equal(
    (await ask(tokenOf({ alg: 'EdDSA' }, claimsOf({ iss: 'partner' }), partner.privateKey))).status,
    200,
  )
  t.equal((await ask(`Bearer ${signed()}`)).status, 401, 'another header holds the bare token')
  t.same(
    gateway.records.map(({ consumer }) => consumer),
    ['alice', 'partner-alice', undefined],
  )
})

t.test('while a token cannot be checked the gateway answers 503, and the client is not blamed', async (t) => {
  const upstream = await recordingUpstream(t)
  const jwks = await startJwksServer(t)
  jwks.answer((_, res) => void res.writeHead(500).end())
  const clock = createClock()
  clock.now = Date.now()
  let fetchAgain = () => {}
  const tokens = createTokens({
    log: QUIET,
    now: () => clock.now,
    jwks: {
      random: () => 1,
      after(_, run) {
        fetchAgain = run
        return () => {}
      },
    },
  })
  t.teardown(() => tokens.close())
  const gateway = await startGateway(t, config(upstream.origin, jwks.url), { tokens })
  const authorization = `Bearer ${signed()}`
  const ask = () => fetch(gateway.origin, { headers: { authorization } })
  for (const wait of ['1', '1']) {
    const response = await ask()
    t.equal(response.status, 503)
    t.equal(response.headers.get('retry-after'), wait)
    t.match(await response.json(), { code: 'identity_unavailable' })
  }
  t.match(gateway.records[1], {
    error: 'identity_unavailable',
    cause: 'token: its keys could not be fetched: it answered 500',
  })
  t.match(tokens.readings(), [
    { issuer: 'none' },
    { issuer: ISSUER, tokens: { unavailable: 2 }, jwks: { keys: 0, ageMs: undefined } },
  ])
  jwks.answer([key.jwk])
  fetchAgain()
  t.equal((await ask()).status, 200)
  t.equal((await ask()).status, 200)
  t.match(tokens.readings()[1], {
    tokens: { unavailable: 2, verified: 1, cached: 1 },
    jwks: { keys: 1, ageMs: 0, fetches: { failed: 1, succeeded: 1 } },
  })
})

t.test('HTTP/2 requests and WebSockets are checked alike', async (t) => {
  const { gateway } = await site(t, { more: 'server: { http2: true }' })
  const client = await http2Client(t, gateway.origin)
  t.match(await client.ask('/', { authorization: `Bearer ${signed()}` }), { status: 200 })
  t.match(await client.ask('/', { authorization: `Bearer ${signed({ aud: 'web' })}` }), {
    status: 401,
    headers: { 'www-authenticate': 'Bearer realm="tidegate", error="invalid_token"' },
  })
  const stranger = signed({}, createKey('p256', 'k1'))
  const refused = await rawExchange(gateway.port, handshake('/', { Authorization: `Bearer ${stranger}` }))
  t.match(refused.responses, [{ status: 401, head: /error="invalid_token"/ }])
  await rawExchange(gateway.port, handshake('/', { Authorization: `Bearer ${signed({ sub: 'bob' })}` }))
  await gateway.recorded(4)
  t.match(
    gateway.records[3],
    { consumer: 'bob', identifiedBy: 'jwt', upstream: {} },
    'a good one got as far as the upstream',
  )
})

t.test('a client that leaves while its token is being checked is recorded once', async (t) => {
  const { jwks, gateway, upstream } = await site(t)
  let answer = () => {}
  const asked = new Promise<void>((resolve) => {
    jwks.answer((_, res) => {
      answer = () => void res.end(JSON.stringify({ keys: [key.jwk] }))
      resolve()
    })
  })
  const leave = new AbortController()
  const left = fetch(gateway.origin, {
    headers: { authorization: `Bearer ${signed()}` },
    signal: leave.signal,
  })
  await asked
  leave.abort()
  await t.rejects(left)
  await gateway.recorded(1)
  answer()
  t.equal(
    (await fetch(gateway.origin, { headers: { authorization: `Bearer ${signed({ sub: 'bob' })}` } })).status,
    200,
  )
  await gateway.recorded(2)
  t.match(gateway.records, [{ status: 499 }, { status: 200, consumer: 'bob' }])
  t.equal(upstream.received.length, 1)
})

t.test('a reload that changes the issuers forgets all tokens, another one forgets none', async (t) => {
  const jwks = await startJwksServer(t, [key.jwk])
  const tokens = createTokens({ log: QUIET })
  t.teardown(() => tokens.close())
  const sourceOf = (yaml: string) => {
    const snapshot = snapshotOf(yaml)
    tokens.prepare(snapshot)
    tokens.retain(snapshot)
    const [source] = snapshot.consumers
    if (source?.kind !== 'jwt') throw new Error('not a jwt')
    return source
  }
  const yaml = config('http://127.0.0.1:1', jwks.url)
  const token = signed()
  const before = sourceOf(yaml)
  const verdict = await tokens.verify(before, token)
  t.match(verdict, { value: { consumer: 'alice' } })
  const same = sourceOf(yaml.replace('2/min', '3/min'))
  t.not(same, before)
  t.equal(tokens.verify(same, token), verdict)
  t.equal(jwks.asked(), 1, 'the keys are not fetched again')
  const other = sourceOf(yaml.replace('tier: plan', 'tier: level'))
  t.ok(tokens.verify(other, token) instanceof Promise)
  t.equal(tokens.verify(before, token), verdict, 'requests under way have what they had')
  t.equal(
    sourceOf(
      yaml.replace(/ {2}- jwt.*\n/, '  - jwt: { issuer: x, secret: a-secret-of-32-characters-at-least }\n'),
    ).kind,
    'jwt',
  )
  t.match(
    tokens.readings().map(({ issuer, jwks }) => [issuer, jwks]),
    [
      ['none', undefined],
      [ISSUER, undefined],
      ['x', undefined],
    ],
  )
})

t.test('explain shows the claims that were used, and never the token', async (t) => {
  const jwks = await startJwksServer(t, [key.jwk])
  const tokens = createTokens({ log: QUIET })
  t.teardown(() => tokens.close())
  const snapshot = snapshotOf(config('http://127.0.0.1:1', jwks.url, { jwt: ', id_prefix: "id-"' }))
  const explain = explainOver(() => snapshot, {
    limiter: { preview: () => Promise.reject(new Error('not asked')) },
    tokens,
  })
  const ask = (token: string) =>
    explain({ method: 'GET', url: '/', headers: [['authorization', `Bearer ${token}`]], peer: '192.0.2.7' })
  const exp = Math.floor(Date.now() / 1000) + 300
  const token = signed({
    exp,
    plan: 'pro',
    org: { id: 'acme-group' },
    scope: ['read', 'write'],
    email: 'alice@example.com',
  })
  const explained = await ask(token)
  t.match(explained, { consumer: 'id-alice', tenant: 'acme-group', tier: 'pro', identified_by: 'jwt' })
  t.same(explained.token, {
    issuer: ISSUER,
    claims: { sub: 'alice', plan: 'pro', 'org.id': 'acme-group', scope: 'read write' },
    expires: new Date(exp * 1000).toISOString(),
    unknown_tier: null,
  })
  t.match(
    await ask(signed({ exp, plan: 'platinum' })),
    { tier_from: 'default', token: { claims: { plan: 'platinum' }, unknown_tier: 'platinum' } },
    'a tier that there is not',
  )
  t.notMatch(JSON.stringify(explained), /alice@example.com/)
  const bad = await ask(signed({ exp: 1_000_000_000 }))
  t.match(bad, {
    status: 401,
    token: null,
    why: /^Refused with 401 unauthorized: The token in authorization has expired; get a new one \(token: it expired/,
  })
  for (const [one, sent] of [
    [explained, token],
    [bad, 'eyJ'],
  ] as const)
    t.notOk(JSON.stringify(one).includes(sent))
})
