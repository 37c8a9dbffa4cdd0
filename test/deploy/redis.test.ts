import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import t, { type Test } from 'tap'
import { request } from 'undici'
import { eventually } from '../support/eventually.js'
import { tidegate } from '../support/gateway/cli.js'
import { startBackend, storeUp } from '../support/gateway/process.js'
import { startWhole } from '../support/gateway/whole-gateway.js'
import { deployedRedis, recordsIn, SHIPPED_ACL, writeRecords } from '../support/redis/deployed-redis.js'
import { hasRedisServer } from '../support/redis/redis.js'

/** Adds a thousand counts of consumers that came once. Redis evicts keys before a script, not within it, so each call adds only a few. */
const FLOOD = `for i = 1, 1000 do redis.call('SET', 'rl:api:{f' .. ARGV[1] .. '-' .. i .. '}:1m', '1', 'PX', '120000') end`
// Each test has a Redis of its own, and mostly waits.
t.jobs = 2

const skip = hasRedisServer ? false : 'no redis-server on the PATH'
/** How deploy/redis/users.acl began until November 2026. */
const OLD_ACL = SHIPPED_ACL.replace(/^user default .*$/m, 'user default off')

const MAPS = ['tier:{assignments}', 'keys:{keys}', 'ban:{bans}', 'amounts:{amounts}']

const config = (upstream: string, redis: string) => `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { redis: "${redis}", timeout: 2s }
tiers: [free, pro]
consumers: [{ api_key: { store: true } }, { header: { name: x-user-id, from: anyone } }]
services: { api: { upstreams: [${upstream}], limits: { free: 3/h, pro: 100/h } } }
routes: [{ path: /*, service: api }]
server: { shed: { event_loop_delay: 0 } }
log: { access: off }
`

/** Starts Redis as it is deployed, and a gateway on it. */
async function start(t: Test) {
  const redis = await deployedRedis(t)
  const { client } = redis
  const backend = await startBackend(t)
  const gateway = await startWhole(t, config(backend.origin, redis.gateway))
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
  /** Resolves when Redis has written everything that it confirmed to its file. A busy disk can keep it from writing. */
  async function written() {
    const isWritten = async () => /^aof_buffer_length:0\r$/m.test(await client.info('persistence'))
    await eventually('all is written', isWritten)
  }
  return { redis, client, gateway, ask, statuses, counting, written }
}

