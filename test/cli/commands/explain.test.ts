// Tests src/cli/print/describe-decision.ts
import { join } from 'node:path'
import t from 'tap'
import { freePort } from '../../support/free-port.js'
import { tidegate } from '../../support/gateway/cli.js'
import { startProcess } from '../../support/gateway/process.js'
import { startRedis } from '../../support/redis/redis.js'

t.test('explain leaves no timer behind that would keep the process alive', async (t) => {
  const yaml = `
tiers: [free]
services: { payments: { upstreams: [http://127.0.0.1:9] } }
routes: [{ path: /*, service: payments }]
`
  const file = join(t.testdir({ 'tidegate.yaml': yaml }), 'tidegate.yaml')
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length
  const before = timers()
  t.match(await tidegate(['explain', 'GET', '/x', '--config', file]), { code: 0, stderr: '' })
  t.ok(timers() <= before)
})

t.test('explain runs the hooks that allow it, and names the others, without a gateway, too', async (t) => {
  const module = (explain: boolean) =>
    `export default { create: () => ({ cost: { explain: ${explain}, run: () => 7 } }) }`
  const yaml = `
tiers: [free]
extensions: [{ name: price, module: price.mjs }, { name: other, module: other.mjs }]
services: { payments: { upstreams: [http://127.0.0.1:9], limits: { free: 10/min } } }
routes: [{ path: /*, service: payments, use: [price, other] }]
`
  const folder = t.testdir({ 'price.mjs': module(true), 'other.mjs': module(false), 'tidegate.yaml': yaml })
  const { stdout } = await tidegate(['explain', 'GET', '/x', '--config', join(folder, 'tidegate.yaml')])
  t.match(stdout, /cost +7/)
  t.match(stdout, /cost of other was not run/)
})

// One test waits for a store that does not answer; the others run beside it.
t.jobs = 2
const APART = { buffered: true }

t.test('explain says what it cannot know while the store is out of reach', APART, async (t) => {
  const yaml = `
store: { redis: "redis://127.0.0.1:1" }
tiers: [free]
services: { payments: { upstreams: [http://127.0.0.1:9], limits: { free: 10/min } } }
routes: [{ path: /*, service: payments }]
`
  const file = join(t.testdir({ 'tidegate.yaml': yaml }), 'tidegate.yaml')
  const { code, stdout } = await tidegate(['explain', 'GET', '/x', '--config', file])
  t.equal(code, 0)
  t.match(
    stdout,
    /without the store, which is out of reach: its tiers, boosts, bans and API keys are unknown/,
  )
})

t.test('explain --at says whether a header is believed from there', async (t) => {
  const yaml = `
tiers: [free]
consumers: [{ header: { name: x-user-id, from: [10.0.0.0/8] } }, { ip: {} }]
services: { payments: { upstreams: [http://127.0.0.1:9], limits: { free: 10/min } } }
routes: [{ path: /*, service: payments }]
`
  const file = join(t.testdir({ 'tidegate.yaml': yaml }), 'tidegate.yaml')
  const at = async (address: string) => {
    const argv = ['explain', 'GET', '/x', '-H', 'x-user-id: ann', '--at', address, '--config', file]
    return (await tidegate([...argv, '--json'])).stdout
  }
  t.match(JSON.parse(await at('10.0.0.1')), { consumer: 'ann', identified_by: 'header' })
  t.match(JSON.parse(await at('192.0.2.7')), {
    consumer: '192.0.2.7',
    identified_by: 'ip',
    why: /The gateway does not trust the header x-user-id from 192\.0\.2\.7/,
  })
})

