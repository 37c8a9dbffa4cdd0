// Tests src/fleet/replicated-map-redis.ts
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { createCopySize } from '../../src/fleet/copy-size.js'
import { createLookUpLimits } from '../../src/fleet/look-ups.js'
import { createCopy } from '../../src/fleet/recent-copy.js'
import type { MapShape } from '../../src/fleet/replicated-map.js'
import { createRedisMap, type RedisMap } from '../../src/fleet/replicated-map-redis.js'
import { createShardedMap } from '../../src/fleet/sharded-map.js'
import { SPLIT, shardOf, shardsOf } from '../../src/fleet/shards.js'
import { connectStore } from '../../src/limiter/redis/connect.js'
import { eventually } from '../support/eventually.js'
import { hasRedisServer, ownRedis, startRedis } from '../support/redis/redis.js'
import { startRedisCluster } from '../support/redis/redis-cluster.js'

/** Tests a map of which a gateway holds only what was asked for lately. */

interface Pass {
  readonly owner: string
  readonly until?: number
}

const PASSES: MapShape<Pass> = {
  name: 'tier:{passes}',
  what: 'passes',
  keyName: 'id of the pass',
  parse: (text) => JSON.parse(text) as Pass,
  write: (pass) => JSON.stringify(pass),
  until: ({ until }) => until,
  most: 100_000,
  longestKey: 100,
  longestValue: 1000,
}

const quiet = { info() {}, warn() {} }

interface Options {
  readonly subscribe?: boolean
  readonly most?: number
  readonly now?: () => number
}

interface Gateway {
  readonly map: RedisMap<Pass>
  /** Returns how many questions with HMGET the gateway has sent. */
  asked(): number
  /** Counts the values in the store again, as every five minutes. */
  countAgain(): void
}

function openGateway(t: Test, url: string, { subscribe = true, most = 0, now }: Options = {}): Gateway {
  const store = connectStore({ redis: url }, quiet)
  const clock = { now: 0 }
  const size = createCopySize({
    count: () => store.hlen(PASSES.name),
    most,
    least: most - 10,
    now: () => clock.now,
  })
  let asked = 0
  const hmget = store.hmget.bind(store)
  store.hmget = (...args: unknown[]) => {
    asked++
    return hmget(...(args as Parameters<typeof hmget>))
  }
  const map = createRedisMap(PASSES, {
    store,
    log: quiet,
    pollMs: 30,
    subscribe,
    recent: { size, room: 1000, limits: createLookUpLimits(), timeoutMs: 1000 },
    ...(now && { now }),
  })
  t.teardown(async () => {
    await map.close()
    store.disconnect()
  })
  return {
    map,
    asked: () => asked,
    countAgain() {
      clock.now += 300_000
    },
  }
}

t.test('a stranger is looked up once, with others, and then it is in memory', async (t) => {
  const redis = await startRedis(t)
  await redis.client.hset(PASSES.name, 'a', '{"owner":"alice"}', 'b', '{"owner":"bob"}')
  const { map, asked } = openGateway(t, redis.url)
  await map.ready
  t.equal(map.isWhole(), false)
  t.equal(map.get('a'), undefined, 'nothing is loaded at the start')
  const found = Promise.all([map.find('a'), map.find('x'), map.find('a')])
  t.same(await found, [{ owner: 'alice' }, undefined, { owner: 'alice' }])
  t.equal(asked(), 1)
  t.same([map.find('a'), map.find('x'), map.get('a')], [{ owner: 'alice' }, undefined, { owner: 'alice' }])
  t.equal(asked(), 1)
  t.same([...map.entries()], [['a', { owner: 'alice' }]])
  t.same(await map.read('b'), { owner: 'bob' })
  t.match(map.history(), { held: 2, isWhole: false, lookUps: { found: 1, none: 1 } })
})

for (const subscribe of [true, false]) {
  const how = subscribe ? 'with' : 'without'
  t.test(`a change of what is held takes effect ${how} messages`, async (t) => {
    const redis = await startRedis(t)
    await redis.client.hset(PASSES.name, 'a', '{"owner":"alice"}', 'b', '{"owner":"bob"}')
    const writer = openGateway(t, redis.url)
    const { map } = openGateway(t, redis.url, { subscribe })
    await Promise.all([map.ready, writer.map.ready])
    const changed: (string | undefined)[] = []
    map.onChange((key) => changed.push(key))
    await Promise.all(['a', 'b', 'x'].map(map.find))
    await writer.map.set('a', { owner: 'anna' })
    await writer.map.set('b', undefined)
    await writer.map.set('x', { owner: 'xenia' })
    await writer.map.set('y', { owner: 'yara' })
    await eventually('changes', () => map.get('a')?.owner === 'anna' && map.get('b') === undefined)
    await eventually('a key that had no value', () => map.get('x')?.owner === 'xenia')
    await eventually('listeners hear of a key that is not held', () => changed.includes('y'))
    t.ok(map.find('y') instanceof Promise)
    t.same(await map.find('y'), { owner: 'yara' })
    t.equal(await map.setIf('absent', 'a', { owner: 'eve' }), false)
    t.equal(await map.setIf('present', 'y', undefined), true)
    t.equal(map.find('y'), undefined, 'the own change is in force at once')
  })
}

