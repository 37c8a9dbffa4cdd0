import { readFileSync } from 'node:fs'
import t from 'tap'
import { changesBetween } from '../../../src/config/load/diff.js'
import { formatError, loadConfig } from '../../../src/config/load/load.js'
import type { Config } from '../../../src/config/schema/schema.js'

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

function load(text: string, environment: NodeJS.ProcessEnv = env): Config {
  const result = loadConfig(text, { file: 'test.yaml', env: environment })
  if (!result.ok) throw new Error(result.errors.map(formatError).join('\n'))
  return result.config
}

function changes(from: string, to: string): readonly string[] {
  if (!full.includes(from)) throw new Error(`the fixture does not hold ${from}`)
  return changesBetween(load(full), load(full.replace(from, to))).map(({ text }) => text)
}

t.test('a change is described in the words of the file', async (t) => {
  const told: [from: string, to: string, change: string][] = [
    ['free: 10/min', 'free: 20/min', 'services.payments.limits.free: 10/min -> 20/min'],
    ['free: 10/min', 'free: unlimited', 'services.payments.limits.free: 10/min -> unlimited'],
    ['free: 10/min', 'free: [10/min, 1/s]', 'services.payments.limits.free: 10/min -> [10/min, 1/s]'],
    [
      'pro: [5/s,',
      'pro: [6/s,',
      'services.payments.limits.pro: [5/s, 100/30s "burst"] -> [6/s, 100/30s "burst"]',
    ],
    [
      'amount: 50, window: 1m, by: route',
      'amount: 60, window: 1m, by: route',
      'services.tokens.limits.free: [100/min strict by ip, 10/s token_bucket burst 20 by tenant share 0.25, 1000000/month in Europe/Berlin, 5 at once, 800/min fixed by service "all", 50/min by route (candidate)] -> [100/min strict by ip, 10/s token_bucket burst 20 by tenant share 0.25, 1000000/month in Europe/Berlin, 5 at once, 800/min fixed by service "all", 60/min by route (candidate)]',
    ],
    ['refund_on: [5xx, 404]', 'refund_on: [5xx]', 'routes[/t/*].refund_on: [5xx, 404] -> [5xx]'],
    ['max: 500', 'max: 600', 'routes[/t/*].cost.max: 500 -> 600'],
    [
      'cost: { header: X-Request-Cost, max: 500, default: 2, consumers: [acme] }',
      'cost: 7',
      'routes[/t/*].cost: { header: x-request-cost, max: 500, default: 2, consumers: [acme] } -> 7',
    ],
    [
      'total: 0',
      'total: 1m',
      'routes[GET,POST api.example.com,*.pay.example.com/payments/*].timeouts.total: 0 -> 1m',
    ],
    ['max_header_size: 8KiB', 'max_header_size: 16KiB', 'server.max_header_size: 8KiB -> 16KiB'],
    [
      'tiers: [{ name: free, priority: 7 }, { name: pro }]',
      'tiers: [pro, free]',
      'tiers: [{ name: free, priority: 7 }, pro] -> [pro, free]',
    ],
    ['budget: 20', 'budget: 0', 'services.tokens.retries.budget: 20 -> 0'],
    ['0.0.0.0:9000', '127.0.0.1:9000', 'admin.listen: 0.0.0.0:9000 -> 127.0.0.1:9000'],
    [
      'weight: 3',
      'weight: 2',
      'services.payments.upstreams: [http://10.0.0.1:9001/base, http://[::1]:9001, { url: http://payments.internal, weight: 3 }] -> [http://10.0.0.1:9001/base, http://[::1]:9001, { url: http://payments.internal, weight: 2 }]',
    ],
    [
      'balance: least_requests',
      'balance: { hash: { header: x-key } }',
      'services.marketing.balance: least_requests -> { hash: { header: x-key } }',
    ],
    ['sample: 0.05', 'sample: 1', 'telemetry.traces.sample: 0.05 -> 1'],
    ['interval: 2s,', 'interval: 3s,', 'services.payments.health.interval: 2s -> 3s'],
    ['outliers: false', 'outliers: true', 'services.open.outliers.enabled: false -> true'],
    ['leeway: 7s', 'leeway: 6s', 'consumers[4].jwt.issuers[0].leeway: 7s -> 6s'],
    ['default_tier: pro\n', '', 'default_tier: removed'],
    ['on_failure: closed', 'on_failure: open', 'services.payments.on_failure: closed -> open'],
    [
      'websocket: true, body_limit: 0',
      'body_limit: 0',
      'routes[api.example.com/users/:id].websocket.enabled: true -> false',
    ],
  ]
  for (const [from, to, change] of told) {
    t.same(changes(from, to), [change])
  }
})

t.test('a new route or key does not shift the others', async (t) => {
  t.same(changes('routes:\n', 'routes:\n  - { path: /new, service: open }\n'), ['routes[/new]: added'])
  t.same(changes('  - { path: /m, service: marketing, websocket: false }\n', ''), ['routes[/m]: removed'])
  const key = '        - { key: another, consumer: other }\n'
  t.same(changes('      keys:\n', `      keys:\n${key}`), ['consumers[0].api_key.keys[other]: added'])
})

t.test('services are added and removed by name', async (t) => {
  t.same(changes('services:\n', 'services:\n  new: { upstreams: [http://a] }\n'), ['services.new: added'])
})

t.test('secrets are masked, and a change of one is still reported', async (t) => {
  const other = {
    ...env,
    ADMIN_TOKEN: 'another-token-altogether',
    REDIS_PASSWORD: 'new',
    OTLP_TOKEN: 'def',
    JWT_SECRET: 'x'.repeat(32),
  }
  const told = changesBetween(load(full), load(full, other)).map(({ text }) => text)
  t.same(told, [
    'admin.token: *** -> ***',
    'store.redis: *** -> ***',
    'consumers[4].jwt.issuers[2].secret: *** -> ***',
    'tier_sources[0].postgres.url: *** -> ***',
    'tier_sources[1].http.headers.authorization: *** -> ***',
    'telemetry.otlp.headers.authorization: *** -> ***',
    'telemetry.traces.headers.authorization: *** -> ***',
  ])
  const added = changesBetween(
    load(full.replace(/0\.0\.0\.0:9000, token: [^ ]+/, '127.0.0.1:9000')),
    load(full),
  )
  t.same(
    added.map(({ text }) => text),
    ['admin.listen: 127.0.0.1:9000 -> 0.0.0.0:9000', 'admin.token: added (***)'],
  )
})

t.test('reports keys that are only read at the start', async (t) => {
  const restarts = (from: string, to: string) =>
    changesBetween(load(full), load(full.replace(from, to))).map(({ restart }) => restart)
  t.same(restarts('8KiB', '16KiB'), ['server'])
  t.same(restarts('0.0.0.0:9000', '127.0.0.1:9000'), ['admin.listen'])
  t.same(restarts('10/min', '20/min'), [undefined])
  t.same(restarts('timeout: 50ms', 'timeout: 60ms'), ['store.timeout'])
})

t.test('two equal configurations have no differences', async (t) => {
  t.same(changesBetween(load(full), load(full)), [])
})
