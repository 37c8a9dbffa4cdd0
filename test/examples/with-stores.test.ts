import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { signed } from '../support/credentials/signing.js'
import { eventually } from '../support/eventually.js'
import { ask, startExample, statusesOf } from '../support/gateway/example.js'
import { startBackend, storeUp, tally } from '../support/gateway/process.js'
import { ROOT } from '../support/pages.js'
import { noPostgres, startPostgres } from '../support/postgres/postgres.js'
import { hasRedisServer, ownRedis } from '../support/redis/redis.js'
import { startRedisCluster } from '../support/redis/redis-cluster.js'
import { scratchFolder } from '../support/scratch.js'

/** Starts the examples that need Redis or PostgreSQL, and sees what each of them promises. */

t.jobs = 3

const ACME = { 'x-api-key': 'acme-demo-key' }
/** Longer than a busy machine takes: a decision without Redis counts apart. */
const PATIENT = '10s'
const noRedis = !hasRedisServer && 'no redis-server on the PATH'

t.test(
  'plans-from-postgres: the table says which plan, and a changed row counts at once',
  { skip: noPostgres },
  async (t) => {
    const [api, postgres] = await Promise.all([startBackend(t), startPostgres(t)])
    await postgres.query(readFileSync(join(ROOT, 'examples/plans-from-postgres/plans.sql'), 'utf8'))
    const { address } = await startExample(t, 'plans-from-postgres/tidegate.yaml', {
      API_URL: api.origin,
      DATABASE_URL: `postgres://tidegate_reader@127.0.0.1:${postgres.port}/postgres`,
    })
    const quota = async (name: string) =>
      (await ask(address, { 'x-api-key': `${name}-demo-key` })).headers['ratelimit-policy']
    // A busy database may not answer the first request within `timeout`: it goes on without a plan.
    await eventually('acme is on its plan', async () => (await quota('acme')) === '"minute";q=100;w=60')
    t.equal(await quota('globex'), '"minute";q=10;w=60', 'the table does not have it')
    await postgres.query("INSERT INTO plans VALUES ('globex', 'enterprise')")
    await eventually('globex is on its plan', async () => (await quota('globex')) === '"minute";q=1000;w=60')
    await postgres.stop()
    t.equal(await quota('acme'), '"minute";q=100;w=60', 'the database is down')
  },
)

t.test(
  'redis-cluster: gateways share their counts, and go on without a node',
  { skip: noRedis },
  async (t) => {
    const [api, nodes] = await Promise.all([startBackend(t), startRedisCluster(t, 3)])
    const env = {
      API_URL: api.origin,
      REDIS_TIMEOUT: PATIENT,
      ...Object.fromEntries(
        nodes.map(({ proxy }, i) => [`REDIS_${i + 1}`, `redis://127.0.0.1:${proxy.port}`]),
      ),
    }
    const gateways = await Promise.all([1, 2].map(() => startExample(t, 'redis-cluster.yaml', env)))
    await Promise.all(gateways.map(storeUp))
    const statuses = await Promise.all(gateways.map(({ address }) => statusesOf(10, address)))
    t.strictSame(tally(statuses.flat()), { 200: 10, 429: 10 })
    for (const { redis } of nodes) {
      await redis.stop()
      for (const { address } of gateways) t.equal((await ask(address, ACME)).status, 200)
    }
  },
)

