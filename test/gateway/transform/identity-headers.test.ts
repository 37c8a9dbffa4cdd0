// Tests src/admin/routes/jwks.ts
import { verify } from 'node:crypto'
import { once } from 'node:events'
import fc from 'fast-check'
import t from 'tap'
import { keyFile } from '../../support/credentials/keys.js'
import { eventually } from '../../support/eventually.js'
import { accessOf, startAdmin } from '../../support/gateway/admin.js'
import { snapshotOf, startGateway } from '../../support/gateway/gateway.js'
import { type Site, startSite } from '../../support/gateway/site.js'
import { http2Client } from '../../support/http/http2-client.js'
import { http2Upstream } from '../../support/http/http2-upstream.js'
import { rawExchange, rawRequest } from '../../support/http/raw.js'
import type { Received } from '../../support/http/upstream.js'
import { handshake, startChat } from '../../support/http/websocket.js'

/** Tests which identity headers upstreams get, by what they received. */

const SITE = `
tiers: [free, pro]
consumers:
  - api_key: { keys: [{ key: key-of-acme, consumer: acme, tier: pro, tenant: group }] }
  - header: { name: x-user-id, tenant: x-org, from: anyone }
  - ip: {}
server: { http2: { enabled: true } }
services:
  payments: { upstreams: [PAYMENTS], identity: headers }
  marketing: { upstreams: [MARKETING] }
routes:
  - { path: /*, service: payments }
  - { path: /m/*, service: marketing }
`
const TOLD = ['x-consumer-id', 'x-consumer-tier', 'x-consumer-tenant']

const key = keyFile(t, 'ES256')
const rsa = keyFile(t, 'RS256')

async function passed(site: Site, line: string, ...fields: readonly string[]): Promise<Received> {
  const { responses } = await rawExchange(site.gateway.port, rawRequest(line, ...fields))
  if (responses[0]?.status !== 200) throw new Error(responses[0]?.head)
  return (line.includes('/m/') ? site.marketing : site.payments).received.at(-1)!
}

const told = ({ values }: Pick<Received, 'values'>) => TOLD.map((name) => values(name))

/** Verifies a token with the key, and returns its parts. */
function read(token: string | undefined) {
  const [head, claims, signature] = token!.split('.') as [string, string, string]
  const by = { key: key.publicKey, dsaEncoding: 'ieee-p1363' } as const
  const good = verify('sha256', Buffer.from(`${head}.${claims}`), by, Buffer.from(signature, 'base64url'))
  if (!good) throw new Error('a bad signature')
  const part = (text: string) => JSON.parse(Buffer.from(text, 'base64url').toString())
  return { head: part(head), claims: part(claims) }
}

t.test('upstreams of services that ask for it get id, tier and tenant', async (t) => {
  const site = await startSite(t, SITE)
  t.same(told(await passed(site, 'GET /', 'X-Api-Key: key-of-acme')), [['acme'], ['pro'], ['group']])
  t.same(told(await passed(site, 'GET /', 'X-User-Id: alice')), [['alice'], ['free'], []])
  t.same(told(await passed(site, 'GET /', 'X-User-Id: bob', 'X-Org: b')), [['bob'], ['free'], ['b']])
  t.same(told(await passed(site, 'GET /')), [[], ['free'], []], 'an address is no id')
  t.same(told(await passed(site, 'GET /m/', 'X-Api-Key: key-of-acme')), [[], [], []])
})

t.test('an id can neither end a field nor look like another', async (t) => {
  const site = await startSite(t, SITE)
  const sent = async (id: string) => (await passed(site, 'GET /', `X-User-Id: ${id}`)).values(TOLD[0]!)
  t.same(await sent('a b'), ['a%20b'])
  t.same(await sent('a%20b'), ['a%2520b'])
  t.same(await sent('a\xe4'), ['a%C3%A4'])
  t.same(await sent('a,b;c="d"'), ['a,b;c="d"'])
})