t.test('explain says until when a tier and a boost hold', async (t) => {
  const redis = await startRedis(t)
  const yaml = `
store: { redis: "${redis.url}", timeout: 2s }
tiers: [free, pro]
consumers: [{ header: { name: x-user-id, from: anyone } }]
services: { payments: { upstreams: [http://127.0.0.1:9], limits: { free: 10/min, pro: 100/min } } }
routes: [{ path: /*, service: payments }]
`
  const on = ['--config', join(t.testdir({ 'tidegate.yaml': yaml }), 'tidegate.yaml')]
  const run = async (...argv: string[]) => {
    const { code, stdout, stderr } = await tidegate([...argv, ...on])
    t.equal(code, 0, stderr)
    return stdout.replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/g, 'TIME').replace(/\d+ s/g, 'n s')
  }
  t.equal(await run('tier', 'ann', 'pro', '--for', '2h'), 'ann: pro, assigned until TIME\n')
  await run('boost', 'ann', '--service', 'payments', '--limit', 'minute', '--by', '50', '--for', '1h')

  t.match(await tidegate(['explain', 'GET', '/x', '-H', 'a: b\nc: d', ...on]), {
    code: 2,
    stderr: 'tidegate explain: -H needs a value on one line; see: tidegate explain --help\n',
  })
  const told = await run('explain', 'GET', '/x', '-H', 'x-user-id: ann')
  const [why, ...rest] = told.split('\n')
  t.equal(
    why,
    'Allowed: the limit "minute" (150/min: 100 + boost 50 until TIME) of ann, tier pro on payments, has 149 left after it, and no other has less.',
  )
  t.ok(rest.includes('  tier      pro, assigned until TIME'), told)
  t.match(told, /^ {2}minute +150\/min +0\/150 /m)
  t.match(told, '\n\ndiffers from the tier:\n  minute: 150/min (100 + boost 50 until TIME)\n')
  t.match(await run('explain', 'GET', '/x', '-H', 'x-user-id: bob'), /^ {2}tier +free, the default$/m)

  const json = JSON.parse(
    (await tidegate(['explain', 'GET', '/x', '-H', 'x-user-id: ann', '--json', ...on])).stdout,
  )
  t.match(json.tier_until, /^20\d\d-.*Z$/)
})

t.test('a command that cannot read the configuration suggests asking a running gateway', async (t) => {
  const file = join(t.testdir({ 'tidegate.yaml': 'services: [' }), 'tidegate.yaml')
  for (const argv of [
    ['explain', 'GET', '/x'],
    ['why', 'r-1'],
    ['top', '--once'],
    ['usage', 'a', 'b'],
  ]) {
    const { code, stderr } = await tidegate([...argv, '--config', file])
    t.equal(code, 1)
    t.match(stderr, /tidegate\.yaml:1:\d+: .+\n/)
    t.match(
      stderr,
      '\ntidegate: you can ask a running gateway without the file: --admin HOST:PORT (127.0.0.1:8081 by default)\n',
    )
  }
  t.notMatch(
    (await tidegate(['plan', '--log', file, '--config', file])).stderr,
    /--admin/,
    'plan asks no gateway',
  )
})

t.test('explain on a running gateway whose store is away shows what it would decide by itself', async (t) => {
  const adminPort = await freePort()
  const gateway = await startProcess(
    t,
    `
listen: 127.0.0.1:0
admin: { listen: "127.0.0.1:${adminPort}" }
store: { redis: "redis://127.0.0.1:1", on_failure: local }
tiers: [free]
services: { payments: { upstreams: [http://127.0.0.1:9], limits: { free: 10/min } } }
routes: [{ path: /*, service: payments }]
server: { shutdown_delay: 0 }
log: { access: off }
`,
  )
  const { code, stdout, stderr } = await tidegate([
    'explain',
    'GET',
    '/x',
    '--live',
    '--config',
    gateway.configFile,
  ])
  t.equal(code, 0, stderr)
  t.match(stdout, /^Allowed: the limit "minute" .* has 9 left after it/)
  t.match(
    stdout,
    /The store was out of reach, so the gateway counted by itself, within its share of the limit\./,
  )
})
