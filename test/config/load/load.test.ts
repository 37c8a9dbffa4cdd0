// Tests src/config/load/{environment,read,read-scalar,yaml}.ts src/config/values/read-file.ts
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { formatError, loadConfig } from '../../../src/config/load/load.js'
import type { Config } from '../../../src/config/schema/schema.js'
import { compileSnapshot } from '../../../src/config/snapshot/snapshot.js'

const MINIMAL = `
tiers: [free]
services: { a: { upstreams: [http://127.0.0.1:9001] } }
routes: [{ path: /*, service: a }]
`

function load(text: string, env: NodeJS.ProcessEnv = {}): Config {
  const result = loadConfig(text, { file: 'test.yaml', env })
  if (!result.ok) throw new Error(result.errors.map(formatError).join('\n'))
  return result.config
}

function warnings(text: string): string[] {
  const result = loadConfig(text, { file: 'test.yaml', env: {} })
  return result.warnings.map(formatError)
}

t.test('the smallest file gets every default', async (t) => {
  t.same(load(MINIMAL), {
    listen: { host: '0.0.0.0', port: 8080 },
    admin: { listen: { host: '127.0.0.1', port: 8081 }, tokens: [] },
    store: {
      timeout: 100,
      on_failure: 'open',
      max_keys: 1_000_000,
      batch: 64,
      merge: true,
      gather: 'auto',
      denials: 10_000,
      own_connection: true,
    },
    tiers: [{ name: 'free' }],
    consumers: [{ ip: {} }],
    tier_sources: [],
    trusted_proxies: [],
    trusted_headers: [],
    edge: { deny: [], allow: [], action: 'refuse' },
    services: {
      a: {
        protocol: 'http1',
        upstreams: ['http://127.0.0.1:9001'],
        balance: 'round_robin',
        slow_start: 0,
        max_connections: 128,
        max_tunnels: 1024,
        max_waiting: 1000,
        max_wait: 1000,
        outliers: {
          enabled: true,
          consecutive_failures: 5,
          failure_ratio: 50,
          min_requests: 20,
          interval: 10_000,
          ejection: 30_000,
          max_ejected: 50,
        },
        show_decided_by: false,
        retries: { budget: 10, attempts: 1 },
      },
    },
    routes: [
      {
        path: '/*',
        service: 'a',
        cost: 1,
        body_limit: 1024 ** 3,
        access_log: true,
        allow_encoded: false,
        rewrite_location: true,
        preserve_host: false,
        timeouts: { total: 300_000, request: 60_000, connect: 2000, headers: 30_000, idle: 30_000 },
        websocket: { enabled: false, handshake: 10_000, idle: 300_000 },
      },
    ],
    telemetry: {},
    decisions: { keep: 10_000, sample: 0.01 },
    log: { level: 'info', access: 'stdout', sample: 1, max_errors: 1000 },
    server: {
      header_timeout: 10_000,
      keep_alive: 72_000,
      http2: {
        enabled: false,
        max_concurrent_streams: 100,
        max_session_memory: 10 * 1024 * 1024,
        reset_burst: 100,
        reset_rate: 33,
      },
      plain_path: { requests: true, tls: true, responses: true },
      max_connections: 10_000,
      shutdown_delay: 5000,
      shutdown_grace: 30_000,
      max_headers: 100,
      max_header_size: 16 * 1024,
      slow_read: 30_000,
      min_rate: 240,
      min_rate_grace: 5000,
      max_pipelined: 32,
      max_requests_per_connection: 0,
      proxy_protocol: false,
      max_connections_per_client: 1000,
      shed: { event_loop_delay: 200, heap: 85, exit_heap: 95 },
    },
  })
})

