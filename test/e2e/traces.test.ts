// Tests src/telemetry/settings.ts
import { readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { request } from 'undici'
import { eventually } from '../support/eventually.js'
import { withPaths } from '../support/gateway/paths.js'
import { startBackend, startProcess } from '../support/gateway/process.js'
import { sampleOf } from '../support/telemetry/exposition.js'
import { startCollector } from '../support/telemetry/otlp-collector.js'

t.test('each worker sends its own spans, and its last ones when it leaves', async (t) => {
  const backend = await startBackend(t)
  const collector = await startCollector(t)
  const log = `${t.testdir()}/access.log`
  const yaml = (sample: number) => `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
tiers: [free]
services: { api: { upstreams: [${backend.origin}], limits: { free: 1000/min } } }
routes: [{ path: /*, service: api }]
telemetry: { traces: { url: ${collector.origin}/v1/traces, sample: ${sample} } }
server: { shutdown_delay: 0s, shed: { event_loop_delay: 0 } }
log: { access: ${log} }
`
  const env = { OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test' }
  const gateway = await startProcess(t, yaml(0), env, ['--workers', '2'])
  const get = async (path: string) => {
    const { body } = await request(`${gateway.address}${path}`, { reset: true })
    await body.dump()
  }
  for (let i = 0; i < 4; i++) await get('/before')

  writeFileSync(gateway.configFile, withPaths(yaml(1)))
  const reload = await request(`${gateway.admin}/config/reload`, { method: 'POST' })
  await reload.body.dump()
  for (let i = 0; i < 20; i++) await get('/after')
  await eventually('spans have come', () => collector.spans.length > 0)
  let metrics = ''
  // The spans count as sent only when the collector has answered.
  await eventually('they are counted', async () => {
    metrics = await (await request(`${gateway.admin}/metrics`)).body.text()
    return (sampleOf(metrics, 'tidegate_spans_exported_total') ?? 0) > 0
  })
  t.equal(sampleOf(metrics, 'tidegate_spans_dropped_total', { reason: 'export' }), 0)
  t.equal(await gateway.stop(), 0)

  const servers = collector.spans.filter(({ kind }) => kind === 'server')
  t.equal(servers.length, 20, 'all that came after sample was raised, and none before')
  t.ok(servers.every(({ attributes }) => attributes['url.path'] === '/after'))
  t.equal(collector.spans.length, 60)
  const instances = new Set(servers.map(({ resource }) => resource['service.instance.id']))
  t.equal(instances.size, 1, 'one gateway, whichever worker sends the spans')
  t.match(servers[0]!.resource, { 'service.name': 'tidegate', 'deployment.environment.name': 'test' })

  const lines = readFileSync(log, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  const logged = lines.filter(({ path }) => path === '/after').map(({ span_id }) => span_id)
  t.same(new Set(logged), new Set(servers.map(({ spanId }) => spanId)), 'the access log names the same spans')
})
