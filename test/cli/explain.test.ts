import { join } from 'node:path'
import t from 'tap'
import { tidegate } from '../support/cli.js'
import { startRedis } from '../support/redis.js'

t.test('explain does not claim to know what a store has that is out of reach', async (t) => {
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
    /without the store, which is out of reach: what it has of tiers, boosts, bans and API keys is not known/,
  )
})

t.test('explain says until when a tier and a boost hold, without brackets in brackets', async (t) => {
  const redis = await startRedis(t)
  const yaml = `
store: { redis: "${redis.url}", timeout: 2s }
tiers: [free, pro]
consumers: [{ header: { name: x-user-id } }]
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

  const told = await run('explain', 'GET', '/x', '-H', 'x-user-id: ann')
  const [why, ...rest] = told.split('\n')
  t.equal(
    why,
    'Allowed: the limit "minute" (150/min: 100 + boost 50 until TIME) of ann, tier pro on payments, has 149 left after it, and no other has less.',
  )
  t.ok(rest.includes('  tier      pro, assigned until TIME'), told)
  t.match(told, /^ {2}minute +150\/min +0\/150 /m)
  t.match(told, '\n\nnot as the tier has it:\n  minute: 150/min (100 + boost 50 until TIME)\n')
  t.match(await run('explain', 'GET', '/x', '-H', 'x-user-id: bob'), /^ {2}tier +free, the default$/m)

  const json = JSON.parse(
    (await tidegate(['explain', 'GET', '/x', '-H', 'x-user-id: ann', '--json', ...on])).stdout,
  )
  t.match(json.tier_until, /^20\d\d-.*Z$/)
})
