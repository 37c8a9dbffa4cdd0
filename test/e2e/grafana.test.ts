import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { Agent, request } from 'undici'
import { createAuthority } from '../support/credentials/authority.js'
import { createKey, startJwksServer } from '../support/credentials/issuer.js'
import { freePort } from '../support/free-port.js'
import { withPaths } from '../support/gateway/paths.js'
import { startBackend, startProcess } from '../support/gateway/process.js'
import { readPages } from '../support/pages.js'
import { ownRedis } from '../support/redis/redis.js'
import { alertRules, asGrafanaAsks, dashboards, read, shownQueries } from '../support/telemetry/grafana.js'
import { hasPrometheus } from '../support/telemetry/prometheus.js'
import { startScraping } from '../support/telemetry/scraping.js'

/**
 * Configures a gateway that shows everything the dashboards can show: TLS, a worker, mirrored requests, candidate limits, and a telemetry
 * endpoint that is down. The test then denies a consumer, kills and restores Redis, stops an upstream, makes a service fail, applies a
 * configuration and sends a bad one.
 */
const configFor = (
  o: Record<'admin' | 'redis' | 'good' | 'slow' | 'dies' | 'fails' | 'issuer' | 'cert' | 'key', string>,
  more = '',
) => `
listen: 127.0.0.1:0
admin: { listen: "${o.admin}" }
store: { redis: "${o.redis}", timeout: 2s }
tiers: [free, pro]
consumers:
  - api_key: { header: x-api-key, keys: [{ key: pro-key, consumer: pia, tier: pro }] }
  - header: { name: x-user-id, from: anyone }
  - jwt: { issuer: id.example.com, audience: api, jwks_url: "${o.issuer}" }
tier_sources:
  - http: { name: billing, url: "${o.good}/plans/{consumer}", timeout: 5s }
server:
  tls: { certificates: [{ cert: "${o.cert}", key: "${o.key}" }] }
  http2: true
  shed: { event_loop_delay: 60s }
services:
  open:
    upstreams: [${o.good}]
    limits:
      free: [1/h, { amount: 10, window: 1h, name: tried, candidate: true }]
      pro: 100000/h
  local: { upstreams: [${o.good}], on_failure: local, limits: { free: 2/h, pro: 100000/h } }
  closed: { upstreams: [${o.good}], on_failure: closed, limits: { free: 100000/h, pro: 100000/h } }
  two:
    upstreams: [${o.good}, ${o.dies}]
    health: { path: /healthz, interval: 200ms, timeout: 5s, unhealthy_after: 2 }
  broken:
    upstreams: [${o.fails}]
    circuit_breaker: { min_requests: 5, window: 1m, open: 5m }
  narrow: { upstreams: [${o.slow}], concurrency: { min: 1, max: 1 } }
  copy: { upstreams: [${o.good}] }
routes:
  - { path: /open/*, service: open, mirror: { service: copy } }
  - { path: /local/*, service: local }
  - { path: /closed/*, service: closed }
  - { path: /two/*, service: two }
  - { path: /broken/*, service: broken }
  - { path: /narrow/*, service: narrow }
telemetry:
  otlp: { url: http://127.0.0.1:9/v1/metrics, interval: 1s }
  traces: { sample: 1 }
log: { sample: 0.5 }
metering: { spool: { path: usage }, to: { file: { path: usage.jsonl } } }
${more}`

/** Alerts that must not fire, as their conditions never occur in this test. */
const QUIET = [
  'TidegateAbsent',
  'TidegateCertificateRejected',
  'TidegateChangesLag',
  'TidegateConfigDiffers',
  'TidegateConnectionsRejected',
  'TidegateDown',
  'TidegateFileDescriptors',
  'TidegateInternalErrors',
  'TidegateIssuerAway',
  'TidegateLogLinesDropped',
  'TidegateMeteringBehind',
  'TidegateRestarting',
  'TidegateServiceDown',
  'TidegateTierSourceDown',
  'TidegateWorkersCrash',
]

const name = hasPrometheus
  ? 'Prometheus answers every query of every panel and alert with what the load caused'
  : 'prometheus is not installed (Debian: apt-get install prometheus), so the queries met no real figures'
