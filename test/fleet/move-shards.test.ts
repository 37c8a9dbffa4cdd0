import { setTimeout as delay } from 'node:timers/promises'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { API_KEYS } from '../../src/fleet/api-keys.js'
import { ASSIGNMENTS } from '../../src/fleet/assignments.js'
import { createLayoutFollower } from '../../src/fleet/layout.js'
import { moveShards, storedLayout } from '../../src/fleet/move-shards.js'
import { AMOUNTS } from '../../src/fleet/overrides.js'
import { FrozenMap, MapRefusal } from '../../src/fleet/replicated-map.js'
import { createRedisMap } from '../../src/fleet/replicated-map-redis.js'
import { createShardedMap } from '../../src/fleet/sharded-map.js'
import { type ShardCount, shardOf, shardsOf } from '../../src/fleet/shards.js'
import type { Assignment } from '../../src/limiter/limiter.js'
import { connectStore } from '../../src/limiter/redis/connect.js'
import { createHeartbeat, HEARTBEAT_KEYS } from '../../src/limiter/redis/heartbeat.js'
import type { Client } from '../../src/limiter/redis/run-script.js'
import { eventually } from '../support/eventually.js'
import { hasRedisServer, startRedis, type TestRedis } from '../support/redis/redis.js'
import { startRedisCluster } from '../support/redis/redis-cluster.js'

const quiet = { info() {}, warn() {} }
const shapes = [ASSIGNMENTS, AMOUNTS, API_KEYS]
const skip = hasRedisServer ? false : 'needs a redis-server on the PATH'

t.jobs = 3

function openGateway(t: Test, { url }: TestRedis) {
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
  return Object.assign(map, { store })
}

/**
 * Opens what an operator's command has.
 *
 * @param settledAfterMs short in tests without a gateway that starts during the move
 */
async function openOperator(t: Test, { url }: TestRedis, settledAfterMs?: number) {
  const store = connectStore({ redis: url }, quiet)
  const heartbeat = createHeartbeat(store, { decides: false })
  t.teardown(async () => {
    await heartbeat.close()
    store.disconnect()
  })
  await eventually('it is connected', () => store.status === 'ready')
  const move = (target: ShardCount, through: Client = store) =>
    moveShards(target, { store: through, heartbeat, shapes, settledAfterMs })
  return { store, move }
}

/** Reads all records of a map with their ends, wherever they are. */
async function recordsIn({ client }: TestRedis, shape: { name: string; what: string; most: number }) {
  const all = new Map<string, [text: string, end: string | null, used: string | null]>()
  for (const count of [1, 64] as const) {
    for (const { name } of shardsOf(shape, count)) {
      for (const [key, text] of Object.entries(await client.hgetall(name))) {
        if (all.has(key)) throw new Error(`${key} is in two places`)
        if (count === 64 && name !== shardsOf(shape, 64)[shardOf(key, 64)]!.name)
          throw new Error(`${key} is in ${name}`)
        all.set(key, [
          text,
          await client.zscore(`${name}:ends`, key),
          await client.zscore(`${name}:used`, key),
        ])
      }
    }
  }
  return all
}

t.test('a split and a join keep every record with its end and its last use', async (t) => {
  const redis = await startRedis(t)
  const { store, move } = await openOperator(t, redis, 1)
  const record = fc.record({
    key: fc.string({ unit: 'binary', minLength: 1 }),
    text: fc.string({ minLength: 1 }),
    end: fc.option(fc.integer({ min: 1, max: 1e13 })),
    used: fc.option(fc.nat()),
  })
  const property = fc.asyncProperty(
    fc.array(record, { maxLength: 40 }),
    fc.nat(1000),
    async (records, version) => {
      await redis.client.flushdb()
      for (const { name } of shapes) {
        await redis.client.set(`${name}:version`, version)
        for (const { key, text, end, used } of records) {
          await redis.client.hset(name, key, text)
          if (end !== null) await redis.client.zadd(`${name}:ends`, end, key)
          if (used !== null) await redis.client.zadd(`${name}:used`, used, key)
        }
      }
      const before = await Promise.all(shapes.map((shape) => recordsIn(redis, shape)))
      const moved = await move(64)
      t.match(moved, { shards: 64, moved: true, copied: { 'tier assignments': before[0]!.size } })
      t.equal(await redis.client.exists(...shapes.map(({ name }) => name)), 0, 'nothing is left of the old')
      t.same(await Promise.all(shapes.map((shape) => recordsIn(redis, shape))), before)
      for (const shape of shapes)
        for (const { name } of shardsOf(shape, 64))
          t.equal(await redis.client.get(`${name}:version`), String(version))
      t.match(await move(64), { moved: false }, 'it is done')
      await move(1)
      t.same(await Promise.all(shapes.map((shape) => recordsIn(redis, shape))), before)
      t.equal(await redis.client.get(`${ASSIGNMENTS.name}:version`), String(version))
      t.same(await storedLayout(store), { moves: 6, shards: 1, other: undefined })
    },
  )
  await fc.assert(property, { numRuns: 3 })
})

