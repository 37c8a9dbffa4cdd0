import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { eventually } from '../support/eventually.js'
import { startBackend, startProcess } from '../support/gateway/process.js'
import { sampleOf } from '../support/telemetry/exposition.js'

function yamlFor(origin: string, shed: string): string {
  return `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
tiers: [free, enterprise]
consumers: [{ header: { name: x-user, from: anyone } }, { ip: {} }]
services: { api: { upstreams: ['${origin}'] } }
routes: [{ path: /*, service: api }]
log: { access: "off" }
server: { shutdown_delay: 0, shutdown_grace: 1s, shed: ${shed} }
`
}

// These tests wait for what a process does by itself, so they run side by side.
t.jobs = 2
const BESIDE = { buffered: true }

t.test(
  'a gateway that gets no CPU sheds requests, says so, and serves again afterwards',
  BESIDE,
  async (t) => {
    const backend = await startBackend(t)
    const gateway = await startProcess(t, yamlFor(backend.origin, '{ event_loop_delay: 100ms }'))
    const metric = async (name: string, labels: Record<string, string>) =>
      sampleOf(await (await fetch(`${gateway.admin}/metrics`)).text(), name, labels) ?? 0

    // The process is stopped most of the time, as if a neighbour took its CPU: each stop delays its event loop.
    let stalling = true
    const stalled = (async () => {
      while (stalling) {
        gateway.child.kill('SIGSTOP')
        await sleep(250)
        gateway.child.kill('SIGCONT')
        await sleep(80)
      }
    })()
    const statuses = new Set<number>()
    const end = performance.now() + 20_000
    while (!statuses.has(503) && performance.now() < end) {
      const response = await fetch(gateway.address)
      await response.text()
      statuses.add(response.status)
      if (response.status === 503) t.equal(response.headers.get('retry-after'), '1')
    }
    t.ok(statuses.has(503), 'it sheds')
    t.equal((await fetch(`${gateway.admin}/healthz`)).status, 200, 'but never health')
    t.ok((await metric('tidegate_overload', { reason: 'event_loop' })) > 0)
    t.ok((await metric('tidegate_shed_total', { tidegate_tier: 'free', reason: 'event_loop' })) > 0)
    stalling = false
    await stalled

    let pressure = 1
    for (
      const until = performance.now() + 20_000;
      pressure > 0 && performance.now() < until;
      await sleep(200)
    ) {
      pressure = await metric('tidegate_overload', { reason: 'event_loop' })
    }
    t.equal(pressure, 0, 'it lets go')
    await eventually('it serves', async () => (await fetch(gateway.address)).status === 200)
    t.equal(await gateway.stop(), 0)
  },
)

t.test('a gateway whose heap stays full drains, logs why, and exits with 1', BESIDE, async (t) => {
  const backend = await startBackend(t)
  // Any process uses more than a tenth of 64 MB.
  const gateway = await startProcess(
    t,
    yamlFor(backend.origin, '{ heap: 5, exit_heap: 10 }'),
    {},
    [],
    ['--max-old-space-size=64'],
  )
  await eventually('it has exited', () => gateway.child.exitCode !== null, 20_000)
  t.equal(gateway.child.exitCode, 1)
  t.match(gateway.stderr(), /the heap is full/)
  t.match(gateway.stderr(), /stopped/, 'it has drained')
})
