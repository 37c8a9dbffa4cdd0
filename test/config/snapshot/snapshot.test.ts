// Tests src/config/snapshot/key-owner.ts
// Tests src/config/snapshot/{compress,consumers,cors,costs,freeze,hash,limit-names,route-auth}.ts
// Tests src/config/snapshot/upstream-settings.ts
import { readFileSync } from 'node:fs'
import t from 'tap'
import { formatError, loadConfig } from '../../../src/config/load/load.js'
import { compileSnapshot, type Snapshot } from '../../../src/config/snapshot/snapshot.js'
import { snapshotOf } from '../../support/gateway/gateway.js'

const full = readFileSync(new URL('../../fixtures/config-full.yaml', import.meta.url), 'utf8')
const env = {
  PORT: '8443',
  ADMIN_TOKEN: 'a-token-of-the-admin-server',
  REDIS_PASSWORD: 's3cret',
  MAX_KEYS: '77',
  ACME_KEY: 'the-key-of-acme',
  OTLP_TOKEN: 'abc',
  JWT_SECRET: 'a-secret-of-an-issuer-in-32-bytes',
}

function compile(text: string, loadedAt = 0): Snapshot {
  const result = loadConfig(text, { file: 'test.yaml', env })
  if (!result.ok) throw new Error(result.errors.map(formatError).join('\n'))
  return compileSnapshot(result.config, loadedAt)
}

t.test('services have parsed upstreams, policies by tier, the policy header and key parts', async (t) => {
  const [payments, open, marketing] = compile(full).services
  t.match(payments, {
    index: 0,
    name: 'payments',
    upstreams: [
      { origin: 'http://10.0.0.1:9001', host: '10.0.0.1:9001', basePath: '/base' },
      { origin: 'http://[::1]:9001', host: '[::1]:9001', basePath: '' },
      { origin: 'http://payments.internal', host: 'payments.internal', basePath: '' },
    ],
    onFailure: 'closed',
    policies: [
      {
        limits: [{ name: 'minute', amount: 10, windowMs: 60_000, algorithm: 'sliding' }],
        parts: [{ keyPart: '1m' }],
        header: '"minute";q=10;w=60',
      },
      {
        limits: [
          { name: 'second', amount: 5, windowMs: 1000, algorithm: 'sliding' },
          { name: 'burst', amount: 100, windowMs: 30_000, algorithm: 'sliding' },
        ],
        parts: [{ keyPart: '1s30s' }],
        header: '"second";q=5;w=1, "burst";q=100;w=30',
      },
    ],
  })
  t.match(open, { index: 1, onFailure: 'local', policies: [undefined, undefined] })
  t.match(marketing?.policies, [
    { header: '"1500ms";q=1;w=2', parts: [{ by: 'consumer', keyPart: '1500ms' }] },
    undefined,
  ])
})

t.test('upstreams have weights, balancing, checks and ejection, each compiled once', async (t) => {
  const [payments, open, marketing, tokens] = compile(full).services
  t.strictSame(
    payments!.upstreams.map(({ weight }) => weight),
    [1, 1, 3],
  )
  t.match(payments, {
    balance: { kind: 'hash_header', header: 'x-session' },
    slowStart: 30_000,
    maxConnections: 64,
    maxTunnels: 1024,
    maxTunnelsPerClient: 256,
    maxWaiting: 10,
    maxWait: 500,
    outliers: { consecutive_failures: 3, interval: 5_000, ejection: 10_000 },
  })
  const { statuses, ...health } = payments!.health!
  t.strictSame(health, {
    path: '/healthz?deep=1',
    interval: 2_000,
    timeout: 1_000,
    healthyAfter: 1,
    unhealthyAfter: 5,
  })
  t.strictSame(
    [200, 204, 205, 299, 300, 399, 400].filter((status) => statuses.has(status)),
    [204, 300, 399],
  )
  t.match(open, { balance: { kind: 'hash_consumer' }, outliers: undefined, health: undefined })
  t.match(marketing!.balance, { kind: 'least_requests' })
  t.match(tokens, { balance: { kind: 'round_robin' }, outliers: { consecutive_failures: 5 } })
})

