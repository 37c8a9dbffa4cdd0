import { readFileSync } from 'node:fs'
import t from 'tap'
import { request } from 'undici'
import { tidegate } from '../support/cli.js'
import { eventually } from '../support/eventually.js'
import { freePort } from '../support/free-port.js'
import { startBackend, startProcess, storeUp } from '../support/process.js'
import { hasRedisServer, ownRedis } from '../support/redis.js'

const file = (name: string) => readFileSync(new URL(`../../deploy/redis/${name}`, import.meta.url), 'utf8')
/** The settings as arguments: what a file has first, arguments may change. */
const SETTINGS = file('redis.conf')
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('#'))
  .flatMap((line) => {
    const [name, ...values] = line.split(' ')
    return [`--${name}`, ...values.map((value) => (value === '""' ? '' : value))]
  })
const [user, , ...rights] = file('users.acl').trimEnd().split('\n').at(-1)!.split(' ').slice(1)
const skip = hasRedisServer ? false : 'no redis-server on the PATH'

const config = (upstream: string, redis: string) => `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { redis: "${redis}", timeout: 2s }
tiers: [free, pro]
consumers: [{ header: { name: x-user-id } }]
services: { api: { upstreams: [${upstream}], limits: { free: 3/h, pro: 100/h } } }
routes: [{ path: /*, service: api }]
log: { access: off }
`

t.test('Redis with the settings and the user of deploy/redis', { skip }, async (t) => {
  const redis = await ownRedis(t, await freePort(), SETTINGS)
  const { client } = redis
  const letIn = () => client.call('ACL', 'SETUSER', user!, 'on', ...rights)
  await letIn()
  const backend = await startBackend(t)
  const address = `redis://${user}:change-me@127.0.0.1:${redis.port}`
  const gateway = await startProcess(t, config(backend.origin, address))
  await storeUp(gateway)
  async function ask(consumer: string) {
    const answer = await request(`${gateway.address}/x`, { headers: { 'x-user-id': consumer } })
    await answer.body.dump()
    return { status: answer.statusCode, counted: answer.headers.ratelimit !== undefined }
  }
  const statuses = async (consumer: string, n: number) => {
    const all: number[] = []
    while (all.length < n) all.push((await ask(consumer)).status)
    return all
  }
  async function counting(consumer: string) {
    await eventually('it counts', async () => (await ask(consumer)).counted)
  }

  t.test('lets the gateway do all that it does, and the gateway tries nothing else', async (t) => {
    t.strictSame(await statuses('ada', 4), [200, 200, 200, 429])
    const commands = [
      ['usage', 'api', 'ada', '--reset'],
      ['tier', 'eve', 'pro'],
    ]
    for (const command of commands) {
      t.match(await tidegate([...command, '--config', gateway.configFile]), { code: 0, stderr: '' })
    }
    t.equal((await request(`${gateway.admin}/top`)).statusCode, 200)
    t.strictSame(await client.call('ACL', 'LOG'), [], 'nothing was refused')
  })

  t.test('keeps counts and tiers when it is killed', async (t) => {
    t.strictSame(await statuses('bob', 2), [200, 200])
    // What it has said yes to is in its file, unless a disk that is busy keeps it from writing there.
    const written = async () => /^aof_buffer_length:0\r$/m.test(await client.info('persistence'))
    await eventually('all is written', written)
    await redis.stop()
    await redis.restart()
    await letIn()
    await counting('somebody')
    t.strictSame(await statuses('bob', 2), [200, 429])
    t.equal(await client.hget('tier:{assignments}', 'eve'), 'pro')
  })

  t.test('charges nothing while too few replicas follow it, and goes on when they do', async (t) => {
    await client.config('SET', 'min-replicas-to-write', '1')
    t.strictSame(await ask('carl'), { status: 200, counted: false }, 'on_failure: open')
    await client.config('SET', 'min-replicas-to-write', '0')
    await counting('somebody else')
    t.strictSame(await statuses('carl', 4), [200, 200, 200, 429])
  })

  t.test(
    'when it is full, gives up what expires soon: quotas of a month stay, and so do tiers',
    async (t) => {
      const month = Array.from({ length: 200 }, (_, i) => `rl:api:{m${i}}:30d`)
      const fill = client.pipeline()
      for (const key of month) fill.set(key, '1', 'PX', 30 * 86_400_000)
      await fill.exec()
      await client.config('SET', 'maxmemory', '8mb')
      for (let batch = 0; batch < 10; batch++) {
        const flood = client.pipeline()
        for (let i = 0; i < 10_000; i++) flood.set(`rl:api:{f${batch}-${i}}:1m`, '1', 'PX', 120_000)
        await flood.exec()
      }
      t.ok(Number(/evicted_keys:(\d+)/.exec(await client.info('stats'))?.[1]) > 5_000, 'it was full')
      t.equal(await client.exists(...month), month.length)
      t.equal(await client.hget('tier:{assignments}', 'eve'), 'pro')
      t.strictSame(await ask('dora'), { status: 200, counted: true }, 'and everybody is counted')
    },
  )
})