t.test('no spelling of these fields reaches an upstream from a client', async (t) => {
  const site = await startSite(
    t,
    SITE.replace('identity: headers', `identity: { jwt: { key: ${key.file} } }`),
  )
  const names = [...TOLD, 'x-tidegate-identity']
  const spelling = fc
    .constantFrom(...names)
    .chain((name) =>
      fc
        .array(fc.tuple(fc.boolean(), fc.boolean()), { minLength: name.length, maxLength: name.length })
        .map((marks) =>
          [...name]
            .map((letter, i) =>
              letter === '-' && marks[i]![0] ? '_' : marks[i]![1] ? letter.toUpperCase() : letter,
            )
            .join(''),
        ),
    )
  const field = fc.tuple(spelling, fc.constantFrom('', ' ', '\t'))
  await fc.assert(
    fc.asyncProperty(
      fc.array(field, { minLength: 1, maxLength: 8 }),
      fc.constantFrom('/', '/m/'),
      fc.boolean(),
      async (fields, path, known) => {
        const lines = fields.map(([name, blank]) => `${name}:${blank}mallory`)
        const who = known ? ['X-User-Id: alice'] : []
        const got = await passed(site, `GET ${path}`, ...lines, ...who)
        t.notOk(got.rawHeaders.includes('mallory'), lines.join(' | '))
        if (path === '/') {
          t.same(told(got), [known ? ['alice'] : [], ['free'], []])
          t.equal(read(got.values('x-tidegate-identity')[0]).claims.sub, known ? 'alice' : undefined)
        }
      },
    ),
    { numRuns: 60 },
  )
  const http2 = await http2Client(t, site.gateway.origin)
  await http2.ask('/', { 'x-consumer-id': 'mallory', x_consumer_tier: 'mallory', 'x-user-id': 'alice' })
  t.same(told(site.payments.received.at(-1)!), [['alice'], ['free'], []])
  for (const name of ['x-consumer-id', 'X-Consumer-Tier', 'x-tidegate-identity']) {
    const { responses } = await rawExchange(
      site.gateway.port,
      rawRequest('GET /', `Connection: close, ${name}`),
    )
    t.equal(responses[0]!.status, 400, 'Connection may not take them away')
  }
})

t.test("a gateway behind a gateway believes the first one's identity, and writes it anew", async (t) => {
  const inner = SITE.replace(
    'name: x-user-id, tenant: x-org',
    'name: x-consumer-id, tenant: x-consumer-tenant',
  )
  const site = await startSite(t, inner)
  const sent = ['X-Consumer-Id: alice', 'X-Consumer-Tenant: group', 'X-Consumer-Tier: enterprise']
  t.same(told(await passed(site, 'GET /', ...sent)), [['alice'], ['free'], ['group']])
  const passedOn = await passed(site, 'GET /m/', ...sent)
  t.same(told(passedOn), [['alice'], [], ['group']], 'as it was verified; the tier was not')
})

