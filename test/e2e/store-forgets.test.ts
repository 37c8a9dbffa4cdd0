import t, { type Test } from 'tap'
import { request } from 'undici'
import { startGateway } from '../../src/main.js'
import { eventually } from '../support/eventually.js'
import { tidegate } from '../support/gateway/cli.js'
import { startBackend, startProcess, storeUp } from '../support/gateway/process.js'
import { hasRedisServer, ownRedis } from '../support/redis/redis.js'

const skip = hasRedisServer ? false : 'needs a redis-server on the PATH to stop and restart'

const config = (upstream: string, redis: string) => `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { redis: "${redis}", timeout: 2s }
tiers: [free, pro]
trusted_proxies: [127.0.0.1]
consumers: [{ api_key: { store: true } }, { header: { name: x-user-id, from: anyone } }]
services: { api: { upstreams: [${upstream}], limits: { free: 1000/h, pro: 2000/h } } }
routes: [{ path: /*, service: api }]
server: { shutdown_delay: 0, shed: { event_loop_delay: 0 } }
log: { access: off }
`

async function ask(address: string, headers: Record<string, string>) {
  const answer = await request(`${address}/x`, { headers: { connection: 'close', ...headers } })
  await answer.body.dump()
  return { status: answer.statusCode, policy: String(answer.headers['ratelimit-policy']) }
}

async function json(url: string) {
  // biome-ignore lint/suspicious/noExplicitAny: the test looks into it
  return (await (await request(url)).body.json()) as any
}

async function made(t: Test) {
  const redis = await ownRedis(t)
  const backend = await startBackend(t)
  const yaml = config(backend.origin, redis.url)
  const file = `${t.testdir({ 'tidegate.yaml': yaml })}/tidegate.yaml`
  const run = (...args: string[]) => tidegate([...args, '--config', file])
  /** Creates one record of each kind. Resolves with the API key. */
  async function fill(): Promise<string> {
    const [key] = await Promise.all([
      run('key', 'create', '--consumer', 'acme', '--tier', 'pro'),
      run('tier', 'alice', 'pro'),
      run('ban', '203.0.113.0/24'),
      run('boost', 'alice', '--service', 'api', '--limit', 'hour', '--by', '5', '--for', '1h'),
      run('override', 'bob', '--service', 'api', '--limit', 'hour', '--amount', '77'),
    ])
    return key.stdout.trim()
  }
  /** Tells whether the gateway applies every record that `fill` has made. */
  async function works(address: string, key: string): Promise<boolean> {
    const all = [
      await ask(address, { 'x-api-key': key }),
      await ask(address, { 'x-user-id': 'alice' }),
      await ask(address, { 'x-user-id': 'bob' }),
      await ask(address, { 'x-user-id': 'eve', 'x-forwarded-for': '203.0.113.7' }),
    ]
    const policies = ['q=2000', 'q=2005', 'q=77']
    return all[3]!.status === 403 && policies.every((policy, i) => all[i]!.policy.includes(policy))
  }
  async function forget() {
    await redis.stop()
    await redis.restart()
  }
  const reasons = async (admin: string) => (await json(`${admin}/readyz`)).reasons as string[]
  const forgotten = (admin: string) =>
    eventually(
      'all four are forgotten',
      async () => (await reasons(admin)).filter((one) => /has forgotten/.test(one)).length === 4,
    )
  return { redis, backend, yaml, file, run, fill, works, forget, reasons, forgotten }
}

