import { once } from 'node:events'
import t from 'tap'
import { Agent, request } from 'undici'
import { eventually } from '../support/eventually.js'
import { startBackend, startProcess, tally } from '../support/gateway/process.js'

function config(upstream: string, delay: string, grace = '10s'): string {
  return `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
tiers: [free]
services:
  api: { upstreams: [${upstream}] }
routes:
  - { path: /*, service: api }
server: { shutdown_delay: ${delay}, shutdown_grace: ${grace}, shed: { event_loop_delay: 0 } }
log: { access: off }
`
}

// These tests wait for a drain or for a process to start, so they run side by side.
t.jobs = 3
const BESIDE = { buffered: true }

t.test('SIGTERM under load: /readyz turns 503, no request fails, exit code 0', BESIDE, async (t) => {
  const backend = await startBackend(t, (_req, res) => {
    setTimeout(() => res.end('late'), 30)
  })
  const gateway = await startProcess(t, config(backend.origin, '4s'))
  const agent = new Agent({ connections: 16 })
  t.teardown(() => agent.destroy())

  let stopping = false
  const statuses: number[] = []
  const load = Promise.all(
    Array.from({ length: 16 }, async () => {
      while (!stopping) {
        const { statusCode, body } = await request(`${gateway.address}/x`, { dispatcher: agent })
        t.equal(await body.text(), 'late')
        statuses.push(statusCode)
      }
    }),
  )
  await eventually('the load is on', () => statuses.length >= 64)
  const exited = gateway.stop('SIGTERM')
  await eventually('/readyz says 503', async () => {
    const { statusCode, body } = await request(`${gateway.admin}/readyz`)
    await body.dump()
    return statusCode === 503
  })
  const then = statuses.length
  await eventually('requests go on', () => statuses.length >= then + 32)
  stopping = true
  await load
  t.strictSame(Object.keys(tally(statuses)), ['200'])
  t.equal(await exited, 0)
})

t.test('a request in flight at SIGTERM gets its whole response', BESIDE, async (t) => {
  let end = () => {}
  const backend = await startBackend(t, (req, res) => {
    if (req.url !== '/x') return res.end()
    res.write('first ')
    end = () => void res.end('last')
  })
  const gateway = await startProcess(t, config(backend.origin, '0s', '1m'))
  const answer = request(`${gateway.address}/x`)
  await eventually('it is in flight', () => backend.requests.length === 1)
  const stopped = Date.now()
  const exited = gateway.stop('SIGTERM')
  await eventually('it takes no more', () =>
    request(`${gateway.address}/more`).then(
      ({ body }) => body.dump().then(() => false),
      () => true,
    ),
  )
  end()
  const { statusCode, body } = await answer
  t.equal(statusCode, 200)
  t.equal(await body.text(), 'first last')
  t.equal(await exited, 0)
  t.ok(Date.now() - stopped < 40_000, 'its connection, which was not told to close, delays nothing')
})

t.test('a second SIGTERM ends the process at once', BESIDE, async (t) => {
  const backend = await startBackend(t, () => {})
  const gateway = await startProcess(t, config(backend.origin, '1m'))
  request(`${gateway.address}/never-answered`).catch(() => {})
  await eventually('it is in flight', () => backend.requests.length === 1)
  const exited = once(gateway.child, 'exit')
  gateway.child.kill('SIGTERM')
  // Two signals at the same moment count as one.
  await eventually('it has heard', async () => (await request(`${gateway.admin}/readyz`)).statusCode === 503)
  const started = Date.now()
  gateway.child.kill('SIGTERM')
  await exited
  t.ok(Date.now() - started < 20_000, 'long before its delay of a minute')
})
