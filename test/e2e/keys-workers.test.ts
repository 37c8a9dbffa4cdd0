import t from 'tap'
import { request } from 'undici'
import { eventually } from '../support/eventually.js'
import { startBackend, startProcess } from '../support/process.js'

const config = (upstream: string) => `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { timeout: 2s }
tiers: [free, pro]
consumers: [{ api_key: { store: true } }]
services: { api: { upstreams: [${upstream}], limits: { free: 1000/h, pro: 2000/h } } }
routes: [{ path: /*, service: api }]
server: { shutdown_delay: 0, shed: { event_loop_delay: 0 } }
log: { access: off, level: fatal }
`

async function ask(address: string, key: string): Promise<number> {
  // A connection of its own each time: any of the workers may get it.
  const headers = { 'x-api-key': key, connection: 'close' }
  const { statusCode, body } = await request(`${address}/x`, { headers })
  await body.dump()
  return statusCode
}

async function json(address: string, method: 'GET' | 'POST' | 'DELETE' = 'GET', what?: object) {
  const sent =
    what === undefined ? {} : { body: JSON.stringify(what), headers: { 'content-type': 'application/json' } }
  const { body } = await request(address, { method, ...sent })
  // biome-ignore lint/suspicious/noExplicitAny: the test looks into it
  return (await body.json()) as any
}

t.test('workers without Redis have the keys of their primary, and tell it what was used', async (t) => {
  const backend = await startBackend(t)
  const gateway = await startProcess(t, config(backend.origin), {}, ['--workers', '2'])
  const { key, id } = await json(`${gateway.admin}/keys`, 'POST', { consumer: 'acme' })
  const statuses = async () =>
    new Set(await Promise.all(Array.from({ length: 20 }, () => ask(gateway.address, key))))
  t.same(await statuses(), new Set([200]))
  t.match(await json(`${gateway.admin}/keys/${id}`), { last_used: null })
  // The old ones tell it as they leave.
  gateway.child.kill('SIGUSR2')
  const used = async () => (await json(`${gateway.admin}/keys/${id}`)).last_used !== null
  await eventually('the use is told', used, 20_000)
  t.same(await statuses(), new Set([200]), 'new workers begin with the keys')
  await json(`${gateway.admin}/keys/${id}`, 'DELETE')
  t.same(await statuses(), new Set([401]))
})
