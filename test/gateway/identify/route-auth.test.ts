// Tests src/gateway/stages/authorize.ts
import { createSecretKey } from 'node:crypto'
import t from 'tap'
import { tokenOf } from '../../support/credentials/issuer.js'
import { signed } from '../../support/credentials/signing.js'
import { snapshotOf } from '../../support/gateway/gateway.js'
import { problemOf, startSite } from '../../support/gateway/site.js'
import { http2Client } from '../../support/http/http2-client.js'
import { rawExchange, rawRequest } from '../../support/http/raw.js'
import { handshake } from '../../support/http/websocket.js'

/** Tests which credentials and scopes a route requires. */

const SITE = `
tiers: [free]
consumers:
  - api_key: { keys: [{ key: key-of-acme, consumer: acme }, { key: key-of-job, consumer: job, scopes: [pay:read, pay:write] }] }
  - signature:
      keys:
        - { id: k1, secret: a-secret-of-the-partner, consumer: partner, scopes: [pay:write, pay:read] }
        - { id: k2, secret: a-secret-of-another-one, consumer: reader, scopes: [pay:read] }
  - jwt: { issuer: jobs, audience: api, secret: a-secret-of-32-bytes-or-a-bit-more }
  - header: { name: x-user-id, from: anyone }
  - ip: {}
server: { http2: { enabled: true } }
services:
  payments: { upstreams: [PAYMENTS], limits: { free: 2/min } }
routes:
  - { path: /*, service: payments }
  - { path: /keys, service: payments, auth: { any_of: [header, api_key] }, websocket: true }
  - { path: /any, service: payments, auth: {} }
  - { path: /open, service: payments, auth: { any_of: [signature], required: false } }
  - { path: /token, service: payments, auth: { any_of: [jwt], scopes: [pay:read, pay:write] } }
  - { path: /write, service: payments, auth: { any_of: [signature, api_key], scopes: [pay:read, pay:write] } }
`
const KEY = 'X-Api-Key: key-of-acme'
const USER = 'X-User-Id: alice'

async function start(t: Parameters<typeof startSite>[0]) {
  const site = await startSite(t, SITE)
  let asked = 0
  const ask = async (path: string, ...fields: readonly string[]) => {
    const { responses } = await rawExchange(site.gateway.port, rawRequest(`GET ${path}`, ...fields))
    const response = responses[0]!
    await site.gateway.recorded(++asked)
    return { response, status: response.status, consumer: site.gateway.records.at(-1)!.consumer }
  }
  return { ...site, ask }
}

function by(keyid: string, secret: string, path: string): readonly string[] {
  const lines = [
    ['@method', 'GET'],
    ['@authority', 'gateway.example'],
    ['@path', path],
    ['@query', '?'],
  ] as const
  const [a, b, c, d] = signed(lines, { keyid, secret })
  return [`${a}: ${b}`, `${c}: ${d}`]
}

t.test('only the kinds that a route accepts identify, in the order of consumers', async (t) => {
  const { ask, payments } = await start(t)
  t.match(await ask('/keys', KEY, USER), { status: 200, consumer: 'acme' })
  t.match(await ask('/keys', USER), { status: 200, consumer: 'alice' })
  t.match(await ask('/', ...by('k1', 'a-secret-of-the-partner', '/')), { status: 200, consumer: 'partner' })
  const refused = await ask('/keys', ...by('k1', 'a-secret-of-the-partner', '/keys'))
  t.match(refused, { status: 401, consumer: undefined }, 'another kind is not looked at')
  t.equal(problemOf(refused.response).detail, 'Send a credential in x-api-key or x-user-id.')
  t.match(await ask('/keys', 'X-Api-Key: wrong', USER), { status: 401 }, 'a bad one still decides')
  t.equal(payments.received.length, 3)
  t.same(payments.received[0]!.values('x-user-id'), [], 'an unused credential is not forwarded')
})

