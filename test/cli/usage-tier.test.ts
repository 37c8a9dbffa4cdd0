// Tests src/cli/commands/{boost,limit-change,tier,usage}.ts src/cli/print/tier-origin.ts
// Tests src/cli/client/{own-admin,with-control}.ts
import { join } from 'node:path'
import t from 'tap'
import { freePort } from '../support/free-port.js'
import { tidegate } from '../support/gateway/cli.js'
import { startBackend, startProcess, storeUp } from '../support/gateway/process.js'
import { startRedis } from '../support/redis/redis.js'

interface Settings {
  readonly upstream: string
  readonly store?: string
  readonly adminPort?: number
  readonly token?: string
}

function config({ upstream, store, adminPort = 0, token }: Settings): string {
  return `
listen: 127.0.0.1:0
admin: { listen: "127.0.0.1:${adminPort}"${token === undefined ? '' : `, token: ${token}`} }
${store === undefined ? '' : `store: { redis: "${store}", timeout: 2s }`}
tiers: [free, pro]
consumers: [{ header: { name: x-user-id, from: anyone } }]
services:
  payments: { upstreams: [${upstream}], limits: { free: 10/h, pro: [5/s, 100/h] } }
  open: { upstreams: [${upstream}], limits: { free: unlimited, pro: unlimited } }
routes:
  - { path: /payments/*, service: payments }
  - { path: /open/*, service: open }
server: { shutdown_delay: 0 }
log: { access: off }
`
}

async function spend(address: string, consumer: string, times: number): Promise<number[]> {
  const statuses: number[] = []
  for (let i = 0; i < times; i++) {
    const response = await fetch(`${address}/payments/x`, { headers: { 'x-user-id': consumer } })
    await response.text()
    statuses.push(response.status)
  }
  return statuses
}

// One test waits 5 s for a store that does not answer; the others run beside it.
t.jobs = 2
const APART = { buffered: true }

t.test('an unreachable Redis gives one line without its password', APART, async (t) => {
  const port = await freePort()
  const store = `redis://user:hunter2@127.0.0.1:${port}`
  const file = join(
    t.testdir({ 'tidegate.yaml': config({ upstream: 'http://127.0.0.1:1', store }) }),
    'tidegate.yaml',
  )
  const { code, stdout, stderr } = await tidegate(['usage', 'payments', 'ann', '-c', file])
  t.match([code, stdout], [1, ''])
  t.match(
    stderr,
    /^tidegate usage: the store is out of reach \(.*ECONNREFUSED.*\); check store\.redis in \S+, and.*\n$/,
  )
  t.notMatch(stderr, 'hunter2')
})

t.test('usage shows how each limit counts and for whom, candidates, and what it cannot show', async (t) => {
  const redis = await startRedis(t)
  const yaml = `
store: { redis: "${redis.url}", timeout: 2s }
tiers: [free]
services:
  models:
    upstreams: [http://127.0.0.1:9]
    limits:
      free:
        - { amount: 10, window: 1s, algorithm: token_bucket, burst: 20 }
        - { amount: 50000, algorithm: calendar, period: month }
        - { amount: 4, algorithm: concurrency }
        - { amount: 90, window: 1m, by: ip }
        - { amount: 5, window: 1h, candidate: true }
routes: [{ path: /*, service: models }]
`
  const file = join(t.testdir({ 'tidegate.yaml': yaml }), 'tidegate.yaml')
  const { code, stdout, stderr } = await tidegate(['usage', 'models', 'ann', '--config', file])
  t.equal(code, 0, stderr)
  const [head, , ...lines] = stdout.trimEnd().split('\n')
  t.equal(head, 'ann on models: tier free, the default')
  t.same(
    lines.map((line) => line.trim().split(/ {2,}/)),
    [
      ['limit', 'amount', 'algorithm', 'by', 'used', 'remaining', 'resets in'],
      [
        'second',
        '10 in 1s, 20 at once',
        'token_bucket',
        'consumer',
        '0',
        '20',
        lines[1]!.split(/ {2,}/).at(-1),
      ],
      ['month', '50000 a month, UTC', 'calendar', 'consumer', '0', '50000', lines[2]!.split(/ {2,}/).at(-1)],
      ['concurrent', '4 at once', 'concurrency', 'consumer', '0', '4'],
      ['hour (candidate)', '5 in 1h', 'sliding', 'consumer', '0', '5', lines[4]!.split(/ {2,}/).at(-1)],
      [''],
      ['Not shown, because they are not counted by consumer: ip-minute (by ip)'],
    ],
  )
  for (const i of [1, 2, 4]) t.match(lines[i], / \d+ (?:s|min|h|days)$/)
})

