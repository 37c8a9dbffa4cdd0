import t, { type Test } from 'tap'
import { tidegate } from '../support/gateway/cli.js'
import { startWhole } from '../support/gateway/whole-gateway.js'

const YAML = `
listen: 127.0.0.1:0
admin: { listen: "127.0.0.1:0" }
tiers: [{ name: free, priority: 1 }, pro, enterprise]
consumers:
  - api_key: { keys: [{ key: the-key-of-acme-inc, consumer: acme-corporation-of-rotterdam, tenant: acme }] }
  - signature: { keys: [{ id: acme-1, secret: a-secret-of-the-partner, consumer: acme }] }
  - header: { name: x-user-id, tenant: x-tenant-id }
  - ip: {}
services:
  models-of-language:
    upstreams: [http://127.0.0.1:9001, { url: "http://127.0.0.1:9002", weight: 3 }]
    circuit_breaker: {}
    limits:
      free:
        - { amount: 10, window: 1s, algorithm: token_bucket, burst: 20 }
        - { amount: 50000, algorithm: calendar, period: month, time_zone: America/Argentina/Buenos_Aires }
        - { amount: 90, window: 1m, by: ip }
        - { amount: 900, window: 1m, by: tenant, algorithm: strict, share: 0.3 }
        - { amount: 900, window: 1h, by: route }
      pro: [500/s, 10000/min, 100000/h]
      enterprise: unlimited
routes:
  - path: /v1/models/completions/*
    methods: [GET, POST]
    service: models-of-language
    cost: { header: x-request-cost, max: 50, consumers: [acme, umbrella] }
    refund_on: [5xx, 404, upstream_cut]
    cost_header: x-token-cost
    cors: { origins: ["https://app.example.com"] }
  - { path: /*, service: models-of-language }
server: { shutdown_delay: 0, shed: { event_loop_delay: 0 } }
log: { access: off }
`
const REASON = 'a reason that somebody gave at length, since the ticket that it came from has been lost'

async function narrow(t: Test, args: readonly string[], columns: number, cwd = '.'): Promise<string> {
  const { code, stdout, stderr } = await tidegate(args, { columns, cwd })
  t.equal(code, 0, stderr)
  for (const line of stdout.split('\n')) t.ok(line.length <= columns, `${args[0]}: ${line.length}: ${line}`)
  return stdout
}

t.test('usage, tier, check and audit keep to the width of the terminal', async (t) => {
  const gateway = await startWhole(t, YAML)
  const on = ['--admin', new URL(gateway.admin).host]
  const folder = t.testdir({ 'tidegate.yaml': YAML })
  const consumer = 'acme-corporation-of-rotterdam'
  const changed = await tidegate(['tier', consumer, 'free', '--for', '2h', '--reason', REASON, ...on])
  t.equal(changed.code, 0, changed.stderr)
  for (const columns of [80, 60]) {
    const usage = await narrow(t, ['usage', 'models-of-language', consumer, ...on], columns)
    for (const word of [
      '50000',
      'America/Argentina/Buenos_Aires',
      'tenant-minute-share',
      'remaining',
      'ip-minute',
    ])
      t.match(usage, word)
    await narrow(t, ['tier', consumer, ...on], columns)
    const check = await narrow(t, ['check', '--config', 'tidegate.yaml'], columns, folder)
    for (const word of ['upstream_cut', 'x-token-cost', '10000/min', 'enterprise', '127.0.0.1:9002'])
      t.match(check, word)
    const audit = await narrow(t, ['audit', ...on], columns)
    t.match(audit.replace(/\s+/g, ' '), REASON)
  }
  const wide = await tidegate(['usage', 'models-of-language', consumer, ...on])
  t.match(
    wide.stdout,
    /^ {2}limit +amount +algorithm +by +used +remaining +resets in$/m,
    'in a pipe a line each',
  )
})