t.test('the example is valid and gives no warning', async (t) => {
  const text = readFileSync(new URL('../../../config/tidegate.yaml', import.meta.url), 'utf8')
  const result = loadConfig(text, { file: 'config/tidegate.yaml', env: {} })
  t.match(result, { ok: true, warnings: [] })
  t.match(text, /^# yaml-language-server: \$schema=\.\/schema\.json\n/)
})

t.test('every way to write a limit gives the same form', async (t) => {
  const limits = (written: string) =>
    load(`tiers: [free]
services: { a: { upstreams: [http://a], limits: { free: ${written} } } }
routes: [{ path: /*, service: a }]`).services.a?.limits?.free
  const plain = { algorithm: 'sliding', by: 'consumer', candidate: false }
  const minute = { amount: 10, window: 60_000, ...plain }
  t.same(limits('10/min'), [minute])
  t.same(limits('[10/min]'), [minute])
  t.same(limits('{ amount: 10, window: 1m }'), [minute])
  t.same(limits('{ amount: 10, window: 60s, algorithm: sliding }'), [minute])
  t.same(limits('[{ amount: 10, window: 1m, name: burst }, 5/s]'), [
    { name: 'burst', ...minute },
    { amount: 5, window: 1000, ...plain },
  ])
  t.same(limits('{ amount: 5, algorithm: concurrency, by: ip }'), [
    { ...plain, amount: 5, algorithm: 'concurrency', by: 'ip' },
  ])
  t.equal(limits('unlimited'), 'unlimited')
  t.same(limits('7/30s'), [{ ...minute, amount: 7, window: 30_000 }])
  t.same(limits('7/100ms'), [{ ...minute, amount: 7, window: 100 }])
  t.same(limits('7/h'), [{ ...minute, amount: 7, window: 3_600_000 }])
  t.same(limits('7/day'), [{ ...minute, amount: 7, window: 86_400_000 }])
  t.same(limits('33554431/s'), [{ ...minute, amount: 33_554_431, window: 1000 }])
})

t.test('a listen address has any host, IPv6 in brackets, and may have port 0', async (t) => {
  const listen = (written: string) => load(`listen: "${written}"\n${MINIMAL}`).listen
  t.same(listen('[::]:8080'), { host: '::', port: 8080 })
  t.same(listen('localhost:0'), { host: 'localhost', port: 0 })
  t.same(listen('127.0.0.1:65535'), { host: '127.0.0.1', port: 65_535 })
})

t.test('an admin server on the loopback needs no token, however it is spelled', async (t) => {
  for (const host of ['127.0.0.1', '127.8.8.8', '[::1]', 'localhost']) {
    t.ok(load(`admin: { listen: "${host}:9000" }\n${MINIMAL}`), host)
  }
  const token = 'a-token-of-sixteen-or-more'
  t.equal(load(`admin: { listen: "0.0.0.0:9000", token: ${token} }\n${MINIMAL}`).admin.token, token)
})

t.test('only the SHA-256 of a key is kept', async (t) => {
  const config = load(
    `consumers:
  - api_key:
      keys:
        - { key: "\${ACME_KEY}", consumer: acme, tier: free }
        - { sha256: 1FBFD5E2A34698DEB796EB78ADD256A067EC065519B8329B1EB85F5E2EF906D4, consumer: pro }
${MINIMAL}`,
    { ACME_KEY: 'demo-free-key' },
  )
  t.same(config.consumers, [
    {
      api_key: {
        header: 'x-api-key',
        store: { enabled: false, grace: 86_400_000 },
        keys: [
          {
            sha256: '9f8cfdb17116bf0e2a44e071454f25594cb9b8737bf331e6a2f0b30550572f29',
            consumer: 'acme',
            tier: 'free',
          },
          { sha256: '1fbfd5e2a34698deb796eb78add256a067ec065519b8329b1eb85f5e2ef906d4', consumer: 'pro' },
        ],
      },
    },
  ])
  t.notMatch(JSON.stringify(config), /demo-free-key/)
})

t.test('websocket may be true, false or a mapping', async (t) => {
  const websocket = (written: string) =>
    load(MINIMAL.replace('service: a }]', `service: a, websocket: ${written} }]`)).routes[0]?.websocket
  t.same(websocket('true'), { enabled: true, handshake: 10_000, idle: 300_000 })
  t.same(websocket('false'), { enabled: false, handshake: 10_000, idle: 300_000 })
  t.same(websocket('{ idle: 1h }'), { enabled: true, handshake: 10_000, idle: 3_600_000 })
})

t.test('plain_path may be true, false or a mapping of parts', async (t) => {
  const plain = (written: string) => load(`${MINIMAL}server: { plain_path: ${written} }\n`).server.plain_path
  t.same(plain('true'), { requests: true, tls: true, responses: true })
  t.same(plain('false'), { requests: false, tls: false, responses: false })
  t.same(plain('{ tls: false }'), { requests: true, tls: false, responses: true })
})

t.test('the environment can supply any value, whatever its type', async (t) => {
  const config = load(
    `listen: "\${HOST:-127.0.0.1}:\${PORT}"
store: { redis: "redis://:\${PASSWORD}@127.0.0.1:6379", max_keys: "\${KEYS}", timeout: "\${EMPTY:-7ms}" }
log: { access: "$\${PORT}/\${EMPTY}x" }
tiers: ["\${TIER}"]
services: { a: { upstreams: ["http://\${UPSTREAM}"], limits: { free: "\${LIMIT}" } } }
routes: [{ path: /*, service: a, access_log: "\${LOG}", websocket: "\${LOG}" }]
`,
    {
      PORT: '81',
      PASSWORD: 's3cret%40',
      KEYS: '5000',
      EMPTY: '',
      TIER: 'free',
      UPSTREAM: '127.0.0.1:1/base/',
      LIMIT: 'unlimited',
      LOG: 'false',
    },
  )
  t.same(config.listen, { host: '127.0.0.1', port: 81 })
  t.match(config.store, { redis: 'redis://:s3cret%40@127.0.0.1:6379', max_keys: 5000, timeout: 7 })
  // biome-ignore lint/suspicious/noTemplateCurlyInString: what `$${` stands for
  t.equal(config.log.access, '${PORT}/x')
  t.same(config.services.a?.upstreams, ['http://127.0.0.1:1/base'])
  t.equal(config.services.a?.limits?.free, 'unlimited')
  t.match(config.routes[0], { access_log: false, websocket: { enabled: false } })
})

t.test('a value of the environment is text, never structure or another reference', async (t) => {
  const text = `log: { access: "\${A}" }\n${MINIMAL}`
  t.equal(load(text, { A: 'x\ntiers: [pro]' }).log.access, 'x\ntiers: [pro]')
  t.equal(load(text, { A: '{ a: 1 }' }).log.access, '{ a: 1 }')
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the point of the test
  t.equal(load(text, { A: '${B}', B: 'never' }).log.access, '${B}')
  const inherited = loadConfig(text.replace('{A}', '{constructor}'), { file: 'f', env: process.env })
  t.match(inherited, { ok: false, errors: [{ message: /the environment has no constructor/ }] })
})

t.test('a share is a number from 0 to 1, in any YAML notation', async (t) => {
  const shareOf = (text: string) =>
    load(`${MINIMAL}telemetry: { traces: { sample: ${text} } }`).telemetry.traces!.sample
  t.same(['0', '0.0', '.5', '1e-3', '1', '"0.25"'].map(shareOf), [0, 0, 0.5, 0.001, 1, 0.25])
  for (const text of ['-1', '1.01', '5%', 'half', '0x1', '.inf', '.nan', '1e3'])
    t.throws(() => shareOf(text), text)
})

t.test('an alias replaces a whole value', async (t) => {
  const config = load(`
tiers: [free]
services:
  a: { upstreams: [http://a], limits: &standard { free: 10/min } }
  b: { upstreams: [http://b], limits: *standard }
routes:
  - { path: /a/*, service: a, timeouts: &slow { total: 1h } }
  - { path: /b/*, service: b, timeouts: *slow }
`)
  t.same(config.services.a?.limits, config.services.b?.limits)
  t.equal(config.routes[1]?.timeouts.total, 3_600_000)
})

t.test('names that every object has are ordinary names', async (t) => {
  const config = load(`
tiers: [constructor, valueof]
services: { constructor: { upstreams: [http://a], limits: { constructor: 1/s, valueof: unlimited } } }
routes: [{ path: /*, service: constructor }]
`)
  t.same(Object.keys(config.services), ['constructor'])
  t.equal(config.services.toString, undefined)
})

t.test('a Windows file with a byte order mark is read like any other', async (t) => {
  t.same(load(`\uFEFF${MINIMAL.replaceAll('\n', '\r\n')}`), load(MINIMAL))
})

t.test('warns of valid settings that are hardly meant', async (t) => {
  t.same(
    warnings(`trusted_proxies: [0.0.0.0/0]
tiers: [free]
services:
  a: { upstreams: [http://a], limits: { free: 10/min } }
  unused: { upstreams: [http://b] }
routes:
  - { path: /*, service: a }
  - { path: /dear, service: a, cost: 11 }
`),
    [
      'test.yaml:1:19: trusted_proxies[0]: 0.0.0.0/0 lets every client choose its own address; list only your proxies',
      'test.yaml:5:3: services.unused: no route leads to this service; add one, or remove it',
      'test.yaml:8:5: routes[1]: a cost of 11 is above 10/min of the tier "free": such a request never passes; lower the cost or raise the limit',
    ],
  )
})

t.test('a renamed key is read by its old name, with a warning', async (t) => {
  t.same(warnings(`explain: { keep: 5 }\n${MINIMAL}`), [
    'test.yaml:1:1: explain: is called decisions now; rename it',
  ])
  t.match(load(`explain: { keep: 5 }\n${MINIMAL}`), { decisions: { keep: 5, sample: 0.01 } })
  t.match(
    loadConfig(`explain: { keep: -1 }\n${MINIMAL}`, { file: 'test.yaml', env: {} }),
    { ok: false, errors: [{ line: 1, message: /^decisions\.keep: / }] },
    'errors in its value are reported, too',
  )
})

t.test('warns of unencrypted URLs whose responses could be replaced on the way', async (t) => {
  const at = (host: string) => `
tiers: [free]
admin:
  oidc: { issuer: https://id.example.com, audience: admin, jwks_url: "http://${host}/admin.json", roles: { a: viewer } }
consumers:
  - jwt: { issuer: https://id.example.com, audience: api, jwks_url: "http://${host}/jwks.json" }
tier_sources:
  - http: { name: a, url: "http://${host}/{consumer}", headers: { authorization: "${SECRET}" } }
  - http: { name: b, url: "http://${host}/plans?of={consumer}" }
services: { a: { upstreams: ["http://127.0.0.1:9001"], limits: { free: 10/min } } }
routes: [{ path: /*, service: a }]
`
  const keys = 'anyone on the network path can put in keys of their own; use https, or a private network'
  const said = warnings(at('id.internal'))
  t.same(said, [
    `test.yaml:4:70: admin.oidc.jwks_url: ${keys}`,
    `test.yaml:6:69: consumers[0].jwt.jwks_url: ${keys}`,
    'test.yaml:8:27: tier_sources[0].http.url: anyone on the network path can read the headers, and put consumers on any tier; use https, or a private network',
  ])
  t.notMatch(said.join(), SECRET)
  for (const host of ['127.0.0.1:1', '[::1]:1', 'localhost', 'LOCALHOST:80'])
    t.same(warnings(at(host)), [], host)
  t.same(warnings(at('x').replaceAll('http://x', 'https://x')), [])
})

t.test('warns of an unencrypted database connection over a network, unless sslmode allows it', async (t) => {
  const said = (url: string) =>
    warnings(`
tiers: [free]
consumers: [{ header: { name: x-user-id, from: [127.0.0.1] } }]
tier_sources:
  - postgres: { url: "${url}", query: SELECT tier FROM plans WHERE consumer = $1 }
services: { a: { upstreams: ["http://127.0.0.1:9001"], limits: { free: 10/min } } }
routes: [{ path: /*, service: a }]
`)
  const warned = [
    'test.yaml:5:22: tier_sources[0].postgres.url: without sslmode, anyone on the network path can read and change queries; add ?sslmode=verify-full, or sslmode=disable in a private network',
  ]
  t.same(said('postgres://u:hunter2@db.internal:5432/billing'), warned)
  t.same(said('postgresql://u:hunter2@[2001:db8::1]/billing?application_name=x'), warned)
  t.same(said('postgres:///billing?host=db.internal'), warned)
  for (const url of [
    'postgres://u:p@db.internal/billing?sslmode=verify-full',
    'postgres://u:p@db.internal/billing?sslmode=disable',
    'postgres://u:p@127.0.0.1/billing',
    'postgres://u:p@[::1]/billing',
    'postgres://u:p@localhost/billing',
    'postgres:///billing?host=/run/postgresql',
  ])
    t.same(said(url), [], url)
})

const SECRET = 'Bearer hunter2-hunter2'

t.test('warns of costs and levels that do not fit the rest of the file', async (t) => {
  t.same(
    warnings(`tiers: [free]
services:
  a:
    upstreams: [http://127.0.0.1:9001]
    limits:
      free:
        - { amount: 10, window: 1s, algorithm: token_bucket, burst: 20 }
        - { amount: 1000, algorithm: calendar, period: month, by: tenant }
        - { amount: 5, algorithm: concurrency }
        - { amount: 5, window: 1m, candidate: true }
routes:
  - { path: /a, service: a, cost: 20 }
  - { path: /b, service: a, cost: { header: x-cost, default: 21, consumers: [acme] } }
`),
    [
      'test.yaml:8:67: services.a.limits.free[1].by: no consumer has a tenant, so each counts as its own; give keys a tenant, or the header source a tenant header',
      'test.yaml:13:5: routes[1]: a cost of 21 is above 10/s token_bucket burst 20 of the tier "free": such a request never passes; lower the cost or raise the limit',
    ],
  )
})

t.test('any file is accepted, or refused with a place in it and no secret', async (t) => {
  const full = readFileSync(new URL('../../fixtures/config-full.yaml', import.meta.url), 'utf8')
  const env = {
    PORT: '1',
    ADMIN_TOKEN: 'hunter2-hunter2-hunter2',
    REDIS_PASSWORD: 'hunter2',
    ACME_KEY: 'hunter2-key',
    MAX_KEYS: '9',
    OTLP_TOKEN: 'hunter2',
    JWT_SECRET: 'hunter2-that-is-32-characters-long',
  }
  const scrap = fc.constantFrom(
    ...[
      '\t',
      '\n',
      ': ',
      '- ',
      '{',
      '}',
      '[',
      ']',
      '"',
      "'",
      '#',
      '&a ',
      '*a ',
      '!!x ',
      '|',
      '>',
      '? ',
      '---\n',
      '${',
      `\${X}`,
      '%',
    ],
    ...[
      '<<: ',
      'null',
      '~',
      '0',
      '-1',
      '1e999',
      '__proto__: ',
      'constructor',
      '\u0000',
      '\uD800',
      '\uFEFF',
      '.inf',
      ',',
    ],
  )
  const cut = fc.record({ at: fc.nat(full.length), length: fc.nat(40), put: fc.oneof(scrap, fc.string()) })
  let refused = 0
  fc.assert(
    fc.property(fc.array(cut, { minLength: 1, maxLength: 4 }), (cuts) => {
      let text = full
      for (const { at, length, put } of cuts) text = text.slice(0, at) + put + text.slice(at + length)
      const result = loadConfig(text, { file: 'f', env })
      if (result.ok) {
        compileSnapshot(result.config, 0).match('GET', 'x.pay.example.com', '/payments')
        return
      }
      refused++
      const lines = text.split(/\n/)
      if (result.errors.length === 0) throw new Error('refused without a word')
      for (const { line, column, message } of result.errors) {
        if (!(line >= 1 && line <= lines.length && column >= 1 && column <= lines[line - 1]!.length + 1)) {
          throw new Error(`${line}:${column} is not in the file`)
        }
        if (/hunter2|\n/.test(message)) throw new Error(`a secret or a second line in: ${message}`)
        if (!/; \S/.test(message)) throw new Error(`does not say what to do: ${message}`)
      }
    }),
    { numRuns: 300 },
  )
  t.ok(refused > 100, `${refused} of 300 were refused`)
})

t.test('a relative path starts at the folder of the configuration file', async (t) => {
  const folder = t.testdir({
    'deny.txt': '192.0.2.0/24\n',
    'issuer.pem': readFileSync('test/fixtures/issuer.pem', 'utf8'),
  })
  const yaml = (access: string) => `
tiers: [free]
store: { redis: "rediss://10.0.0.1", tls: { ca: redis/ca.pem } }
consumers: [{ jwt: { issuer: https://id.example.com, public_key: issuer.pem } }]
edge: { deny: [{ file: deny.txt }] }
services: { a: { upstreams: [http://127.0.0.1:9001] } }
routes: [{ path: /*, service: a }]
log: { access: ${access} }
`
  const of = (access: string, file = join(folder, 'tidegate.yaml')) => {
    const result = loadConfig(yaml(access), { file, env: {} })
    return result.ok ? result.config : result.errors.map(formatError)
  }
  t.match(of('logs/access.log'), {
    edge: { deny: [{ file: { file: join(folder, 'deny.txt') } }] },
    store: { tls: { ca: join(folder, 'redis/ca.pem') } },
    log: { access: join(folder, 'logs/access.log') },
  })
  t.match(of('/var/log/access.log'), { log: { access: '/var/log/access.log' } })
  for (const word of ['stdout', '"off"']) t.match(of(word), { log: { access: word.replaceAll('"', '') } })
  t.match(of('stdout', 'elsewhere.yaml'), [/"issuer\.pem" cannot be read/, /"deny\.txt" cannot be read/])
})