t.test('a key part has windows, not amounts, so a raised limit keeps what was used', async (t) => {
  const raised = compile(full.replace('10/min', '99/min'))
  t.equal(raised.services[0]?.policies[0]?.parts[0]?.keyPart, '1m')
  t.equal(compile(full.replace('10/min', '10/100ms')).services[0]?.policies[0]?.header, '"100ms";q=10;w=1')
})

t.test(
  "a tier's limits are parts by level, with candidates apart, and named by what they count",
  async (t) => {
    const policy = compile(full).services[3]?.policies[0]
    t.match(policy, {
      limits: [
        { name: 'ip-minute', algorithm: 'strict', by: 'ip', amount: 100, burst: 100, windowMs: 60_000 },
        { name: 'tenant-second', algorithm: 'token_bucket', by: 'tenant', amount: 10, burst: 20 },
        { name: 'tenant-second-share', by: 'tenant', amount: 2, burst: 5, shareOf: 'tenant-second' },
        {
          name: 'month',
          algorithm: 'calendar',
          windowMs: 31 * 86_400_000,
          calendar: { period: 'month', timeZone: 'Europe/Berlin' },
        },
        { name: 'concurrent', algorithm: 'concurrency', amount: 5, burst: 5, windowMs: 30_000 },
        { name: 'all', algorithm: 'fixed', by: 'service' },
      ],
      slots: true,
      refunds: true,
      candidate: {
        limits: [{ name: 'route-minute', by: 'route', amount: 50, algorithm: 'sliding' }],
        parts: [{ by: 'route', keyPart: 'candidate:route:1m' }],
        slots: false,
        refunds: true,
        candidate: undefined,
      },
    })
    t.same(
      policy?.parts.map(({ by, each, indices, keyPart }) => [by, each, indices, keyPart]),
      [
        ['ip', false, [0], 'ip:strict.1m'],
        ['consumer', false, [3, 4], 'month.Europe/Berlin+slots.30s'],
        ['tenant', true, [2], 'tenant:share:bucket.1s'],
        ['tenant', false, [1], 'tenant:bucket.1s'],
        ['service', false, [5], 'service:fixed.1m'],
      ],
    )
    t.same(
      policy?.alone?.limits.map(({ name }) => name),
      ['ip-minute', 'tenant-second', 'month', 'concurrent', 'all'],
      'a consumer without a tenant shares with nobody',
    )
    t.equal(policy?.alone?.candidate, policy?.candidate)
    t.match(compile(full).services[3]?.policies[1], { slots: false, refunds: true, candidate: undefined })
  },
)

t.test('defaults: a lease of a minute, midnight of UTC, a burst of the amount', async (t) => {
  const [concurrent, day, bucket] = compile(`
tiers: [free]
services:
  a:
    upstreams: [http://a]
    limits:
      free:
        - { amount: 5, algorithm: concurrency }
        - { amount: 33554431, algorithm: calendar, period: day }
        - { amount: 10, window: 1m, algorithm: token_bucket }
routes: [{ path: /*, service: a }]`).services[0]!.policies[0]!.limits
  t.match(concurrent, { windowMs: 60_000 })
  t.match(day, { name: 'day', windowMs: 86_400_000, calendar: { period: 'day', timeZone: 'UTC' } })
  t.match(bucket, { name: 'minute', burst: 10 })
})

t.test('a route knows who may set a cost, and when it is given back', async (t) => {
  const route = compile(full).routes[3]!
  t.match(route, { cost: 2, costFrom: { header: 'x-request-cost', max: 500 }, costHeader: 'x-token-cost' })
  t.same([...route.costFrom!.consumers], ['acme'])
  t.same(
    [...route.refundOn!].sort((a, b) => Number(a) - Number(b)),
    [404, ...Array.from({ length: 100 }, (_, i) => 500 + i)],
  )
})

