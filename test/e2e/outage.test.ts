import t from 'tap'
import { request } from 'undici'
import { eventually } from '../support/eventually.js'
import { startBackend } from '../support/gateway/process.js'
import { startWhole } from '../support/gateway/whole-gateway.js'
import { ownRedis } from '../support/redis/redis.js'

t.test('when Redis hangs and later dies, each service follows its on_failure', async (t) => {
  const redis = await ownRedis(t)
  const backend = await startBackend(t)
  const gateway = await startWhole(
    t,
    `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { redis: "${redis.url}", timeout: 1s }
tiers: [free]
consumers: [{ header: { name: x-user-id, from: anyone } }]
services:
  open: { upstreams: [${backend.origin}], limits: { free: 5/h } }
  local: { upstreams: [${backend.origin}], on_failure: local, show_decided_by: true, limits: { free: 5/h } }
  closed: { upstreams: [${backend.origin}], on_failure: closed, limits: { free: 5/h } }
routes:
  - { path: /open/*, service: open }
  - { path: /local/*, service: local }
  - { path: /closed/*, service: closed }
server: { shed: { event_loop_delay: 0 } }
log: { access: off }
`,
  )
  const ask = async (service: string, user: string) => {
    const { statusCode, headers, body } = await request(`${gateway.address}/${service}/x`, {
      headers: { 'x-user-id': user },
    })
    const text = await body.text()
    const by = headers['x-tidegate-decided-by']
    return { status: statusCode, claims: headers.ratelimit !== undefined, by, headers, text }
  }
  const countsAgain = async () => {
    let probes = 0
    await eventually('it counts again', async () => (await ask('open', `probe-${probes++}`)).claims)
  }

  for (let i = 0; i < 5; i++) t.match(await ask('open', 'ada'), { status: 200, claims: true })
  t.match(await ask('open', 'ada'), { status: 429, claims: true })

  redis.pause()
  const since = performance.now()
  // A different consumer: the gateway remembers for a moment that it denied ada.
  for (let i = 0; i < 20; i++) t.match(await ask('open', 'bea'), { status: 200, claims: false })
  t.match(await ask('open', 'ada'), { status: 200, claims: false, by: undefined })
  const statuses: number[] = []
  for (let i = 0; i < 8; i++) {
    const { status, by } = await ask('local', 'ada')
    t.equal(by, 'local', 'the service says that it is by this gateway alone')
    statuses.push(status)
  }
  t.strictSame(statuses, [200, 200, 200, 200, 200, 429, 429, 429], 'local counts in the process')
  const closed = await ask('closed', 'ada')
  t.match(closed, { status: 503, claims: false, headers: { 'retry-after': '1' } })
  t.match(JSON.parse(closed.text), { code: 'store_unavailable' })

  const metrics = await (await request(`${gateway.admin}/metrics`)).body.text()
  t.match(metrics, /^tidegate_store_state\{state="degraded"\} 1$/m)
  t.match(metrics, /^tidegate_fail_open_total\{tidegate_service="open",reason="(timeout|breaker)"\} [1-9]/m)
  t.equal((await request(`${gateway.admin}/readyz`)).statusCode, 200, 'degraded is not down')
  const lines = gateway
    .stderr()
    .split('\n')
    .filter((line) => line.includes('without the store')).length
  const seconds = (performance.now() - since) / 1_000
  t.ok(lines >= 1 && lines <= 2 + seconds, `${lines} log lines in ${seconds} s, for some thirty decisions`)

  redis.resume()
  await countsAgain()
  t.match(await ask('open', 'ada'), { status: 429 }, 'counts from before the stall are still there')

  await redis.stop()
  t.match(await ask('open', 'bea'), { status: 200, claims: false })
})