t.test('an address suffices only where a route says so', async (t) => {
  const { ask } = await start(t)
  t.match(await ask('/'), { status: 200, consumer: '127.0.0.1' })
  t.match(await ask('/keys'), { status: 401 })
  const any = await ask('/any')
  t.equal(any.status, 401)
  const lines = any.response.head.split('\r\n').filter((line) => /^(www-authenticate|accept-)/i.test(line))
  t.same(lines, [
    'WWW-Authenticate: Bearer realm="tidegate"',
    'WWW-Authenticate: ApiKey realm="tidegate"',
    'WWW-Authenticate: Signature realm="tidegate"',
    'Accept-Signature: sig=("@method" "@authority" "@path" "@query");created;keyid',
  ])
  t.match(await ask('/any', USER), { status: 200, consumer: 'alice' })
  t.match(await ask('/open', KEY), { status: 200, consumer: '127.0.0.1' }, 'a key is not looked at there')
  t.match(await ask('/open', 'Signature: x'), { status: 401 }, 'a bad one still decides')
})

t.test('a credential without all scopes is 403, and takes no quota', async (t) => {
  const { ask, gateway, payments } = await start(t)
  for (const [fields, cause] of [
    [by('k2', 'a-secret-of-another-one', '/write'), 'the credential has the scopes pay:read'],
    [[KEY], 'the credential has no scopes'],
  ] as const) {
    const { response } = await ask('/write', ...fields)
    t.equal(response.status, 403)
    t.match(problemOf(response), {
      code: 'insufficient_scope',
      detail: 'This route requires a credential with the scopes pay:read pay:write.',
    })
    t.match(gateway.records.at(-1), { error: 'insufficient_scope', cause, decision: undefined })
  }
  t.match(await ask('/write'), { status: 401 })
  t.same(payments.received, [])
  t.match(await ask('/write', 'X-Api-Key: key-of-job'), { status: 200, consumer: 'job' })
  t.match(await ask('/write', ...by('k1', 'a-secret-of-the-partner', '/write')), {
    status: 200,
    consumer: 'partner',
  })
})

t.test('a client with a token is told which scopes the route requires', async (t) => {
  const { ask } = await start(t)
  const now = Math.floor(Date.now() / 1000)
  const by = (scope: string) => {
    const claims = { iss: 'jobs', aud: 'api', sub: 'job-1', exp: now + 60, scope }
    const key = createSecretKey('a-secret-of-32-bytes-or-a-bit-more', 'utf8')
    return `Authorization: Bearer ${tokenOf({ alg: 'HS256' }, claims, key)}`
  }
  t.match(await ask('/token', by('pay:write other pay:read')), { status: 200, consumer: 'job-1' })
  const { response } = await ask('/token', by('pay:read'))
  t.equal(response.status, 403)
  t.equal(
    response.header('www-authenticate'),
    'Bearer realm="tidegate", error="insufficient_scope", scope="pay:read pay:write"',
  )
  t.equal((await ask('/token', KEY)).response.header('www-authenticate'), 'Bearer realm="tidegate"')
})

t.test('upgrades and HTTP/2 have the same requirements', async (t) => {
  const { gateway } = await start(t)
  const { responses } = await rawExchange(gateway.port, handshake('/keys'))
  t.equal(responses[0]!.status, 401)
  const http2 = await http2Client(t, gateway.origin)
  t.equal((await http2.ask('/keys')).status, 401)
  t.equal((await http2.ask('/keys', { 'x-user-id': 'alice' })).status, 200)
  t.equal((await http2.ask('/write', { 'x-api-key': 'key-of-acme' })).status, 403)
})

t.test('a route may accept anonymous clients even if consumers does not list ip', async (t) => {
  const yaml = SITE.replace('  - ip: {}\n', '').replaceAll('PAYMENTS', 'http://127.0.0.1:9001')
  const { routes, consumers } = snapshotOf(yaml)
  const kinds = (path: string) =>
    routes.find((route) => route.path === path)!.auth?.sources.map(({ kind }) => kind)
  t.notOk(consumers.some(({ kind }) => kind === 'ip'))
  t.same(kinds('/open'), ['signature', 'ip'])
  t.same(kinds('/any'), ['api_key', 'signature', 'jwt', 'header'])
  t.equal(kinds('/*'), undefined)
})