t.test("a service's resilience settings are compiled to shares and ms", async (t) => {
  const [payments, , , tokens] = compile(full).services
  t.match(payments, {
    retries: { budget: 0.1, attempts: 1 },
    circuitBreaker: undefined,
    concurrency: undefined,
  })
  t.same(tokens!.retries, { budget: 0.2, attempts: 2 })
  t.same(tokens!.circuitBreaker, {
    errorRatio: 0.4,
    slowMs: Number.POSITIVE_INFINITY,
    slowRatio: 0.9,
    windowMs: 20_000,
    minRequests: 50,
    openMs: 10_000,
    probes: 5,
  })
  t.same(tokens!.concurrency, { initial: 50, min: 5, max: 400 })
  const small = compile(full.replace('initial: 50, min: 5, max: 400', 'max: 40'))
  t.same(small.services[3]!.concurrency, { initial: 40, min: 10, max: 40 }, 'begins where its bounds allow')
})

t.test('later tiers have higher classes, and equal priorities share one', async (t) => {
  const of = (tiers: string) => {
    const { priorities, classes } = compile(
      `tiers: [${tiers}]\nservices: { a: { upstreams: [http://a] } }\nroutes: [{ path: /*, service: a }]`,
    )
    return [...priorities, classes]
  }
  t.same(of('free, pro, enterprise'), [0, 1, 2, 3])
  t.same(of('free, { name: trial, priority: 0 }, pro'), [0, 0, 1, 2])
  t.same(of('{ name: a, priority: 900 }, { name: b, priority: 5 }, { name: c, priority: 5 }'), [1, 0, 0, 2])
})

t.test('a route refers to everything that a request needs', async (t) => {
  const { routes, services } = compile(full)
  t.same(routes[0], {
    index: 0,
    label: 'api.example.com,*.pay.example.com/payments/*',
    path: '/payments/*',
    hosts: ['api.example.com', '*.pay.example.com'],
    methods: ['GET', 'POST'],
    service: services[0],
    quotaOf: services[0],
    split: undefined,
    auth: undefined,
    shape: undefined,
    mirror: undefined,
    stripPrefix: '/payments',
    cost: 3,
    costFrom: undefined,
    refundOn: undefined,
    costHeader: undefined,
    allowEncoded: true,
    preserveHost: true,
    rewriteLocation: true,
    bodyLimit: 512,
    accessLog: false,
    timeouts: { total: 0, request: 2000, connect: 500, headers: 1000, idle: 2000 },
    websocket: { enabled: true, handshake: 3000, idle: 3_600_000 },
  })
  t.equal(routes[0]?.service, services[0])
  t.match(routes[1], { label: 'api.example.com/users/:id', hosts: ['api.example.com'], methods: [] })
  t.match(routes[2], { label: '/m', hosts: [], stripPrefix: '', bodyLimit: 1024 ** 3 })
})

