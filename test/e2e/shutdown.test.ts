import { once } from 'node:events'
import t from 'tap'
import { Agent, request } from 'undici'
import { startBackend, startProcess, tally } from '../support/process.js'

function config(upstream: string, delay: string): string {
  return `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
tiers: [free]
services:
  api: { upstreams: [${upstream}] }
routes:
  - { path: /*, service: api }
server: { shutdown_delay: ${delay}, shutdown_grace: 10s }
log: { access: off }
`
}

t.test('SIGTERM under load: /readyz turns 503, no request fails, exit code 0', async (t) => {
  const backend = await startBackend(t, (_req, res) => {
    setTimeout(() => res.end('late'), 30)
  })
  const gateway = await startProcess(t, config(backend.origin, '1s'))
  const agent = new Agent({ connections: 16 })
  t.teardown(() => agent.destroy())

  let stopping = false
  const statuses: number[] = []
  const readiness: number[] = []
  const load = Promise.all(
    Array.from({ length: 16 }, async () => {
      while (!stopping) {
        const { statusCode, body } = await request(`${gateway.address}/x`, { dispatcher: agent })
        t.equal(await body.text(), 'late')
        statuses.push(statusCode)
      }
    }),
  )
  await new Promise((resolve) => setTimeout(resolve, 200))
  const exited = gateway.stop('SIGTERM')
  await new Promise((resolve) => setTimeout(resolve, 300))
  const ready = await request(`${gateway.admin}/readyz`)
  readiness.push(ready.statusCode)
  await ready.body.dump()
  stopping = true
  await load
  t.strictSame(readiness, [503])
  t.strictSame(Object.keys(tally(statuses)), ['200'])
  t.equal(await exited, 0)
})

t.test('a request in flight at SIGTERM gets its whole answer', async (t) => {
  const backend = await startBackend(t, (_req, res) => {
    res.write('first ')
    setTimeout(() => res.end('last'), 600)
  })
  const gateway = await startProcess(t, config(backend.origin, '0s'))
  const answer = request(`${gateway.address}/x`)
  await new Promise((resolve) => setTimeout(resolve, 200))
  const stopped = Date.now()
  const exited = gateway.stop('SIGTERM')
  const { statusCode, body } = await answer
  t.equal(statusCode, 200)
  t.equal(await body.text(), 'first last')
  t.equal(await exited, 0)
  t.ok(Date.now() - stopped < 8_000, 'and its connection, which was not told to close, holds nothing up')
})

t.test('a second SIGTERM ends it at once', async (t) => {
  const backend = await startBackend(t, () => {})
  const gateway = await startProcess(t, config(backend.origin, '30s'))
  request(`${gateway.address}/never-answered`).catch(() => {})
  await new Promise((resolve) => setTimeout(resolve, 200))
  const started = Date.now()
  gateway.child.kill('SIGTERM')
  await new Promise((resolve) => setTimeout(resolve, 100))
  gateway.child.kill('SIGTERM')
  await once(gateway.child, 'exit')
  t.ok(Date.now() - started < 5_000, 'long before its delay of 30 s')
})