t.test(
  'a split while gateways write and read: none is lost that was acknowledged, and nothing wavers',
  async (t) => {
    const redis = await startRedis(t)
    const { move } = await openOperator(t, redis)
    const gateways = [openGateway(t, redis), openGateway(t, redis), openGateway(t, redis)]
    await Promise.all(gateways.map((map) => map.ready))
    const fixed = Array.from({ length: 3000 }, (_, i) => `fixed-${i}`)
    await gateways[0]!.setAll(fixed.map((key) => [key, { tier: 'gold', until: undefined }]))
    for (const map of gateways) await eventually('all know them', () => map.entries().size === fixed.length)

    const acknowledged = new Map<string, Assignment>()
    const unknown = new Map<string, Assignment>()
    let refused = 0
    let isOver = false
    async function write(map: (typeof gateways)[number], who: number): Promise<void> {
      for (let i = 0; !isOver; i++) {
        const [key, value] = [`writer-${who}-${i % 50}`, { tier: `tier-${i}`, until: undefined }]
        try {
          await map.set(key, value)
          acknowledged.set(key, value)
          unknown.delete(key)
        } catch (error) {
          if (error instanceof FrozenMap) refused++
          // On a busy machine Redis may answer late: such a write may have been done, or not.
          else if (/did not answer within/.test((error as Error).message)) unknown.set(key, value)
          else throw error
          await delay(5)
        }
      }
    }
    async function read(map: (typeof gateways)[number]): Promise<void> {
      for (let i = 0; !isOver; i++) {
        for (let k = 0; k < 50; k++) {
          const key = fixed[(i * 50 + k) % fixed.length]!
          if (map.get(key)?.tier !== 'gold') throw new Error(`${key} is ${map.get(key)?.tier}`)
        }
        await delay(2)
      }
    }
    const working = [...gateways.map(write), ...gateways.map(read)]
    for (const shards of [64, 1, 64] as const) {
      await delay(300)
      t.equal((await move(shards)).moved, true)
      await delay(300)
    }
    isOver = true
    await Promise.all(working)
    t.ok(refused > 0, `${refused} writes were refused meanwhile`)
    const stored = await recordsIn(redis, ASSIGNMENTS)
    for (const key of acknowledged.keys()) t.ok(stored.has(key), key)
    for (const [key, [tier]] of stored) {
      const may = key.startsWith('fixed-') ? ['gold'] : [acknowledged.get(key)?.tier, unknown.get(key)?.tier]
      t.ok(may.includes(tier), `${key} is ${tier}`)
    }
    t.ok(fixed.every((key) => stored.has(key)))
    for (const map of gateways) {
      for (const [key, [tier]] of stored) {
        await eventually(`${key} is in force`, () => map.get(key)?.tier === tier)
      }
      t.equal(map.history().forgottenAt, undefined)
    }
  },
)

t.test('an interrupted move is finished, or undone, by another one', async (t) => {
  const redis = await startRedis(t)
  const { store, move } = await openOperator(t, redis)
  const map = openGateway(t, redis)
  await map.ready
  const users = Array.from({ length: 500 }, (_, i) => `user-${i}`)
  await map.setAll(users.map((key) => [key, { tier: 'gold', until: undefined }]))
  const before = await recordsIn(redis, ASSIGNMENTS)

  /** Returns a store that is lost after so many commands. */
  function lostAfter(commands: number): Client {
    return new Proxy(store, {
      get(target, name) {
        const member = Reflect.get(target, name) as unknown
        if (typeof member !== 'function') return member
        return (...args: unknown[]) =>
          commands-- > 0 ? member.apply(target, args) : Promise.reject(new Error('Connection is closed.'))
      },
    })
  }

  let tries = 0
  for (const [commands, then] of [
    [12, 64],
    [300, 64],
    [700, 1],
    [1000, 1],
    [1600, 64],
    [2200, 1],
  ] as const) {
    const { shards } = await storedLayout(store)
    const failed = await move(shards === 1 ? 64 : 1, lostAfter(commands)).then(
      () => false,
      () => true,
    )
    tries += Number(failed)
    // As if it had been killed: nobody else may go on for 30 s.
    await store.del('nodes:{gateways}:mover')
    t.equal(map.get('user-7')?.tier, 'gold')
    await move(then)
    t.same(await recordsIn(redis, ASSIGNMENTS), before, `after ${commands} commands, then to ${then}`)
    t.same((await storedLayout(store)).other, undefined)
    await eventually('it takes changes again', () =>
      map.set('user-7', { tier: 'gold', until: undefined }).then(
        () => true,
        () => false,
      ),
    )
    t.equal(map.entries().size, users.length)
    t.equal(map.history().forgottenAt, undefined)
  }
  t.ok(tries >= 4, `${tries} were interrupted`)
})