t.test(name, async (t) => {
  if (!hasPrometheus) {
    t.pass()
    return
  }
  const dying = createServer((_, response) => response.end('{}')).listen(0, '127.0.0.1')
  t.teardown(() => dying.close())
  /** Responses that wait until one of the requests behind them has been refused. */
  let kept: (() => void)[] | undefined
  const slowly = (answer: () => void) => (kept === undefined ? answer() : kept.push(answer))
  const [redis, good, slow, fails] = await Promise.all([
    ownRedis(t),
    startBackend(t),
    startBackend(t, (_, response) => void slowly(() => response.end('{}'))),
    startBackend(t, (_, response) => response.writeHead(500).end()),
  ])
  const issuer = await startJwksServer(t, [createKey('ed25519', 'k1').jwk])
  const authority = createAuthority(t)
  const options = {
    admin: `127.0.0.1:${await freePort()}`,
    redis: redis.url,
    good: good.origin,
    slow: slow.origin,
    fails: fails.origin,
    issuer: issuer.url,
    dies: `http://127.0.0.1:${(dying.address() as AddressInfo).port}`,
    ...authority.issue('gateway', 'IP:127.0.0.1'),
  }
  // Every alert with a delay fires at once.
  const rules = read('grafana/alerts.yml').replace(/^( +for:) \w+$/gm, '$1 0s')
  // Prometheus looks for its targets five seconds after its start; the gateway listens by then.
  const [gateway, prometheus] = await Promise.all([
    startProcess(t, configFor(options), {}, ['--workers', '1']),
    startScraping(t, options.admin, rules),
  ])
  const began = Date.now() / 1000

  const agent = new Agent({ connect: { rejectUnauthorized: false }, connections: 8 })
  t.teardown(() => agent.destroy())
  const seen = { total: 0, statuses: new Map<number, number>(), denied: 0, deniedOpen: 0, letThrough: 0 }
  const ask = async (path: string, user: string): Promise<{ status: number; counted: boolean }> => {
    const { statusCode, headers, body } = await request(`${gateway.address}${path}`, {
      dispatcher: agent,
      headers: user === 'pro' ? { 'x-api-key': 'pro-key' } : { 'x-user-id': user },
    })
    await body.dump()
    const counted = headers.ratelimit !== undefined
    seen.total++
    seen.statuses.set(statusCode, (seen.statuses.get(statusCode) ?? 0) + 1)
    if (statusCode === 429) seen.denied++
    if (path.startsWith('/open/')) {
      if (statusCode === 429) seen.deniedOpen++
      if (statusCode === 200 && !counted) seen.letThrough++
    }
    return { status: statusCode, counted }
  }
  const times = <T>(count: number, one: (i: number) => Promise<T>) =>
    Promise.all(Array.from({ length: count }, (_, i) => one(i)))
  /** Requests of one consumer in turn: the store allows the first and denies the second; the gateway denies the third from memory. */
  const limited = async (user: string) => {
    for (let i = 0; i < 3; i++) await ask('/open/x', user)
  }

  // One request of each kind before the first scrape, so that all that follows shows as an increase.
  await limited('first')
  for (const service of ['open', 'local', 'closed', 'two', 'two', 'narrow', 'broken'])
    await ask(`/${service}/x`, 'pro')
  await ask('/nowhere', 'pro')
  const warm = await prometheus.scraped()
  const before = { ...seen }

  await times(100, (i) => limited(`user-${i}`))
  await times(20, () => ask('/two/x', 'pro'))
  await times(20, () => ask('/local/x', 'pro'))

  await redis.stop()
  await times(100, (i) => ask('/open/x', `outage-${i}`))
  const withoutStore = async (user: string) => {
    for (let k = 0; k < 4; k++) await ask('/local/x', user)
    await ask('/closed/x', user)
  }
  await times(5, (i) => withoutStore(`outage-${i}`))
  await prometheus.scraped()
  await times(5, (i) => withoutStore(`late-${i}`))
  await redis.restart()
  for (let i = 0; !(await ask('/open/x', `probe-${i}`)).counted; i++)
    await new Promise((resolve) => setTimeout(resolve, 50))

  dying.closeAllConnections()
  dying.close()
  await times(40, () => ask('/two/x', 'pro'))
  await times(5, () => ask('/broken/x', 'pro'))
  const shed = async () => {
    await times(5, async () => t.equal((await ask('/broken/x', 'pro')).status, 503))
    kept = []
    const asked = Array.from({ length: 5 }, async () => (await ask('/narrow/x', 'pro')).status)
    const first = await Promise.race(asked)
    for (const answer of kept) answer()
    kept = undefined
    t.equal(first, 503, 'one at a time has room')
    await Promise.all(asked)
  }
  await shed()
  await prometheus.scraped()
  await shed()
  const reload = async (text: string) => {
    writeFileSync(gateway.configFile, withPaths(text))
    const { statusCode, body } = await request(`${gateway.admin}/config/reload`, { method: 'POST' })
    await body.dump()
    return statusCode
  }
  t.equal(await reload(configFor(options, 'default_tier: free\ntrusted_proxies: [10.0.0.1]')), 200)
  t.not(await reload('tiers: [free'), 200)
  await prometheus.scraped()
  const now = await prometheus.scraped()
  // Alerts read recorded series, so the rules are evaluated once more after those exist.
  await prometheus.judged(now)
  await prometheus.judged(Date.now() / 1000)

  await t.test('the totals equal the requests that were sent', async (t) => {
    const total = async (expr: string) => (await prometheus.query(expr, now))[0]?.value
    t.equal(await total('sum(http_server_request_duration_seconds_count)'), seen.total)
    for (const [status, count] of seen.statuses) {
      const selector = `http_server_request_duration_seconds_count{http_response_status_code="${status}"}`
      t.equal(await total(`sum(${selector})`), count, `${status}`)
    }
    t.equal(
      await total('sum(tidegate_limit_decisions_total{decision="denied",decided_by!="closed"})'),
      seen.denied,
    )
    t.equal(await total('tidegate_requests_refused_total{code="quota_exceeded"}'), seen.denied)
    t.equal(await total('sum(tidegate_fail_open_total)'), seen.letThrough)
    t.ok(seen.letThrough >= 100 && seen.denied >= 200)
  })

  const shown = { rate: '10s', range: `${Math.ceil(now - began) + 5}s`, step: '1s' }

  await t.test('panels that show a total over the time range equal the requests sent', async (t) => {
    const exprOf = (uid: string, title: string) =>
      dashboards.find((one) => one.uid === uid)!.panels.find((one) => one.title === title)!.targets![0]!.expr
    // The range runs from one scrape to another, so Prometheus extrapolates nothing at its ends.
    const range = { ...shown, range: `${Math.round((now - warm) * 1000)}ms` }
    const value = async (uid: string, title: string) => {
      const expr = asGrafanaAsks(exprOf(uid, title), { service: 'open', tier: 'free' }, range)
      return (await prometheus.query(expr, now))[0]?.value
    }
    t.equal(await value('tidegate-limits', 'Denied in this time'), seen.deniedOpen - before.deniedOpen)
    t.equal(
      await value('tidegate-degraded', 'Let through uncounted in this time'),
      seen.letThrough - before.letThrough,
    )
  })

  await t.test('every query of every dashboard returns data', async (t) => {
    const answered = await Promise.all(
      shownQueries.map(async ({ name, expr }) => {
        const asked = asGrafanaAsks(expr, {}, shown)
        const answers = await prometheus.queryRange(asked, began, now)
        return answers.some((values) => values.some((value) => !Number.isNaN(value)))
          ? ''
          : `${name}: ${asked}`
      }),
    )
    const empty = answered.filter((name) => name !== '')
    t.strictSame(empty, [])
  })

  await t.test('Prometheus accepts every query of the runbook as it is written', async (t) => {
    const pages = readPages().filter(({ path }) => path.startsWith('docs/runbook/'))
    const queries = pages.flatMap(({ blocks }) => blocks.filter(({ language }) => language === 'promql'))
    t.ok(queries.length > pages.length)
    await Promise.all(queries.map(({ text }) => t.resolves(prometheus.query(text, now), text)))
  })

  await t.test('every alert has data, and the alerts that should fire do', async (t) => {
    for (const { alert, expr } of alertRules) {
      if (alert === 'TidegateAbsent') continue // it is silent while there is a gateway
      t.ok((await prometheus.query(judged(expr), now)).length > 0, `${alert}: ${judged(expr)}`)
    }
    const firing = (await prometheus.alerts()).filter(({ state }) => state === 'firing')
    const fires = (alert: string, labels: Record<string, string>) =>
      t.ok(
        firing.some((one) =>
          Object.entries({ alertname: alert, ...labels }).every(([k, v]) => one.labels[k] === v),
        ),
        alert,
      )
    fires('TidegateFailOpen', { tidegate_service: 'open' })
    fires('TidegateErrorBudgetBurn', { tidegate_service: 'broken', severity: 'critical', window: '1h' })
    fires('TidegateUpstreamDown', { tidegate_service: 'two', upstream: options.dies })
    fires('TidegateShedding', { tidegate_service: 'narrow', reason: 'concurrency' })
    fires('TidegateCircuitOpen', { tidegate_service: 'broken' })
    fires('TidegateCertificateExpiring', { certificate: options.cert })
    fires('TidegateConfigRejected', {})
    fires('TidegateTelemetryFailing', {})
    const names = new Set(firing.map(({ labels }) => labels.alertname!))
    t.strictSame(
      QUIET.filter((alert) => names.has(alert)),
      [],
    )
    for (const { annotations } of firing) t.notMatch(annotations.description, /<no value>|error|{{/)
  })
})

/** Returns an alert's expression so that it says 0 where the alert would say nothing, without looking back to before the test. */
function judged(expr: string): string {
  const parts = expr.replace(/ offset \w+/g, '').split(/(\{[^}]*\})/)
  return parts.map((part, i) => (i % 2 === 1 ? part : part.replace(/(==|!=|>=|<=|>|<)/g, '$1 bool'))).join('')
}