t.test('each consumer gets a token, and the admin server publishes the keys', async (t) => {
  const jwt = `{ key: ${key.file}, issuer: "https://gw.example", ttl: 2m, publish: [${rsa.file}] }`
  const yaml = SITE.replace('identity: headers', `identity: { headers: false, jwt: ${jwt} }`)
  const site = await startSite(t, yaml)
  const got = await passed(site, 'GET /', 'X-Api-Key: key-of-acme')
  const [token] = got.values('x-tidegate-identity')
  t.same(told(got), [[], [], []])
  const { head, claims } = read(token)
  t.match(claims, {
    iss: 'https://gw.example',
    aud: 'payments',
    sub: 'acme',
    tier: 'pro',
    tenant: 'group',
    identified_by: 'api_key',
  })
  t.equal(claims.exp - claims.iat, 120)
  t.ok(Math.abs(claims.iat - Date.now() / 1000) < 30)
  const again = await passed(site, 'GET /', 'X-Api-Key: key-of-acme')
  t.same(again.values('x-tidegate-identity'), [token], 'the same for a while')

  const admin = await startAdmin(t, {
    config: {
      current: () => snapshotOf(yaml.replace(/PAYMENTS|MARKETING/g, 'http://127.0.0.1:9001')),
      status: () => ({}),
      reload: () => Promise.resolve({ result: 'unchanged' }),
    },
    access: accessOf({ token: 'the-token-of-the-admin-api' }),
  })
  const { status, headers, json } = await admin.call('GET', '/jwks.json')
  t.match([status, headers['content-type']], [200, /^application\/jwk-set\+json/])
  t.equal(json.keys[0].kid, head.kid)
  t.match(json.keys, [
    { kty: 'EC', crv: 'P-256', use: 'sig', alg: 'ES256' },
    { kty: 'RSA', use: 'sig', alg: 'RS256' },
  ])
  for (const one of json.keys) t.notOk('d' in one || 'p' in one, 'nothing private')
})

t.test("in Authorization the token replaces the client's, for this service only", async (t) => {
  const jwt = `{ key: ${key.file}, header: Authorization }`
  const site = await startSite(t, SITE.replace('identity: headers', `identity: { jwt: ${jwt} }`))
  const sent = ['Authorization: Basic eDp5', 'authorization: Bearer mallory', 'X-User-Id: alice']
  const [value, ...more] = (await passed(site, 'GET /', ...sent)).values('authorization')
  t.same(more, [])
  t.equal(read(value?.replace('Bearer ', '')).claims.sub, 'alice')
  t.same((await passed(site, 'GET /m/', ...sent)).values('authorization'), ['Basic eDp5', 'Bearer mallory'])
})

t.test('a mirrored request gets the identity headers of its own service', async (t) => {
  const site = await startSite(
    t,
    SITE.replace(
      '[MARKETING] }',
      `[MARKETING], identity: { headers: false, jwt: { key: ${key.file} } } }`,
    ).replace(
      '{ path: /*, service: payments }',
      '{ path: /*, service: payments, mirror: { service: marketing } }',
    ),
  )
  const got = await passed(site, 'GET /', 'X-User-Id: alice')
  await eventually('the copy has come', () => site.marketing.received.length === 1)
  const copy = site.marketing.received[0]!
  t.same(
    [told(got), told(copy)],
    [
      [['alice'], ['free'], []],
      [[], [], []],
    ],
  )
  t.same(got.values('x-tidegate-identity'), [])
  t.match(read(copy.values('x-tidegate-identity')[0]).claims, { aud: 'marketing', sub: 'alice' })
})

t.test('WebSocket and HTTP/2 upstreams get them, too', async (t) => {
  const chat = await startChat(t)
  const h2 = await http2Upstream(t)
  const gateway = await startGateway(
    t,
    SITE.replace('PAYMENTS', chat.origin)
      .replace('[MARKETING]', `[${h2.origin}], protocol: http2, identity: headers`)
      .replace('{ path: /*, service: payments }', '{ path: /*, service: payments, websocket: true }'),
  )
  await rawExchange(gateway.port, rawRequest('GET /m/', 'X-User-Id: alice', 'X-Consumer-Tier: pro'))
  t.same(told(h2.received[0]!), [['alice'], ['free'], []])

  const open = rawExchange(
    gateway.port,
    handshake('/room', { 'X-User-Id': 'alice', X_Consumer_Id: 'mallory' }),
  )
  if (chat.handshakes.length === 0) await once(chat.server, 'connection')
  const { rawHeaders } = chat.handshakes[0]!
  for (const socket of chat.sockets) socket.close()
  await open
  t.equal(rawHeaders[rawHeaders.indexOf('X-Consumer-Id') + 1], 'alice')
  t.notOk(rawHeaders.includes('mallory'))
})
