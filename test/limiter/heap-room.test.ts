import { spawnSync } from 'node:child_process'
import t from 'tap'
import { countersThatFit, oldGenerationLimit } from '../../src/limiter/heap-room.js'

const MIB = 1024 ** 2

t.test('oldGenerationLimit reads the last heap option, or derives one from the heap size', async (t) => {
  t.equal(oldGenerationLimit(['--max-old-space-size=320'], 368 * MIB), 320 * MIB)
  t.equal(
    oldGenerationLimit(['', '--max-old-space-size=64', '--inspect', '--max_old_space_size=128'], 1),
    128 * MIB,
    'the last one, however it is written',
  )
  t.equal(oldGenerationLimit([], 1000 * MIB), 950 * MIB, 'V8 gives a little to the young one')
})

t.test('there are as many counters as configured, or as fit into half of the heap', async (t) => {
  t.equal(countersThatFit(1_000_000, 4096 * MIB), 1_000_000)
  t.equal(countersThatFit(1_000_000, 320 * MIB), 262_144)
  t.equal(countersThatFit(5, 320 * MIB), 5)
})

t.test('that many counters take at most half of the heap', async (t) => {
  const script = `
    const { createLocal } = await import(${JSON.stringify(new URL('../../dist/limiter/local.js', import.meta.url).href)})
    const { countersThatFit } = await import(${JSON.stringify(new URL('../../dist/limiter/heap-room.js', import.meta.url).href)})
    const { loadConfig } = await import(${JSON.stringify(new URL('../../dist/config/load/load.js', import.meta.url).href)})
    const { compileSnapshot } = await import(${JSON.stringify(new URL('../../dist/config/snapshot/snapshot.js', import.meta.url).href)})
    const { config } = loadConfig(\`
tiers: [free]
services: { api: { upstreams: ['http://a'], limits: { free: [5/s, 100/min, 1000/h] } } }
routes: [{ path: /*, service: api }]\`, { file: 'a', env: {} })
    const service = compileSnapshot(config, 0).services[0]
    const before = gcAndUsed()
    const local = createLocal(countersThatFit(1_000_000), () => 1)
    for (let i = 0; i < 300_000; i++)
      local.take('error', service, service.policies[0], 'a-stranger-with-an-id-' + i, 1)
    console.log((gcAndUsed() - before) / 2 ** 20)
    function gcAndUsed() { gc(); return process.memoryUsage().heapUsed }
    local.owes()`
  const flags = ['--max-old-space-size=128', '--expose-gc', '--input-type=module', '-e', script]
  const { stdout, stderr, status } = spawnSync(process.execPath, flags, { encoding: 'utf8' })
  t.equal(status, 0, stderr)
  t.ok(Number(stdout) > 20 && Number(stdout) < 64, `${stdout.trim()} MiB of 128`)
})