t.test(
  'gateways serve from the records that Redis has lost, until they are restored',
  { skip },
  async (t) => {
    const { redis, file, run, fill, works, forget, reasons, forgotten } = await made(t)
    const gateways: { close(delayMs: number): Promise<void> }[] = []
    t.teardown(() => Promise.all(gateways.map((one) => one.close(0))))
    async function open() {
      const gateway = await startGateway({
        configFile: file,
        events: {
          log: { info() {}, warn() {}, error() {}, fatal() {} },
          dropped: () => 0,
          close: async () => {},
        } as never,
      })
      gateways.push(gateway)
      return gateway
    }
    const [a, b] = [await open(), await open()]
    const key = await fill()
    for (const { address } of [a, b]) await eventually('all work', () => works(address, key))
    t.strictSame(await run('store'), {
      code: 0,
      stdout:
        'records               held  state\ntier assignments      1     kept\nboosts and overrides  2     kept\nbans                  1     kept\nAPI keys              1     kept\n',
      stderr: '',
    })
    t.match(await run('store', 'restore'), { code: 1, stderr: /The store has forgotten nothing/ })

    await forget()
    for (const { adminAddress } of [a, b]) await forgotten(adminAddress)
    t.ok(
      (await reasons(a.adminAddress)).includes(
        'the store has forgotten API keys: the last known ones stay in force; decide with tidegate store',
      ),
    )
    t.equal((await json(`${a.adminAddress}/readyz`)).status, 'ready', 'and goes on')
    const metrics = await (await request(`${b.adminAddress}/metrics`)).body.text()
    t.match(metrics, 'tidegate_store_rollbacks_total{records="bans"} 1\n')
    t.match(metrics, 'tidegate_store_forgotten{records="API keys"} 1\n')
    for (const { address } of [a, b]) {
      t.equal((await ask(address, { 'x-api-key': key })).status, 200)
      await eventually('all work, and are counted again', () => works(address, key))
    }

    // A gateway that starts meanwhile, and commands that use Redis directly.
    await eventually('the gateways are known', async () => (await redis.client.zcard('nodes:{fleet}')) === 2)
    const c = await open()
    await eventually('all work there', () => works(c.address, key))
    t.match(await run('tier', 'alice'), { code: 0, stdout: 'alice: pro, assigned\n' })
    t.match(await run('store'), {
      code: 1,
      stdout: /API keys +1 +forgotten; the gateways serve what they knew +20/,
    })
    t.match(await run('tier', 'carl', 'pro'), { code: 0 })
    t.match(await run('unban', '203.0.113.0/24'), {
      code: 0,
      stdout: '203.0.113.0/24 is no longer banned\n',
    })

    const restored = await run('store', 'restore', '--reason', 'incident 7', '--json')
    t.equal(restored.code, 0, restored.stderr)
    t.strictSame(
      JSON.parse(restored.stdout).records.map(({ records, state, held }: Record<string, unknown>) => [
        records,
        state,
        held,
      ]),
      [
        ['tier assignments', 'kept', 2],
        ['boosts and overrides', 'kept', 2],
        ['bans', 'kept', 0],
        ['API keys', 'kept', 1],
      ],
    )
    const [entry] = JSON.parse((await run('audit', '--action', 'store', '--json')).stdout).entries
    t.match(entry, {
      action: 'store.restore',
      target: 'store',
      reason: 'incident 7',
      before: [{ records: 'tier assignments', state: 'forgotten', held: 2 }, {}, {}, {}],
      after: { 'tier assignments': 2, 'boosts and overrides': 2, bans: 0, 'API keys': 1 },
    })
    for (const { adminAddress } of [a, b, c]) {
      await eventually('it is over', async () => (await reasons(adminAddress)).length === 0)
    }
    t.equal(await redis.client.hlen('keys:{keys}'), 1)
    t.equal(await redis.client.hlen('ban:{bans}'), 0)
    const later = await open()
    await eventually(
      'and later ones',
      async () => (await ask(later.address, { 'x-api-key': key })).status === 200,
    )
    const after = await (await request(`${b.adminAddress}/metrics`)).body.text()
    t.match(after, 'tidegate_store_rollbacks_total{records="bans"} 1\n')
    t.match(after, 'tidegate_store_forgotten{records="bans"} 0\n')
  },
)

t.test('workers serve from lost records too, until an operator accepts the loss', { skip }, async (t) => {
  const { redis, yaml, fill, works, forget, reasons, forgotten } = await made(t)
  const gateway = await startProcess(t, yaml, {}, ['--workers', '2'])
  await storeUp(gateway)
  const { address, admin } = gateway
  const key = await fill()
  await eventually('all work', () => works(address, key))
  await forget()
  await forgotten(admin)
  t.equal((await ask(address, { 'x-api-key': key })).status, 200)
  await eventually('all work, and are counted again', () => works(address, key))

  // A worker that starts meanwhile gets the records from the primary.
  await eventually('it is known', async () => (await redis.client.zcard('nodes:{fleet}')) === 1)
  const workers = async () => (await json(`${admin}/config`)).workers as { pid: number; state: string }[]
  const before = (await workers()).map(({ pid }) => pid)
  process.kill(before[0]!, 'SIGKILL')
  await eventually('another serves', async () => {
    const now = await workers()
    return (
      now.filter(({ state }) => state === 'serving').length === 2 && !now.some(({ pid }) => pid === before[0])
    )
  })
  for (let i = 0; i < 6; i++) await eventually('each knows', () => works(address, key))
  const metrics = await (await request(`${admin}/metrics`)).body.text()
  t.match(metrics, /^tidegate_store_forgotten\{records="API keys"\} 1$/m)

  t.match((await json(`${admin}/store`)).records, [
    {},
    {},
    {},
    { records: 'API keys', state: 'forgotten', held: 1 },
  ])
  const { statusCode, headers, body } = await request(`${admin}/store/accept`, { method: 'POST' })
  t.equal(statusCode, 200)
  t.equal(headers['x-audit'], 'stored')
  t.match(await body.json(), { records: [{ state: 'kept', held: 0 }, {}, {}, { state: 'kept', held: 0 }] })
  await eventually('it is over', async () => (await reasons(admin)).length === 0)
  await eventually(
    'the key is refused',
    async () => (await ask(address, { 'x-api-key': key })).status === 401,
  )
  t.match((await ask(address, { 'x-user-id': 'alice' })).policy, 'q=1000')
})
