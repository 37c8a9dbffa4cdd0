// Tests src/fleet/{move-shards,sharded-map,stored-map}.ts
// Gateways of the version before shards run beside those of this one.
import { readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { API_KEYS } from '../../src/fleet/api-keys.js'
import { ASSIGNMENTS } from '../../src/fleet/assignments.js'
import { createLayoutFollower } from '../../src/fleet/layout.js'
import { moveShards } from '../../src/fleet/move-shards.js'
import { AMOUNTS } from '../../src/fleet/overrides.js'
import { createShardedMap } from '../../src/fleet/sharded-map.js'
import { connectStore } from '../../src/limiter/redis/connect.js'
import { createHeartbeat } from '../../src/limiter/redis/heartbeat.js'
import { eventually } from '../support/eventually.js'
import { startRedis, type TestRedis } from '../support/redis/redis.js'

const quiet = { info() {}, warn() {} }
const NAME = 'tier:{assignments}'
/** The script as that version had it. */
const PUT = readFileSync(new URL('../fixtures/lua/put-before-shards.lua', import.meta.url), 'utf8')

/** Does with Redis what a gateway of that version does: it counts itself, writes, and reads messages and the log. */
async function openOlder(t: Test, { client, url }: TestRedis) {
  const db = new URL(url).pathname.slice(1) || '0'
  const channel = `${NAME}:changed:${db}`
  const held = new Map<string, string>()
  let version = Number(await client.get(`${NAME}:version`))
  for (const [key, text] of Object.entries(await client.hgetall(NAME))) held.set(key, text)

  function take(number: number, key: string, text: string): void {
    if (number <= version) return
    if (text === '') held.delete(key)
    else held.set(key, text)
    if (number === version + 1) version = number
  }
  async function poll(): Promise<void> {
    await client.zadd('nodes:{gateways}', Date.now() + 3500, 'older')
    const present = Number(await client.get(`${NAME}:version`))
    if (!(present > version)) return
    const keys = await client.zrangebyscore(`${NAME}:log`, version + 1, '+inf')
    const texts = keys.length === 0 ? [] : await client.hmget(NAME, ...keys)
    for (const [i, key] of keys.entries()) {
      const text = texts[i]
      if (text === null || text === undefined) held.delete(key)
      else held.set(key, text)
    }
    version = present
  }
  const messages = client.duplicate()
  messages.on('message', (_: string, message: string) =>
    take(...(JSON.parse(message) as [number, string, string])),
  )
  await messages.subscribe(channel)
  await poll()
  const timer = setInterval(() => void poll().catch(() => {}), 500)
  async function stop(): Promise<void> {
    clearInterval(timer)
    messages.disconnect()
    await client.zrem('nodes:{gateways}', 'older')
  }
  t.teardown(stop)
  return {
    held,
    stop,
    async set(key: string, text: string) {
      const keys = [NAME, `${NAME}:version`, `${NAME}:log`, `${NAME}:ends`]
      const args = [key, text, channel, '10000', '0', '1000000', '']
      take(Number(await client.eval(PUT, keys.length, ...keys, ...args)), key, text)
    },
  }
}

function openNewer(t: Test, { url }: TestRedis) {
  const store = connectStore({ redis: url }, quiet)
  const heartbeat = createHeartbeat(store)
  const layout = createLayoutFollower({ store, heartbeat })
  const map = createShardedMap(ASSIGNMENTS, { store, layout, heartbeat, log: quiet })
  t.teardown(async () => {
    await map.close()
    layout.close()
    await heartbeat.close()
    store.disconnect()
  })
  const shapes = [ASSIGNMENTS, AMOUNTS, API_KEYS]
  return { map, move: (target: 1 | 64) => moveShards(target, { store, heartbeat, shapes }) }
}

const gold = { tier: 'gold', until: undefined }

t.test(
  'old and new gateways share one shard: each change holds on both, single or many at once',
  async (t) => {
    const redis = await startRedis(t)
    const older = await openOlder(t, redis)
    await older.set('before', 'silver')
    const { map } = openNewer(t, redis)
    await map.ready
    t.equal(map.get('before')?.tier, 'silver')
    await older.set('a', 'silver')
    await eventually('the new one has it', () => map.get('a')?.tier === 'silver')
    await map.set('b', gold)
    await eventually('the old one has it', () => older.held.get('b') === 'gold')
    const many = Array.from({ length: 500 }, (_, i) => `user-${i}`)
    await map.setAll(many.map((key) => [key, gold]))
    await eventually('the old one has all', () => many.every((key) => older.held.get(key) === 'gold'))
    await older.set('b', '')
    await eventually('it is gone', () => map.get('b') === undefined)
    await map.set('a', undefined)
    await eventually('it is gone', () => !older.held.has('a'))
    t.same(new Map([...map.entries()].map(([key, { tier }]) => [key, tier])), older.held)
  },
)

t.test('a rolling restart, a split, a join, and a rolling restart back lose nothing', async (t) => {
  const redis = await startRedis(t)
  const older = await openOlder(t, redis)
  for (let i = 0; i < 100; i++) await older.set(`user-${i}`, 'silver')
  const { map, move } = openNewer(t, redis)
  await map.ready
  await eventually('the new one counts itself', () =>
    move(64).then(
      () => t.fail('an old gateway is alive'),
      ({ message }) => /1 gateways of an older version are running/.test(message),
    ),
  )
  await older.stop()
  t.equal((await move(64)).moved, true)
  t.equal(map.entries().size, 100)
  await map.set('user-0', gold)
  await map.set('user-1', undefined)

  t.comment('an old one that starts too early finds nothing, and can write nothing')
  const early = await openOlder(t, redis)
  t.equal(early.held.size, 0)
  await t.rejects(early.set('user-2', 'platinum'), /not an integer/)
  await early.stop()
  t.equal(map.get('user-2')?.tier, 'silver')

  t.equal((await move(1)).moved, true)
  const back = await openOlder(t, redis)
  t.equal(back.held.size, 99)
  t.equal(back.held.get('user-0'), 'gold')
  await back.set('user-2', 'platinum')
  await eventually('both go on', () => map.get('user-2')?.tier === 'platinum')
  await map.set('user-3', gold)
  await eventually('both go on', () => back.held.get('user-3') === 'gold')
})
