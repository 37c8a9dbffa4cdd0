import { rename, writeFile } from 'node:fs/promises'
import t from 'tap'
import { Agent, request } from 'undici'
import { eventually } from '../support/eventually.js'
import { withPaths } from '../support/gateway/paths.js'
import { startBackend, tally } from '../support/gateway/process.js'
import { startWhole } from '../support/gateway/whole-gateway.js'
import { startRedis } from '../support/redis/redis.js'

function config(redis: string, upstream: string, limit: string, extra = ''): string {
  return `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { redis: "${redis}", timeout: 2s }
tiers: [free]
consumers: [{ header: { name: x-user-id, from: anyone } }]
services:
  api: { upstreams: [${upstream}], limits: { free: ${limit} } }
routes:
  - { path: /api/*, service: api }
${extra}
server: { shed: { event_loop_delay: 0 } }
log: { access: off }
`
}

async function hashOf(admin: string): Promise<string> {
  const { body } = await request(`${admin}/config`)
  return ((await body.json()) as { hash: string }).hash
}

t.test('none of 2,000 requests fails across 20 reloads', async (t) => {
  const redis = await startRedis(t)
  const backend = await startBackend(t)
  const gateway = await startWhole(t, config(redis.url, backend.origin, '100000/min'))
  const agent = new Agent({ connections: 16 })
  t.teardown(() => agent.destroy())

  const hashes = new Set<string>()
  let reloading = true
  const reloads = (async () => {
    for (let i = 1; i <= 20; i++) {
      const before = await hashOf(gateway.admin)
      const next = config(
        redis.url,
        backend.origin,
        `${100_000 + i}/min`,
        `  - { path: /extra-${i}/*, service: api }`,
      )
      // Every other write is as an editor does it (write beside, rename); the rest are in place.
      if (i % 2 === 0) {
        await writeFile(`${gateway.configFile}.new`, withPaths(next))
        await rename(`${gateway.configFile}.new`, gateway.configFile)
      } else await writeFile(gateway.configFile, withPaths(next))
      const answer = await request(`${gateway.admin}/config/reload`, { method: 'POST' })
      t.equal(answer.statusCode, 200)
      await answer.body.dump()
      await eventually('a new hash', async () => (await hashOf(gateway.admin)) !== before)
      hashes.add(await hashOf(gateway.admin))
    }
    reloading = false
  })()

  const statuses: number[] = []
  await Promise.all(
    Array.from({ length: 8 }, async (_, worker) => {
      for (let i = 0; i < 250 || reloading; i++) {
        const { statusCode, body } = await request(`${gateway.address}/api/x`, {
          headers: { 'x-user-id': `user-${worker}` },
          dispatcher: agent,
        })
        await body.dump()
        statuses.push(statusCode)
      }
    }),
  )
  await reloads
  t.equal(hashes.size, 20, 'twenty configurations were in force')
  t.ok(statuses.length >= 2_000, `${statuses.length} requests`)
  t.strictSame(Object.keys(tally(statuses)), ['200'], 'every one was answered by the backend')
})

t.test('a raised limit counts what was used already, and a bad file changes nothing', async (t) => {
  const redis = await startRedis(t)
  const backend = await startBackend(t)
  const gateway = await startWhole(t, config(redis.url, backend.origin, '5/h'))
  const ask = async () => {
    const { statusCode, body } = await request(`${gateway.address}/api/x`, {
      headers: { 'x-user-id': 'ada' },
    })
    await body.dump()
    return statusCode
  }
  const many = async (count: number) => {
    const statuses: number[] = []
    for (let i = 0; i < count; i++) statuses.push(await ask())
    return tally(statuses)
  }
  // In one step: the gateway could read and reject half of a file that is written in place.
  const replace = async (text: string) => {
    await writeFile(`${gateway.configFile}.new`, withPaths(text))
    await rename(`${gateway.configFile}.new`, gateway.configFile)
  }
  t.strictSame(await many(7), { 200: 5, 429: 2 })

  const before = await hashOf(gateway.admin)
  await replace(config(redis.url, backend.origin, '8/h'))
  await eventually('the raised limit is in force', async () => (await hashOf(gateway.admin)) !== before)
  t.strictSame(await many(5), { 200: 3, 429: 2 }, '8 in all, 5 of which were used before')

  await replace('tiers: [free\nroutes: nonsense')
  await eventually('the error is shown', async () => {
    const { body } = await request(`${gateway.admin}/config`)
    return ((await body.json()) as { lastError: unknown }).lastError !== null
  })
  t.equal(await ask(), 429, 'the last good configuration stays in force')
  const metrics = await (await request(`${gateway.admin}/metrics`)).body.text()
  t.match(metrics, /^tidegate_config_reloads_total\{result="rejected"\} 1$/m)
  t.match(metrics, /^tidegate_config_last_reload_successful 0$/m)
  const lines = () =>
    gateway
      .stderr()
      .split('\n')
      .filter((line) => line.includes('rejected'))
  await eventually('it is logged', async () => lines().length > 0)
  t.equal(lines().length, 1, 'one log line')
})
