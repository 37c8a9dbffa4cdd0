import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { request } from 'undici'
import { eventually } from '../support/eventually.js'
import { startBackend, startProcess } from '../support/process.js'
import { hasRedisServer, ownRedis } from '../support/redis.js'
import { startWhole } from '../support/whole-gateway.js'

const skip = hasRedisServer ? false : 'needs a redis-server of its own to kill'

interface Told {
  readonly nodes: { answered: number; silent: string[]; problem: string | null }
  readonly rows: readonly { consumer: string; count: number; error: number; limit: string | null }[]
}

t.test('GET /top of one gateway tells what all on its Redis have counted', { skip }, async (t) => {
  const redis = await ownRedis(t)
  const backend = await startBackend(t)
  const yaml = `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { redis: "${redis.url}", timeout: 2s }
tiers: [free]
consumers: [{ header: { name: x-user-id } }]
services: { api: { upstreams: [${backend.origin}], limits: { free: 10/day } } }
routes: [{ path: /*, service: api, cost: 2 }]
server: { shed: { event_loop_delay: 0 } }
log: { access: off }
`
  const [single, workers] = await Promise.all([
    startWhole(t, yaml),
    startProcess(t, yaml, {}, ['--workers', '2']),
  ])
  const send = async ({ address }: { address: string }, user: string, count: number) => {
    for (let i = 0; i < count; i++) {
      const { body } = await request(address, { headers: { 'x-user-id': user }, reset: true })
      await body.dump()
    }
  }
  const top = async ({ admin }: { admin: string }, by: string) => {
    const { body } = await request(`${admin}/top?by=${by}`)
    return (await body.json()) as Told
  }
  await send(single, 'eve', 7)
  await send(workers, 'eve', 12)
  await send(workers, 'bob', 5)
  while ((await redis.client.zcard('nodes:{fleet}')) < 2) await delay(20)

  /** Told by both: a gateway that had no time to answer is one that is silent, and that is no fault. */
  const topOfBoth = async (gateway: { admin: string }, by: string): Promise<Told> => {
    let told = await top(gateway, by)
    await eventually('both have answered', async () => {
      told = await top(gateway, by)
      return told.nodes.answered === 2
    })
    return told
  }
  for (const gateway of [single, workers]) {
    const { nodes, rows } = await topOfBoth(gateway, 'limited')
    t.strictSame(nodes, { answered: 2, silent: [], problem: null })
    t.match(rows, [{ consumer: 'eve', count: 14, error: 0, limit: 'day' }])
    t.equal(rows.length, 1)
  }
  const { rows } = await topOfBoth(workers, 'cost')
  t.strictSame(
    rows.map(({ consumer, count }) => [consumer, count]),
    [
      ['eve', 10],
      ['bob', 10],
    ],
  )
  const near = await topOfBoth(single, 'near')
  t.strictSame(near.rows.map(({ consumer, count }) => [consumer, count]).sort(), [
    ['bob', 2],
    ['eve', 2],
  ])

  await redis.stop()
  // Asked another way: what was answered is good for half a second.
  const alone = await top(single, 'limited&tier=free')
  t.equal(alone.nodes.answered, 1)
  t.ok(alone.nodes.problem, 'that the others could not be asked is told')
  t.match(alone.rows, [{ consumer: 'eve', count: 2 }])
})