t.test('a layout that the store has forgotten costs no records', async (t) => {
  const redis = await startRedis(t)
  const { client } = redis
  const { move } = await openOperator(t, redis, 1)
  await client.hset(ASSIGNMENTS.name, { ann: 'gold', bob: 'free' })
  await client.set(`${ASSIGNMENTS.name}:version`, '2')
  const before = await recordsIn(redis, ASSIGNMENTS)
  await move(64)
  // No gateway is there to write it back.
  await client.del(HEARTBEAT_KEYS.layout)
  t.equal((await move(1)).moved, false)
  t.same(await recordsIn(redis, ASSIGNMENTS), before)
  const store = connectStore({ redis: redis.url }, quiet)
  const warnings: string[] = []
  const log = { info() {}, warn: (fields: object) => void warnings.push(JSON.stringify(fields)) }
  const map = createRedisMap(ASSIGNMENTS, { store, log })
  t.teardown(async () => {
    await map.close()
    store.disconnect()
  })
  await eventually('a gateway that starts says why it is not ready', () =>
    /other shards/.test(warnings[0] ?? ''),
  )
  t.equal((await move(64)).moved, true)
  t.same(await recordsIn(redis, ASSIGNMENTS), before)
  const gateway = openGateway(t, redis)
  await gateway.ready
  t.equal(gateway.get('ann')?.tier, 'gold')
})

t.test('in a Cluster the records of one slot spread over all servers', { skip }, async (t) => {
  const nodes = await startRedisCluster(t, 3)
  const store = connectStore({ redis: [nodes[0]!.redis.url] }, quiet)
  const heartbeat = createHeartbeat(store)
  const layout = createLayoutFollower({ store, heartbeat })
  const map = createShardedMap(ASSIGNMENTS, { store, layout, heartbeat, log: quiet })
  t.teardown(async () => {
    await map.close()
    layout.close()
    await heartbeat.close()
    store.disconnect()
  })
  await map.ready
  const users = Array.from({ length: 3000 }, (_, i) => `user-${i}`)
  await map.setAll(users.map((key) => [key, { tier: 'gold', until: undefined }]))
  const onServers = () =>
    Promise.all(nodes.map(async ({ redis }) => (await redis.client.keys('tier:{assignments*}')).length))
  t.equal((await onServers()).filter((keys) => keys > 0).length, 1)
  await moveShards(64, { store, heartbeat, shapes })
  const spread = await onServers()
  t.ok(Math.min(...spread) > 10, String(spread))
  t.equal(map.entries().size, users.length)
  await map.set('user-0', undefined)
  await moveShards(1, { store, heartbeat, shapes })
  t.equal(await store.hlen(ASSIGNMENTS.name), users.length - 1)
  t.equal(map.get('user-0'), undefined)
  t.equal(map.get('user-1')?.tier, 'gold')
})

t.test('it is refused while it cannot be done', async (t) => {
  const redis = await startRedis(t)
  const { client } = redis
  const { move } = await openOperator(t, redis, 1)
  await client.zadd(HEARTBEAT_KEYS.gateways, Date.now() + 60_000, 'old')
  await t.rejects(
    move(64),
    new MapRefusal(
      '1 gateways of an older version are running, which do not know shards; stop or update them first',
    ),
  )
  await client.zrem(HEARTBEAT_KEYS.gateways, 'old')
  await client.set(`${API_KEYS.name}:rollback`, 'open 1')
  await t.rejects(
    move(64),
    new MapRefusal('the store has forgotten API keys; decide that first, with tidegate store'),
  )
  await client.del(`${API_KEYS.name}:rollback`)
  await client.set('nodes:{gateways}:mover', 'another')
  await t.rejects(move(64), new MapRefusal('another operator is doing that; if not, try again in 30 s'))
  await client.del('nodes:{gateways}:mover')
  t.same(await client.get(HEARTBEAT_KEYS.layout), null, 'nothing has changed')
  t.equal((await move(64)).moved, true)
  const few = shapes.map((shape) => ({ ...shape, most: 2 }))
  await client.hset('tier:{assignments:1}', 'a', 'x', 'b', 'x', 'c', 'x')
  const heartbeat = { members: async () => [], announce: async () => {} }
  await t.rejects(
    moveShards(1, { store: client, heartbeat, shapes: few }),
    new MapRefusal('there are 3 tier assignments, and one shard takes 2'),
  )
})