t.test('production: what its comments promise holds', { skip: noRedis }, async (t) => {
  const [redis, payments, reports, collector] = await Promise.all([
    ownRedis(t),
    startBackend(t, (req, res) => {
      res.statusCode = req.headers['x-fail'] === undefined ? 200 : 503
      res.end()
    }),
    startBackend(t, (_, res) => void res.setHeader('x-report-cost', '7').end()),
    startBackend(t),
  ])
  const folder = scratchFolder(t, 'tidegate-production-')
  const secret = 'the secret that acme shares with us, long enough'
  const tokens = {
    deploy: 'the-token-of-the-deployment-1',
    support: 'the-token-of-the-support-desk-2',
    prometheus: 'the-token-of-prometheus-3',
  }
  const gateway = await startExample(t, 'production.yaml', {
    DEPLOY_TOKEN: tokens.deploy,
    SUPPORT_TOKEN: tokens.support,
    PROMETHEUS_TOKEN: tokens.prometheus,
    ACME_SECRET: secret,
    REDIS_URL: redis.url,
    REDIS_TIMEOUT: PATIENT,
    PAYMENTS_URL_1: payments.origin,
    PAYMENTS_URL_2: payments.origin.replace('127.0.0.1', 'localhost'),
    REPORTS_URL: reports.origin,
    TRACES_URL: `${collector.origin}/v1/traces`,
    USAGE_SPOOL: join(folder, 'usage'),
    USAGE_FILE: join(folder, 'usage.jsonl'),
    ACCESS_LOG: join(folder, 'access.log'),
    SHUTDOWN_DELAY: '0s',
  })
  const { address, admin } = gateway
  await storeUp(gateway)
  const asAdmin = async (token: string, path: string, method = 'GET', body?: object) => {
    const response = await fetch(`${admin}${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      ...(body && { body: JSON.stringify(body) }),
    })
    return { status: response.status, text: await response.text() }
  }
  const keyOf = async (consumer: string, tier: string, scopes: string[]) => {
    const made = await asAdmin(tokens.deploy, '/keys', 'POST', { consumer, tier, scopes })
    return { 'x-api-key': (JSON.parse(made.text) as { key: string }).key }
  }
  const shop = await keyOf('shop', 'sandbox', ['payments:read', 'payments:write'])
  const post = (path: string, headers: Record<string, string>) =>
    ask(`${address}${path}`, headers, { method: 'POST' })

  t.test('credentials, scopes and signatures', async (t) => {
    t.equal((await ask(`${address}/v1/ping`)).status, 200, 'needs none')
    t.equal((await post('/v1/payments', {})).status, 401)
    t.equal((await post('/v1/payments', await keyOf('reader', 'sandbox', ['payments:read']))).status, 403)
    t.equal((await post('/v1/refunds', shop)).status, 401, 'a key is not enough')
    const host = new URL(address).host
    const lines = [
      ['@method', 'POST'],
      ['@authority', host],
      ['@path', '/v1/refunds'],
      ['@query', '?'],
    ] as const
    const [input, one, signature, two] = signed(lines, { secret, keyid: 'acme-2026', more: ';nonce="n1"' })
    const refund = { [input]: one, [signature]: two }
    const first = await post('/v1/refunds', refund)
    t.match(first, { status: 200, headers: { 'ratelimit-policy': /"tenant-minute";q=6000;w=60/ } })
    t.equal((await post('/v1/refunds', refund)).status, 401, 'a copied request is worth nothing')
    t.match(payments.requests.at(-1)!.headers, { 'x-consumer-id': 'acme', 'x-consumer-tenant': 'acme-group' })
  })

  t.test('quotas: strict, refunded, by what the backend says, and not for our own job', async (t) => {
    const buyer = await keyOf('buyer', 'sandbox', ['payments:write'])
    t.match(await post('/v1/payments', buyer), { status: 200, headers: { ratelimit: /"minute";r=29/ } })
    t.match(await post('/v1/payments', { ...buyer, 'x-fail': '1' }), { status: 503 })
    t.match(
      await post('/v1/payments', buyer),
      { headers: { ratelimit: /"minute";r=28/ } },
      'a failed payment takes nothing',
    )
    const rest = await Promise.all(Array.from({ length: 30 }, () => post('/v1/payments', buyer)))
    t.strictSame(tally(rest.map(({ status }) => status)), { 200: 28, 429: 2 })
    const report = await ask(`${address}/v1/reports/1`, shop)
    t.match(report, { status: 200, headers: { 'x-report-cost': undefined } })
    await eventually('the cost that the backend named is counted', async () =>
      /"used":7,/.test((await asAdmin(tokens.prometheus, '/usage/reports/shop')).text),
    )
    const own = await ask(
      `${address}/v1/payments/1`,
      await keyOf('reconciliation', 'sandbox', ['payments:read']),
    )
    t.match(own, { status: 200, headers: { ratelimit: undefined } })
  })

  t.test('the admin port: a token each, with its role', async (t) => {
    t.equal((await ask(`${admin}/metrics`)).status, 401)
    t.equal((await asAdmin(tokens.prometheus, '/metrics')).status, 200)
    t.equal(
      (await asAdmin(tokens.prometheus, '/consumers/shop/tier', 'PUT', { tier: 'standard' })).status,
      403,
    )
    t.equal(
      (await asAdmin(tokens.support, '/consumers/upgraded/tier', 'PUT', { tier: 'standard' })).status,
      200,
    )
    t.equal((await asAdmin(tokens.support, '/config/reload', 'POST')).status, 403)
  })

  t.test('without Redis payments go on, and each is billed', async (t) => {
    await redis.stop()
    t.equal((await post('/v1/payments', shop)).status, 200)
    t.equal(await gateway.stop('SIGTERM'), 0)
    const events = readFileSync(join(folder, 'usage.jsonl'), 'utf8').trim().split('\n')
    const data = events.map((line) => JSON.parse(line).data)
    t.match(
      data.find(({ consumer, route }) => consumer === 'acme' && route.includes('refunds')),
      { requests: 1, cost: 5 },
    )
    t.ok(
      data.some(({ consumer, local }) => consumer === 'shop' && local === 1),
      'marked as decided without Redis',
    )
    t.match(readFileSync(join(folder, 'access.log'), 'utf8'), '"consumer":"acme"')
  })
})