t.test('nothing is known of records that were moved to other shards', async (t) => {
  const redis = await startRedis(t)
  await redis.client.hset(PASSES.name, 'a', '{"owner":"alice"}')
  const { map } = openGateway(t, redis.url)
  await map.ready
  // A process that was stopped meanwhile reads these shards for a moment.
  await redis.client.set(`${PASSES.name}:version`, '7 moved')
  await redis.client.del(PASSES.name)
  await t.rejects(map.find('a') as Promise<Pass>, { message: 'passes are in other shards now' })
  await redis.client.set(`${PASSES.name}:version`, '7')
  await redis.client.hset(PASSES.name, 'a', '{"owner":"alice"}')
  t.same(await map.find('a'), { owner: 'alice' }, 'no answer was held')
})

t.test('what is held is read again when the log does not reach back', async (t) => {
  const redis = await startRedis(t)
  await redis.client.hset(PASSES.name, 'a', '{"owner":"alice"}', 'b', '{"owner":"bob"}')
  const { map } = openGateway(t, redis.url, { subscribe: false })
  await map.ready
  await Promise.all(['a', 'b', 'x'].map(map.find))
  const log = Array.from({ length: 10_000 }, (_, i) => [90_000 + i, `other-${i}`]).flat()
  await redis.client
    .multi()
    .hset(PASSES.name, 'a', '{"owner":"anna"}', 'x', '{"owner":"xenia"}')
    .zadd(`${PASSES.name}:log`, ...log)
    .set(`${PASSES.name}:version`, 100_000)
    .exec()
  await eventually('all', () => map.get('a')?.owner === 'anna' && map.get('x')?.owner === 'xenia')
  t.equal(map.get('b')?.owner, 'bob')
  t.equal(map.history().forgottenAt, undefined)
})

t.test('a map that grows is held as a whole up to its bound, and again when it shrinks', async (t) => {
  const redis = await startRedis(t)
  const { map, countAgain } = openGateway(t, redis.url, { most: 100 })
  await map.ready
  t.equal(map.isWhole(), true)
  const write = (count: number, value: Pass | undefined) =>
    Promise.all(Array.from({ length: count }, (_, i) => map.set(`${i}`, value)))
  await write(100, { owner: 'one' })
  t.equal(map.isWhole(), true)
  t.equal(map.find('nobody'), undefined, 'a whole map needs no look-up')
  await map.set('100', { owner: 'one' })
  countAgain()
  await eventually('it is too large', () => !map.isWhole())
  t.equal(map.get('42')?.owner, 'one', 'what was held stays')
  t.equal(await map.find('nobody'), undefined)
  await write(10, undefined)
  countAgain()
  await delay(100)
  t.equal(map.isWhole(), false, 'not yet: it would change to and fro')
  await map.set('10', undefined)
  countAgain()
  await eventually('it is whole again', () => map.isWhole())
  t.equal(map.entries().size, 90)
  t.equal(map.find('nobody'), undefined)
})

t.test('a value that has ended counts as none, held or looked up', async (t) => {
  const redis = await startRedis(t)
  const clock = { now: 1000 }
  await redis.client.hset(
    PASSES.name,
    'a',
    '{"owner":"alice","until":2000}',
    'b',
    '{"owner":"bob","until":900}',
  )
  const { map } = openGateway(t, redis.url, { now: () => clock.now })
  await map.ready
  t.equal((await map.find('a'))?.owner, 'alice')
  t.equal(await map.find('b'), undefined)
  clock.now = 2000
  t.equal(map.find('a'), undefined)
})

t.test(
  'while the store is away what is held stays; a stranger is not found',
  { skip: !hasRedisServer },
  async (t) => {
    const redis = await ownRedis(t)
    await redis.client.hset(PASSES.name, 'a', '{"owner":"alice"}', 'b', '{"owner":"bob"}')
    await redis.client.set(`${PASSES.name}:version`, 2)
    const { map } = openGateway(t, redis.url)
    await map.ready
    await map.find('a')
    await redis.stop()
    await t.rejects(async () => map.find('b'))
    t.equal((await map.find('a'))?.owner, 'alice')
    t.equal(map.history().lookUps?.failed, 1)
    await redis.restart()
    // It restarts empty: what is held stays in force until an operator decides.
    await eventually('it is noticed', () => map.history().forgottenAt !== undefined)
    t.equal(map.get('a')?.owner, 'alice')
    t.equal(await map.find('b'), undefined, 'a stranger is what the store says')
    t.equal((await map.read('a'))?.owner, 'alice')
    await map.set('c', { owner: 'carl' })
    t.equal((await map.find('c'))?.owner, 'carl')
    await map.accept()
    await eventually('it is decided', () => map.history().forgottenAt === undefined)
    t.equal(await map.find('a'), undefined)
    t.equal((await map.find('c'))?.owner, 'carl')
  },
)