t.test('with Redis, usage and tier ask the store, with or without a running gateway', async (t) => {
  const redis = await startRedis(t)
  const backend = await startBackend(t)
  const gateway = await startProcess(t, config({ upstream: backend.origin, store: redis.url }))
  const on = ['--config', gateway.configFile]
  await storeUp(gateway)
  await spend(gateway.address, 'ann', 3)

  const first = await tidegate(['usage', 'payments', 'ann', ...on])
  t.equal(first.code, 0, first.stderr)
  t.match(
    first.stdout,
    /^ann on payments: tier free, the default\n\n {2}limit +amount +algorithm +by +used +remaining +resets in\n {2}hour +10 in 1h +sliding +consumer +3 +7 +\d+ (?:s|min)\n$/,
  )

  t.strictSame(await tidegate(['tier', 'ann', 'pro', ...on]), {
    code: 0,
    stdout: 'ann: pro, assigned\n',
    stderr: '',
  })
  const raised = await tidegate(['usage', 'payments', 'ann', '--json', ...on])
  t.match(JSON.parse(raised.stdout), {
    service: 'payments',
    consumer: 'ann',
    tier: 'pro',
    tier_from: 'assignment',
    unlimited: false,
    limits: [
      { name: 'second', amount: 5, window_ms: 1000 },
      { name: 'hour', amount: 100 },
    ],
  })
  t.match(await tidegate(['tier', 'ann', '--remove', ...on]), { stdout: 'ann: free, the default\n' })

  t.match(await tidegate(['tier', '..', 'pro', ...on]), { code: 0, stdout: '..: pro, assigned\n' })
  t.match(await tidegate(['usage', 'payments', 'ann', '--reset', ...on]), {
    code: 0,
    stdout: 'ann on payments: usage is reset\n',
  })
  t.strictSame(await spend(gateway.address, 'ann', 11), [...Array(10).fill(200), 429])
})

t.test('a consumer id neither controls the terminal nor adds a line', async (t) => {
  const redis = await startRedis(t)
  const file = t.testdir({ 'tidegate.yaml': config({ upstream: 'http://127.0.0.1:1', store: redis.url }) })
  const on = ['--config', join(file, 'tidegate.yaml')]
  const evil = 'x\u001b[2J\u009b1m\u202e\nann: pro, assigned'
  const shown = String.raw`x\u001b[2J\u009b1m\u202e\nann: pro, assigned`
  const minute = ['--service', 'payments', '--limit', 'hour']
  for (const [line, args] of [
    [`${shown}: pro, assigned`, ['tier', evil, 'pro']],
    [`${shown} on payments: tier pro, assigned`, ['usage', 'payments', evil]],
    [`${shown} on payments: usage is reset`, ['usage', 'payments', evil, '--reset']],
    [`${shown}: 5 more of hour on payments until`, ['boost', evil, ...minute, '--by', '5', '--for', '1h']],
    [`${shown}  payments  hour`, ['boost', '--list']],
    [`${shown}: no boost of hour`, ['boost', evil, ...minute, '--remove']],
    [`There is no boost of hour on payments for consumer`, ['boost', evil, ...minute, '--remove']],
  ] as const) {
    const { stdout, stderr } = await tidegate([...args, ...on])
    const told = stdout + stderr
    t.ok(told.includes(line), `${args.join(' ')}: ${told}`)
    t.notMatch(told, /[\0-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]|^ann: /m, args[0])
  }
})

t.test('without Redis, usage and tier ask the running gateway', async (t) => {
  const backend = await startBackend(t)
  const adminPort = await freePort()
  const token = 'a-token-for-operators'
  const gateway = await startProcess(t, config({ upstream: backend.origin, adminPort, token }))
  const on = ['--config', gateway.configFile]
  // Clients choose consumer ids: URL parsers would remove this one from a path.
  t.strictSame(await spend(gateway.address, '..', 10), Array(10).fill(200))

  t.match(await tidegate(['usage', 'payments', '..', ...on]), {
    code: 0,
    stdout: /hour +10 in 1h +sliding +consumer +10 +0/,
  })
  t.match(await tidegate(['usage', 'open', '..', ...on]), {
    stdout: '.. on open: tier free, the default; unlimited, nothing is counted\n',
  })
  t.match(await tidegate(['tier', '..', 'pro', ...on]), { code: 0, stdout: '..: pro, assigned\n' })
  t.strictSame(await spend(gateway.address, '..', 1), [200])

  const refused = async (args: readonly string[], line: string) =>
    t.strictSame(await tidegate([...args, ...on]), { code: 1, stdout: '', stderr: `${line}\n` })
  await refused(
    ['usage', 'paymnts', 'ann'],
    'tidegate usage: No service "paymnts"; the services are payments, open.',
  )
  await refused(['tier', 'ann', 'gold'], 'tidegate tier: No tier "gold"; the tiers are free, pro.')
  await gateway.stop()
  await refused(
    ['tier', 'ann'],
    `tidegate tier: no gateway answers at 127.0.0.1:${adminPort} (ECONNREFUSED), and without store.redis the counts are in its memory; start it: tidegate start --config ${gateway.configFile}`,
  )
})

t.test('a gateway with admin port 0 cannot be found', async (t) => {
  const file = join(
    t.testdir({ 'tidegate.yaml': config({ upstream: 'http://127.0.0.1:1' }) }),
    'tidegate.yaml',
  )
  t.strictSame(await tidegate(['usage', 'payments', 'ann', '-c', file]), {
    code: 1,
    stdout: '',
    stderr: `tidegate usage: admin.listen in ${file} has port 0, so the gateway cannot be found; give it a port\n`,
  })
})
