// Tests src/main.ts
// Runs alone: it counts what is open in the process.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { request } from 'undici'
import { startGateway } from '../../src/main.js'
import { processMetrics } from '../../src/telemetry/metrics/process-metrics.js'
import { eventually } from '../support/eventually.js'
import { recordingUpstream } from '../support/http/upstream.js'
import { startRedis } from '../support/redis/redis.js'

/** Returns what keeps a process alive, and who listens for its events. */
const open = () => ({
  resources: process
    .getActiveResourcesInfo()
    .filter((name) => /Server|Socket|TCP|FSEvent|Stat|Timeout/.test(name))
    .toSorted(),
  listeners: process.eventNames().map((name) => `${String(name)} ${process.listenerCount(name)}`),
})

t.test('startGateway closes all that it opened, also if it could not start', async (t) => {
  const upstream = await recordingUpstream(t)
  const redis = await startRedis(t)
  const taken = createServer().listen(0, '127.0.0.1')
  t.teardown(() => taken.close())
  const yaml = (listen: string) => `
listen: ${listen}
admin: { listen: 127.0.0.1:0 }
store: { redis: ${redis.url} }
tiers: [free]
services:
  orders: { upstreams: [${upstream.origin}], limits: { free: 10/min } }
routes:
  - { path: /*, service: orders }
log: { access: off, level: silent }
`
  await new Promise((resolve) => taken.once('listening', resolve))
  const { port } = taken.address() as AddressInfo
  const folder = t.testdir({ 'good.yaml': yaml('127.0.0.1:0'), 'bad.yaml': yaml(`127.0.0.1:${port}`) })
  const before = open()

  const gateway = await startGateway({ configFile: `${folder}/good.yaml` })
  const response = await request(`${gateway.address}/a`, { reset: true })
  t.equal(await response.body.text(), 'ok')
  t.match(gateway.config.status(), { lastError: null })
  await Promise.all([gateway.close(0), gateway.close(0)])
  await eventually(
    'nothing more is open than before',
    () => open().resources.length <= before.resources.length,
  )
  t.strictSame(open().listeners, before.listeners)

  await t.rejects(startGateway({ configFile: `${folder}/bad.yaml` }), { message: /listen/ })
  await eventually(
    'nothing more is open than before',
    () => open().resources.length <= before.resources.length,
  )
  t.strictSame(open().listeners, before.listeners)
})

t.test('a second gateway measures the process with what the first has opened', async (t) => {
  t.equal(processMetrics(), processMetrics())
})