t.test(
  'restoring writes back what is held, and removes nothing else',
  { skip: !hasRedisServer },
  async (t) => {
    const redis = await ownRedis(t)
    await redis.client.hset(PASSES.name, 'a', '{"owner":"alice"}', 'b', '{"owner":"bob"}')
    await redis.client.set(`${PASSES.name}:version`, 5)
    const { map } = openGateway(t, redis.url)
    await map.ready
    await Promise.all(['a', 'gone'].map(map.find))
    // A backup from before a was stored and before gone was removed.
    await redis.client
      .multi()
      .hdel(PASSES.name, 'a')
      .hset(PASSES.name, 'gone', '{"owner":"eve"}')
      .set(`${PASSES.name}:version`, 3)
      .exec()
    await eventually('it is noticed', () => map.history().forgottenAt !== undefined)
    t.equal(map.find('gone'), undefined, 'what was removed does not come back')
    t.equal(await map.restore(), 1)
    t.same(await redis.client.hgetall(PASSES.name), { a: '{"owner":"alice"}', b: '{"owner":"bob"}' })
    t.equal(map.history().forgottenAt, undefined)
  },
)

t.test('a copy that becomes a recent one keeps as much as it has room for', async (t) => {
  const size = createCopySize({ count: async () => 0 })
  const recent = { size, room: 80, limits: createLookUpLimits(), timeoutMs: 1000 }
  const copy = createCopy(PASSES, recent, async () => [], Date.now)
  for (let i = 0; i < 500; i++) copy.put(`${i}`, { owner: `${i}` })
  copy.bound()
  t.equal(copy.size, 80)
  t.equal(copy.get('499')?.owner, '499')
})

t.test('a copy without the means to be a recent one stays whole', async (t) => {
  const copy = createCopy(PASSES, undefined, async () => [], Date.now)
  copy.put('a', { owner: 'alice' })
  copy.bound()
  t.equal(copy.isWhole(), true)
  t.same(copy.find('a'), { owner: 'alice' })
  t.equal(copy.knows('b'), true)
})

/** Opens a map of 64 shards of which a gateway holds at most 10 keys each. */
function openSharded(t: Test, redis: string | readonly string[], most: number): RedisMap<Pass> {
  const store = connectStore({ redis }, quiet)
  const map = createShardedMap(PASSES, {
    store,
    log: quiet,
    pollMs: 30,
    layout: {
      follow: (open) => void open(SPLIT),
      shards: async () => SPLIT,
    },
    recent: { limits: createLookUpLimits(), timeoutMs: 1000, most, room: 640 },
  })
  t.teardown(async () => {
    await map.close()
    store.disconnect()
  })
  return map
}

t.test('a map of many shards is held by one decision, and each shard looks up its own', async (t) => {
  const redis = await startRedis(t)
  const shards = shardsOf(PASSES, SPLIT)
  const keys = Array.from({ length: 300 }, (_, i) => `key-${i}`)
  for (const key of keys)
    await redis.client.hset(shards[shardOf(key, SPLIT)]!.name, key, JSON.stringify({ owner: key }))
  const map = openSharded(t, redis.url, 299)
  await map.ready
  t.equal(map.isWhole(), false)
  t.match(map.history(), { held: 0, isWhole: false })
  const found = await Promise.all(keys.slice(0, 100).map(map.find))
  t.same(
    found.map((one) => one?.owner),
    keys.slice(0, 100),
  )
  t.equal(await map.find('nobody'), undefined)
  t.match(map.history(), { lookUps: { found: 100, none: 1, failed: 0, refused: 0 } })
  await map.set('key-0', { owner: 'anna' })
  t.equal(map.get('key-0')?.owner, 'anna')
})

t.test('strangers are looked up on every primary of a Cluster', { skip: !hasRedisServer }, async (t) => {
  const nodes = await startRedisCluster(t, 2)
  const urls = nodes.map(({ redis }) => redis.url)
  const [writer, map] = [openSharded(t, urls, 1_000_000), openSharded(t, urls, -1)]
  await Promise.all([writer.ready, map.ready])
  t.same([writer.isWhole(), map.isWhole()], [true, false])
  const keys = Array.from({ length: 200 }, (_, i) => `key-${i}`)
  await writer.setAll(keys.map((key) => [key, { owner: key }]))
  const found = await Promise.all(keys.map(map.find))
  t.same(
    found.map((one) => one?.owner),
    keys,
  )
  await writer.setAll(keys.map((key) => [key, { owner: 'new' }]))
  await eventually('the changes', () => keys.every((key) => (map.get(key)?.owner ?? 'new') === 'new'))
  t.equal(map.get('key-7')?.owner ?? (await map.find('key-7'))?.owner, 'new')
})