t.test('Redis with the settings and the user of deploy/redis', { skip }, async (t) => {
  const { redis, client, gateway, statuses, counting, written } = await start(t)

  t.test('allows every command that the gateway sends', async (t) => {
    t.strictSame(await statuses('ada', 4), [200, 200, 200, 429])
    const commands = [
      ['usage', 'api', 'ada', '--reset'],
      ['tier', 'eve', 'pro'],
      ['tier', 'eva', 'pro', '--for', '1d'],
      ['key', 'create', '--consumer', 'eve', '--expires', '90d'],
      ['ban', '203.0.113.0/24', '--for', '1h'],
      ['ban', '203.0.113.7'],
      ['boost', 'eve', '--service', 'api', '--limit', 'hour', '--by', '5', '--for', '1h'],
      ['override', 'eve', '--service', 'api', '--limit', 'hour', '--amount', '500'],
    ]
    for (const command of commands) {
      const { code, stderr } = await tidegate([...command, '--config', gateway.configFile])
      t.equal(code, 0, stderr)
    }
    t.equal((await request(`${gateway.admin}/top`)).statusCode, 200)
    t.strictSame(await client.call('ACL', 'LOG'), [], 'nothing was refused')
  })

  t.test('allows every command in the scripts', (t) => {
    const folder = new URL('../../lua/', import.meta.url)
    const scripts = readdirSync(folder).map((name) => readFileSync(new URL(name, folder), 'utf8'))
    const called = [...scripts.join('\n').matchAll(/redis\.p?call\('(\w+)'/g)].map(([, name]) =>
      name!.toLowerCase(),
    )
    t.ok(called.length > 20)
    const allowed = new Set(SHIPPED_ACL.split(/\s/).map((word) => word.replace('+', '')))
    t.strictSame([...new Set(called)].filter((name) => !allowed.has(name)).sort(), [])
    t.end()
  })

  t.test('lets in nobody without a password', async (t) => {
    const stranger = connect(redis.port, '127.0.0.1').setEncoding('latin1')
    t.teardown(() => stranger.destroy())
    async function answerTo(command: string) {
      stranger.write(`${command}\r\n`)
      return (await once(stranger, 'data')).join('')
    }
    t.match(await answerTo('GET tier:{assignments}:version'), /^-NOAUTH /)
    for (const password of ['""', 'change-me', 'secret', 'nopass']) {
      t.match(await answerTo(`AUTH default ${password}`), /^-WRONGPASS /)
    }
    t.match(await answerTo('AUTH change-me'), /^-WRONGPASS /)
    t.match(await answerTo('HGETALL keys:{keys}'), /^-NOAUTH /)
  })

  /** Sends SHUTDOWN on a connection that does not retry. */
  async function shutdown() {
    const asking = client.duplicate({ retryStrategy: () => null, maxRetriesPerRequest: 0 })
    asking.on('error', () => {})
    await asking.call('SHUTDOWN').catch(() => {})
    asking.disconnect()
  }

  for (const [how, end] of [
    ['SHUTDOWN', shutdown],
    ['kill -9', async () => {}],
  ] as const) {
    t.test(`keeps every record over ${how}`, async (t) => {
      const consumer = `bob after ${how.length}`
      t.strictSame(await statuses(consumer, 2), [200, 200])
      await written()
      const before = await recordsIn(client)
      for (const map of MAPS) {
        t.ok(before.get(map)!.length >= 1 && before.has(`${map}:version`) && before.has(`${map}:log`), map)
        if (map !== 'amounts:{amounts}') t.ok(before.has(`${map}:ends`))
      }
      t.equal(before.get('audit:{log}')!.length, 8, 'the commands before')
      await end()
      await redis.stop()
      await redis.restart()
      const after = await recordsIn(client)
      t.strictSame([...after.keys()], [...before.keys()])
      for (const [key, records] of before) t.strictSame(after.get(key), records, key)
      await counting(`somebody after ${how}`)
      t.strictSame(await statuses(consumer, 2), [200, 429])
    })
  }

  t.test('keeps every record but the latest over kill -9 during writes', async (t) => {
    await written()
    const before = await recordsIn(client)
    for (let round = 0; round < 3; round++) {
      const writer = await writeRecords(redis.gateway, `w${'x'.repeat(round)}`)
      const some = () => writer.taken.size === 5 && [...writer.taken.values()].every(({ size }) => size >= 50)
      await eventually('some of each kind', some)
      await redis.stop()
      await redis.restart()
      await writer.stop()
      const after = await recordsIn(client)
      for (const [map, keys] of writer.taken) {
        const records = new Set(after.get(map)!.map((text) => text.split(',')[0]))
        const lost = [...keys].filter((key) => !records.has(key))
        // A busy disk may keep the latest records from the file; test/long counts on one that is not busy.
        t.strictSame(
          lost,
          lost.length === 0 ? [] : [...keys].slice(-lost.length),
          `${map}: at most the latest`,
        )
        t.ok(
          before.get(map)!.every((text) => after.get(map)!.includes(text)),
          map,
        )
      }
    }
  })

  t.test('restores what Redis forgot while it ran with the old users', async (t) => {
    const reasons = async () =>
      (await (await request(`${gateway.admin}/readyz`)).body.text()).split('forgotten')
    // A busy disk may have lost the latest records of the previous test, and the gateway may not have seen them: no restore can bring those
    // back.
    const hasLooked = async () => (await request(`${gateway.admin}/store`)).statusCode === 200
    await eventually('the gateway has looked', hasLooked)
    if ((await reasons()).length > 1) {
      const accepted = await tidegate(['store', 'accept', '--config', gateway.configFile])
      t.equal(accepted.code, 0, accepted.stderr)
    }
    await eventually('the gateway has what the store has', async () => (await reasons()).length === 1)
    await eventually('the gateway has looked again', hasLooked)
    await written()
    const before = await recordsIn(client)
    redis.writeAcl(OLD_ACL)
    await redis.stop()
    await redis.restart()
    t.equal(await client.exists('tier:{assignments}', 'keys:{keys}', 'ban:{bans}'), 0, 'it has lost them')
    await eventually('the gateway knows', async () => (await reasons()).length === 5)
    redis.writeAcl(SHIPPED_ACL)
    await redis.stop()
    await redis.restart()
    const after = await recordsIn(client)
    for (const [key, records] of before) t.strictSame(after.get(key), records, key)
    const restored = await tidegate(['store', 'restore', '--config', gateway.configFile])
    t.equal(restored.code, 0, restored.stderr)
    await eventually('all is well', async () => (await reasons()).length === 1)
    const now = await recordsIn(client)
    // The gateway also knows what a busy disk had kept from the file at the kill.
    for (const map of MAPS) {
      const all = new Set(now.get(map))
      t.strictSame(
        before.get(map)!.filter((text) => !all.has(text)),
        [],
        map,
      )
    }
    t.strictSame(await client.call('ACL', 'LOG'), [], 'nothing was refused')
  })
})

t.test('the same Redis, split, without replicas and full', { skip }, async (t) => {
  const { client, gateway, ask, statuses, counting } = await start(t)

  t.test('allows a split and a join of the store', async (t) => {
    for (const command of [
      ['store', 'split'],
      ['tier', 'eve', 'pro'],
      ['store', 'join'],
    ]) {
      const { code, stderr } = await tidegate([...command, '--config', gateway.configFile])
      t.equal(code, 0, stderr)
    }
    t.equal(await client.hget('tier:{assignments}', 'eve'), 'pro')
    t.strictSame(await client.call('ACL', 'LOG'), [], 'nothing was refused')
  })

  t.test('counts nothing while too few replicas follow it, and counts again when they do', async (t) => {
    await client.config('SET', 'min-replicas-to-write', '1')
    t.strictSame(await ask('carl'), { status: 200, counted: false }, 'on_failure: open')
    await client.config('SET', 'min-replicas-to-write', '0')
    await counting('somebody else')
    t.strictSame(await statuses('carl', 4), [200, 200, 200, 429])
  })

  t.test('when it is full, evicts what expires soon, and keeps monthly quotas and tiers', async (t) => {
    const month = Array.from({ length: 200 }, (_, i) => `rl:api:{m${i}}:30d`)
    const fill = client.pipeline()
    for (const key of month) fill.set(key, '1', 'PX', 30 * 86_400_000)
    await fill.exec()
    await client.config('SET', 'maxmemory', '8mb')
    for (let batch = 0; batch < 100; batch++) {
      await client.eval(FLOOD, 0, batch)
    }
    t.ok(Number(/evicted_keys:(\d+)/.exec(await client.info('stats'))?.[1]) > 5_000, 'it was full')
    t.equal(await client.exists(...month), month.length)
    t.equal(await client.hget('tier:{assignments}', 'eve'), 'pro')
    t.strictSame(await ask('dora'), { status: 200, counted: true }, 'and everybody is counted')
  })
})