t.test('consumers, tiers, identity headers and proxies are compiled', async (t) => {
  const snapshot = compile(full)
  t.same(snapshot.tiers, ['free', 'pro'])
  t.equal(snapshot.defaultTier, 1)
  t.same([snapshot.priorities, snapshot.classes], [[1, 0], 2], 'free has 7, and pro, by its place, 1')
  const [keys, signature, forward, header, jwt, ip] = snapshot.consumers
  if (forward?.kind !== 'forward') throw new Error('not a forward')
  t.match(forward, {
    headers: ['x-session'],
    always: false,
    check: {
      name: 'id.internal',
      path: '/verify',
      headers: ['x-session'],
      upstreamHeaders: ['x-auth-email'],
      identity: { id: 'x-auth-user', tier: 'x-auth-plan', tenant: 'x-auth-org' },
      allowedFor: 30_000,
      deniedFor: 500,
      by: [6],
      timeout: 2000,
      open: false,
      upstream: { origin: 'https://id.internal', tls: { serverName: 'id.example.com', verify: true } },
    },
  })
  const route = snapshot.routes.find(({ auth }) => auth?.forward !== undefined)
  t.match(route?.auth?.forward, {
    name: 'auth.internal:4180',
    path: '/check?deep=1',
    headers: ['x-entitlement'],
    upstreamHeaders: ['x-entitled'],
    identity: { id: 'x-entitled-user', tier: 'x-entitled-tier', tenant: 'x-entitled-org' },
    allowedFor: 60_000,
    deniedFor: 2000,
    by: [6, 2],
    timeout: 300,
    open: true,
  })
  t.same([...snapshot.sentHeaders], ['x-entitlement'])
  t.match(keys, { kind: 'api_key', header: 'x-key' })
  if (signature?.kind !== 'signature') throw new Error('not a signature')
  t.match(signature, { digest: false, maxAge: 60_000, leeway: 5000, nonceRequired: true, tag: 'payments' })
  t.equal(signature.accepted, 'sig=("@method" "@target-uri" "date");created;keyid;nonce;tag="payments"')
  t.match(
    [...signature.keys.values()].map(({ algorithm, owner }) => [algorithm, owner.consumer, owner.tier]),
    [
      ['hmac-sha256', 'acme', 1],
      ['hmac-sha256', 'acme', undefined],
      ['ed25519', 'bob', undefined],
    ],
  )
  if (header?.kind !== 'header') throw new Error('not a header')
  t.match(header, { header: 'x-user-id', tenant: 'x-tenant-id' })
  t.same(
    ['10.1.2.3', '::ffff:10.1.2.3', '10.2.0.1', '127.0.0.1'].map(header.believes),
    [true, true, false, false],
    'from: goes before trusted_proxies',
  )
  t.same(ip, { kind: 'ip', headers: [] })
  if (jwt?.kind !== 'jwt') throw new Error('not a jwt')
  const [fetched, inFile, shared] = jwt.issuers
  t.same(fetched, {
    issuer: 'https://id.example.com',
    audiences: ['api', 'https://api.example.com'],
    algorithms: ['ES256', 'Ed25519'],
    keys: { kind: 'jwks', url: 'https://id.example.com/jwks.json', refreshMs: 300_000 },
    leewayMs: 7_000,
    types: ['at+jwt', 'jwt'],
    requiredClaims: [
      { path: { name: 'email_verified', steps: ['email_verified'] }, values: ['true'] },
      { path: { name: 'level', steps: ['level'] }, values: ['3', '4'] },
      { path: { name: 'org', steps: ['org'] }, values: ['*'] },
    ],
    requiredScopes: ['orders:write'],
    id: { name: 'user.id', steps: ['user', 'id'] },
    idPrefix: 'id-',
    tier: { name: 'https://example.com/plan', steps: ['https://example', 'com/plan'] },
    tenant: { name: 'org.id', steps: ['org', 'id'] },
    scopes: { name: 'scp', steps: ['scp'] },
  })
  t.match(inFile, {
    algorithms: ['RS256', 'ES256', 'EdDSA'],
    keys: { kind: 'public', pems: [/BEGIN PUBLIC KEY/] },
    id: { name: 'sub' },
    scopes: { name: 'scope' },
    leewayMs: 60_000,
  })
  t.match(shared, { algorithms: ['HS256'], keys: { kind: 'secret', secret: env.JWT_SECRET } })
  if (keys?.kind !== 'api_key') throw new Error('not an api_key')
  t.same(
    [...keys.keys.values()],
    [
      { consumer: 'acme', tier: 1, tenant: 'acme-group', scopes: ['tokens:write'] },
      { consumer: 'demo', tier: undefined, tenant: undefined, scopes: undefined },
    ],
  )
  t.match([...keys.keys.keys()], [/^[0-9a-f]{64}$/, /^9f8cfdb1/])
  t.same(
    [...snapshot.identityHeaders],
    ['x-key', 'signature', 'signature-input', 'x-session', 'x-user-id', 'x-tenant-id', 'x-token'],
  )
  t.ok(snapshot.isTrustedProxy('::ffff:10.9.9.9'))
  t.notOk(snapshot.isTrustedProxy('203.0.113.1'))
  t.equal(compile(full.replace('default_tier: pro\n', '')).defaultTier, 0)
})

