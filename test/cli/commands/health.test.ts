// Tests src/cli/client/ask-admin.ts src/cli/commands/demo-backend.ts
import { once } from 'node:events'
import t from 'tap'
import { request } from 'undici'
import { eventually } from '../../support/eventually.js'
import { freePort } from '../../support/free-port.js'
import { spawnCli, tidegate, tidegateProcess } from '../../support/gateway/cli.js'
import { startBackend, startProcess, storeUp } from '../../support/gateway/process.js'
import { ownRedis } from '../../support/redis/redis.js'

const config = (upstream: string, redis?: string) => `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0, token: not-asked-of-probes }
${redis === undefined ? '' : `store: { redis: "${redis}" }`}
tiers: [free]
services: { api: { upstreams: [${upstream}] } }
routes: [{ path: /*, service: api }]
server: { shutdown_delay: 30s }
`

// One test waits 5 s for a gateway that is silent; the others run beside it.
t.jobs = 2
const APART = { buffered: true }

t.test('health says that a stopped gateway is silent', APART, async (t) => {
  const gateway = await startProcess(t, config('http://127.0.0.1:9'))
  const admin = gateway.admin.replace('http://', '')
  gateway.child.kill('SIGSTOP')
  t.match(await tidegate(['health', '--admin', admin]), {
    code: 1,
    stderr: `tidegate health: the gateway at ${admin} accepted the connection and has been silent for 5 s: it hangs, or waits for something that hangs\n`,
  })
})

t.test('health prints what /readyz says, without a token and without the configuration', async (t) => {
  const redis = await ownRedis(t)
  const backend = await startBackend(t)
  const gateway = await startProcess(t, config(backend.origin, redis.url))
  const admin = gateway.admin.replace('http://', '')
  const health = () => tidegate(['health', '--admin', admin])
  await storeUp(gateway)
  t.strictSame(await health(), { code: 0, stdout: 'ready\n', stderr: '' })
  const asJson = async () => {
    const { code, stdout } = await tidegate(['health', '--json', '--admin', admin])
    return { code, answer: JSON.parse(stdout) }
  }
  t.strictSame(await asJson(), { code: 0, answer: { status: 'ready', store: 'up', reasons: [] } })

  await redis.stop()
  await eventually('it is noticed', async () => {
    const { body } = await request(`${gateway.admin}/readyz`)
    return /"store":"degraded"/.test(await body.text())
  })
  t.match(await health(), {
    code: 0,
    stdout: 'ready; the store is out of reach: the gateway decides without it\n',
    stderr: '',
  })

  const env = { TIDEGATE_ADMIN_TOKEN: 'not-asked-of-probes' }
  t.match(
    await tidegate(['key', 'list', '--admin', admin], { env }),
    { code: 1, stderr: /^tidegate key: Could not list the keys: the store is out of reach\./ },
    'and not that there is no gateway: it answers before a command gives up',
  )

  gateway.child.kill('SIGTERM')
  while ((await request(`${gateway.admin}/readyz`)).statusCode === 200);
  t.match(await health(), { code: 1, stdout: '', stderr: /^tidegate health: not ready: shutting down/ })
  t.match(await asJson(), { code: 1, answer: { status: 'not_ready', reasons: ['shutting down'] } })

  gateway.child.kill('SIGKILL')
  await once(gateway.child, 'exit')
  t.strictSame(await health(), {
    code: 1,
    stdout: '',
    stderr: `tidegate health: no gateway answers at ${admin} (ECONNREFUSED)\n`,
  })
})

t.test('health and demo-backend refuse a malformed address', async (t) => {
  t.match(await tidegate(['health', '-a', '8081']), {
    code: 2,
    stderr:
      'tidegate health: --admin needs HOST:PORT, such as 127.0.0.1:8081, not 8081; see: tidegate health --help\n',
  })
  t.match(await tidegate(['demo-backend', '--listen', 'x']), {
    code: 2,
    stderr: /^tidegate demo-backend: --listen needs HOST:PORT, such as 0\.0\.0\.0:9001, not x; see/,
  })
})

t.test('demo-backend answers with the request it got, until SIGTERM', async (t) => {
  const port = await freePort()
  const address = `127.0.0.1:${port}`
  const run = spawnCli(['demo-backend', '--listen', address, '--name', 'payments'])
  t.teardown(() => run.child.kill('SIGKILL'))
  await run.printed(/payments answers on http:\/\/127\.0\.0\.1:\d+\n/)
  const answer = await request(`http://${address}/hello`, {
    headers: { 'x-request-id': 'r1', 'x-consumer-id': 'ann' },
  })
  t.match(await answer.body.json(), {
    service: 'payments',
    method: 'GET',
    path: '/hello',
    headers: { 'x-request-id': 'r1', 'x-consumer-id': 'ann' },
  })

  const second = await tidegateProcess(['demo-backend', '--listen', address])
  t.match(second, {
    code: 1,
    stderr: /^tidegate demo-backend: port \d+ is taken, and the upstream demo backend needs it/,
  })

  run.child.kill('SIGTERM')
  t.equal(await run.exited, 0)
})
