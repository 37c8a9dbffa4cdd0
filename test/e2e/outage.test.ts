import t from 'tap'
import { request } from 'undici'
import { startBackend, startProcess } from '../support/process.js'
import { startRedis } from '../support/redis.js'

t.test('Redis hangs, and later dies: traffic goes on, unclaimed and counted, until it is back', async (t) => {
  const redis = await startRedis(t)
  const backend = await startBackend(t)
  const gateway = await startProcess(
    t,
    `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { redis: "${redis.url}" }
tiers: [free]
consumers: [{ header: { name: x-user-id } }]
services:
  open: { upstreams: [${backend.origin}], limits: { free: 5/min } }
  local: { upstreams: [${backend.origin}], on_failure: local, show_decided_by: true, limits: { free: 5/min } }
  closed: { upstreams: [${backend.origin}], on_failure: closed, limits: { free: 5/min } }
routes:
  - { path: /open/*, service: open }
  - { path: /local/*, service: local }
  - { path: /closed/*, service: closed }
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
    const started = Date.now()
    while (!(await ask('open', `probe-${Date.now()}`)).claims) {
      if (Date.now() - started > 10_000) throw new Error('still not counting after 10 s')
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    return Date.now() - started
  }

  for (let i = 0; i < 5; i++) t.match(await ask('open', 'ada'), { status: 200, claims: true })
  t.match(await ask('open', 'ada'), { status: 429, claims: true })

  redis.pause()
  // Somebody else: that ada was denied is remembered for a moment, whether Redis answers or not.
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
  t.ok(lines >= 1 && lines <= 6, `${lines} log lines for some thirty decisions`)

  redis.resume()
  t.ok((await countsAgain()) < 2_000, 'counting again within two seconds')
  t.match(await ask('open', 'ada'), { status: 429 }, 'what was counted before the stall is still there')

  await redis.stop()
  t.match(await ask('open', 'bea'), { status: 200, claims: false })
})
