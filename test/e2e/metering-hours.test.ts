import t from 'tap'
import { startBackend, startProcess, storeUp } from '../support/gateway/process.js'
import { startWhole } from '../support/gateway/whole-gateway.js'
import { startRedis } from '../support/redis/redis.js'
import { scratchFolder } from '../support/scratch.js'

t.test('GET /consumers/{id} adds up the hours of all gateways and their workers', async (t) => {
  const [redis, backend] = await Promise.all([startRedis(t), startBackend(t)])
  const config = (name: string) => `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
instance: ${name}
store: { redis: "${redis.url}", timeout: 2s }
tiers: [free]
consumers: [{ header: { name: x-user-id, from: [anyone] } }]
services: { api: { upstreams: [${backend.origin}], limits: { free: 25/h } } }
routes: [{ path: /*, service: api, cost: 2 }]
metering: { spool: { path: ${scratchFolder(t, 'hours-')} }, to: { http: { url: "http://127.0.0.1:1/" } } }
server: { shutdown_delay: 0, shed: { event_loop_delay: 0 } }
log: { access: off }
`
  const whole = await startWhole(t, config('gw-1'))
  const process = await startProcess(t, config('gw-2'), {}, ['--workers', '2'])
  await Promise.all([whole, process].map(storeUp))
  const ask = async (address: string) => {
    // A connection of its own, so that both workers get some.
    const headers = { 'x-user-id': 'acme', connection: 'close' }
    await (await fetch(`${address}/x`, { headers })).text()
  }
  for (let i = 0; i < 8; i++) await Promise.all([ask(whole.address), ask(process.address)])
  const answer = (await (await fetch(`${whole.admin}/consumers/acme`)).json()) as {
    hours: Record<string, number>[]
  }
  t.match(answer, { hours_since: null, hours_nodes: { answered: 2, silent: [], problem: null } })
  t.equal(answer.hours.length, 24)
  // The hour may have turned meanwhile.
  const sum = (name: string) => answer.hours.slice(-2).reduce((total, one) => total + one[name]!, 0)
  t.strictSame(['requests', 'cost', 'denied'].map(sum), [12, 24, 4])
  t.equal(await process.stop('SIGTERM'), 0)
})
