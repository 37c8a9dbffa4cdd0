import t from 'tap'
import { freePort } from '../../support/free-port.js'
import { tidegate } from '../../support/gateway/cli.js'
import { startBackend, startProcess } from '../../support/gateway/process.js'

t.test("upstreams shows each one's state, and drains and restores one", async (t) => {
  const backend = await startBackend(t)
  const adminPort = await freePort()
  const gateway = await startProcess(
    t,
    `
listen: 127.0.0.1:0
admin: { listen: "127.0.0.1:${adminPort}", token: a-token-for-operators }
# Nothing here needs the store; the audit alone misses it.
store: { redis: "redis://127.0.0.1:1" }
tiers: [free]
services:
  api:
    upstreams: [{ url: ${backend.origin}, weight: 3 }, http://127.0.0.1:1]
    slow_start: 1m
    circuit_breaker: {}
    concurrency: { max: 50 }
  named: { upstreams: [http://localhost:1], health: { path: /healthz, interval: 100ms, timeout: 5s } }
routes: [{ path: /*, service: api }, { path: /named, service: named }]
server: { shutdown_delay: 0 }
log: { access: off }
`,
  )
  const on = ['--config', gateway.configFile]
  const { host } = new URL(backend.origin)
  const failed = async () => {
    const { stdout } = await tidegate(['upstreams', 'named', ...on])
    return /unhealthy/.test(stdout) ? stdout : undefined
  }
  let named: string | undefined
  for (let i = 0; named === undefined && i < 20; i++) named = await failed()
  t.match(
    named,
    /^named\n {2}upstream +state +for +weight +in flight +last check +why\n {2}http:\/\/localhost:1 +unhealthy +\d+ s +1 +0\/128 +failed \d+ s ago: ECONNREFUSED +checks fail: ECONNREFUSED\n {2}localhost is \S/,
  )
  t.match((await tidegate(['upstreams', 'api', ...on])).stdout, /^api: circuit closed, 0 of 50 at once\n/)
  t.strictSame(await tidegate(['upstreams', 'api', '--drain', host, ...on]), {
    code: 0,
    stdout: `${backend.origin} of api: drained, by hand\n`,
    stderr:
      "tidegate: the change is made, but the audit of the store does not have it; the gateway's log does\n",
  })
  const { stdout } = await tidegate(['upstreams', '--json', ...on])
  t.match(JSON.parse(stdout).upstreams, [
    { service: 'api', address: backend.origin, state: 'drained', weight: 3 },
    { service: 'api', address: 'http://127.0.0.1:1', state: 'serving' },
    { service: 'named' },
  ])
  const own = await tidegate(['upstreams', 'named', '--json', ...on])
  t.match(JSON.parse(own.stdout), { upstreams: [{ service: 'named' }], services: [{ service: 'named' }] })
  t.match(await tidegate(['upstreams', 'api', '--restore', backend.origin, ...on]), {
    code: 0,
    stdout: `${backend.origin} of api: slow_start, 10 % of its weight\n`,
  })

  const refused = async (args: readonly string[], line: string) =>
    t.strictSame(await tidegate(['upstreams', ...args, ...on]), {
      code: 1,
      stdout: '',
      stderr: `tidegate upstreams: ${line}\n`,
    })
  await refused(['nope'], 'No service "nope"; the services are api, named.')
  await refused(
    ['api', '--drain', '127.0.0.1:2'],
    `The service api has no upstream "127.0.0.1:2"; it has ${backend.origin}, http://127.0.0.1:1.`,
  )
  await gateway.stop()
  await refused(
    [],
    `no gateway answers at 127.0.0.1:${adminPort} (ECONNREFUSED); start it: tidegate start --config ${gateway.configFile}`,
  )
})

t.test('an address needs its service, and only one action is allowed', async (t) => {
  t.strictSame(await tidegate(['upstreams', '--drain', 'http://a']), {
    code: 2,
    stdout: '',
    stderr: 'tidegate upstreams: SERVICE is missing; see: tidegate upstreams --help\n',
  })
  t.strictSame(await tidegate(['upstreams', 'api', '--drain', 'http://a', '--restore', 'http://b']), {
    code: 2,
    stdout: '',
    stderr: 'tidegate upstreams: --drain and --restore exclude each other; see: tidegate upstreams --help\n',
  })
})