t.test('the router finds the routes', async (t) => {
  const snapshot = compile(full)
  t.equal(snapshot.match('GET', 'x.pay.example.com', '/payments/1'), snapshot.routes[0])
  t.equal(snapshot.match('GET', 'api.example.com', '/users/7'), snapshot.routes[1])
  t.same(snapshot.match('PUT', 'api.example.com', '/payments'), ['GET', 'HEAD', 'POST'])
  t.equal(snapshot.match('GET', 'elsewhere.org', '/payments'), undefined)
})

t.test('nothing in a snapshot can be changed', async (t) => {
  const snapshot = compile(full)
  const seen = new Set<unknown>()
  const check = (value: unknown, path: string) => {
    if (typeof value !== 'object' || value === null || seen.has(value)) return
    seen.add(value)
    if (!Object.isFrozen(value)) t.fail(`${path} is not frozen`)
    for (const [key, item] of Object.entries(value)) check(item, `${path}.${key}`)
    if (value instanceof Map) for (const [key, item] of value) check(item, `${path}.${key}`)
  }
  check(snapshot, 'snapshot')
  t.ok(seen.size > 50)
  const keys = snapshot.consumers[0] as unknown as { keys: Map<string, unknown> }
  t.throws(() => keys.keys.set('x', {}), /cannot be changed/)
  t.throws(() => keys.keys.clear(), /cannot be changed/)
  t.throws(() => (snapshot.identityHeaders as Set<string>).delete('x-key'), /cannot be changed/)
  t.ok(snapshot.identityHeaders.has('x-key'))
})

t.test('the hash leaves out where a gateway listens and writes, and what it is called', async (t) => {
  const of = (head: string) => {
    const { hash, fingerprint } = snapshotOf(`${head}
tiers: [free]
services: { api: { upstreams: [http://127.0.0.1:9001] } }
routes: [{ path: /*, service: api }]
`)
    return { hash, fingerprint }
  }
  const one = of('listen: 127.0.0.1:8080')
  for (const head of [
    'listen: 127.0.0.1:8090',
    'listen: 127.0.0.1:8080\nadmin: { listen: 127.0.0.1:9999 }',
    'listen: 127.0.0.1:8080\nlog: { access: /var/log/two.log }',
    'listen: 127.0.0.1:8080\ninstance: gw-2',
    'listen: 127.0.0.1:8080\ngroup: canary',
  ]) {
    const two = of(head)
    t.not(two.fingerprint, one.fingerprint, head)
    t.equal(two.hash, one.hash, head)
  }
  t.not(of('listen: 127.0.0.1:8080\nlog: { level: warn }').hash, one.hash)
})

t.test('the hash depends on the meaning of the configuration only', async (t) => {
  const { hash } = compile(full, 1)
  t.match(hash, /^[0-9a-f]{12}$/)
  t.equal(
    compile(`# a comment\n${full.replaceAll('30s', '"30s"')}`, 2).hash,
    hash,
    'neither comments nor spelling',
  )
  const open =
    '  open: { upstreams: [http://127.0.0.1:9002], balance: { hash: consumer }, outliers: false }\n'
  t.equal(
    compile(full.replace(open, '').replace('services:\n', `services:\n${open}`)).hash,
    hash,
    'the order of names does not matter',
  )
  t.not(compile(full.replace('10/min', '11/min')).hash, hash)
  const other = loadConfig(full, { file: 'test.yaml', env: { ...env, REDIS_PASSWORD: 'changed' } })
  t.not(other.ok && compileSnapshot(other.config, 0).hash, hash, 'secrets are part of it')
})
