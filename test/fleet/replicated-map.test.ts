import fc from 'fast-check'
import t, { type Test } from 'tap'
import { openSubscriber } from '../../src/fleet/pubsub.js'
import {
  createFollowedMap,
  createMemoryMap,
  type MapShape,
  type ReplicatedMap,
} from '../../src/fleet/replicated-map.js'
import { createRedisMap } from '../../src/fleet/replicated-map-redis.js'
import { channelOf, connectStore } from '../../src/limiter/redis/connect.js'
import { createHeartbeat, type Heartbeat } from '../../src/limiter/redis/heartbeat.js'
import { eventually } from '../support/eventually.js'
import { startRedis } from '../support/redis/redis.js'

const quiet = { info() {}, warn() {} }

interface Pass {
  readonly owner: string
  readonly until?: number
}

const PASSES: MapShape<Pass> = {
  name: 'tier:{passes}',
  what: 'passes',
  keyName: 'id of the pass',
  parse(text) {
    try {
      const { owner, until } = JSON.parse(text) as Partial<Pass>
      return typeof owner === 'string' ? { owner, ...(until === undefined ? {} : { until }) } : undefined
    } catch {
      return undefined
    }
  },
  write: (pass) => JSON.stringify(pass),
  until: ({ until }) => until,
  most: 3,
  longestKey: 8,
  longestValue: 64,
}

interface Clock {
  now: number
}

const redis = await startRedis(t)

function openRedis(t: Test, clock: Clock, subscribe = true): ReplicatedMap<Pass> {
  const store = connectStore({ redis: redis.url }, quiet)
  const map = createRedisMap(PASSES, { store, log: quiet, pollMs: 50, subscribe, now: () => clock.now })
  t.teardown(async () => {
    await map.close()
    store.disconnect()
  })
  return map
}

for (const [name, open] of [
  ['memory', (_: Test, clock: Clock) => createMemoryMap(PASSES, { now: () => clock.now })],
  ['redis', openRedis],
] as const) {
  t.test(`${name}: a value with an end is gone from that moment on`, async (t) => {
    await redis.client.flushdb()
    const clock = { now: 1_000 }
    const map = open(t, clock)
    await map.ready
    await map.set('a', { owner: 'alice', until: 2_000 })
    await map.set('b', { owner: 'bob' })
    clock.now = 1_999
    t.same(map.get('a'), { owner: 'alice', until: 2_000 })
    t.same([...map.entries().keys()].sort(), ['a', 'b'])
    const changed: (string | undefined)[] = []
    map.onChange((key) => changed.push(key))
    clock.now = 2_000
    t.equal(map.get('a'), undefined)
    t.equal(await map.read('a'), undefined)
    t.same([...map.entries().keys()], ['b'])
    t.same(changed, ['a'], 'listeners hear of it')
    t.equal(await map.setIf('present', 'a', { owner: 'eve' }), false, 'it does not come back to life')
    await map.set('a', { owner: 'anna', until: 3_000 })
    t.equal(map.get('a')?.owner, 'anna')
  })

  t.test(`${name}: a write above the maximum is refused; ended values do not count`, async (t) => {
    await redis.client.flushdb()
    const clock = { now: 1_000 }
    const map = open(t, clock)
    await map.ready
    for (const key of ['a', 'b', 'c']) await map.set(key, { owner: key, until: 2_000 })
    await t.rejects(map.set('d', { owner: 'd' }), {
      message: 'there are already 3 passes, which is the most; remove some first',
    })
    await map.set('c', { owner: 'again', until: 2_000 })
    t.equal(map.get('c')?.owner, 'again', 'an existing value may change')
    clock.now = 2_000
    await map.set('d', { owner: 'd' })
    t.same([...map.entries().keys()], ['d'])
    await t.rejects(map.set('123456789', { owner: 'x' }), { message: /id of the pass is longer than 8 char/ })
    await t.rejects(map.set('e', { owner: 'x'.repeat(64) }), {
      message: /e is longer than 64 characters/,
    })
    t.equal(map.entries().size, 1)
  })

  t.test(`${name}: a condition is checked against the store's value`, async (t) => {
    await redis.client.flushdb()
    const map = open(t, { now: 1_000 })
    await map.ready
    t.equal(await map.setIf('present', 'a', { owner: 'x' }), false)
    t.equal(await map.setIf('absent', 'a', { owner: 'alice' }), true)
    t.equal(await map.setIf('absent', 'a', { owner: 'x' }), false)
    t.equal(map.get('a')?.owner, 'alice')
    t.equal(await map.setIf('present', 'a', undefined), true)
    t.equal(await map.setIf('present', 'a', undefined), false)
    t.equal(map.get('a'), undefined)
  })

  t.test(`${name}: any sequence gives the values of a plain map with a clock`, async (t) => {
    const key = fc.constantFrom('a', 'b', 'c', 'd')
    const end = fc.option(fc.integer({ min: 1, max: 30 }), { nil: undefined })
    const step = fc.record({ key, end, wait: fc.integer({ min: 0, max: 10 }), remove: fc.boolean() })
    const property = fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
      await redis.client.flushdb()
      const clock = { now: 1_000 }
      const model = new Map<string, Pass>()
      const map = open(t, clock)
      await map.ready
      for (const { key, end, wait, remove } of steps) {
        clock.now += wait
        for (const [one, { until = Number.POSITIVE_INFINITY }] of model) {
          if (until <= clock.now) model.delete(one)
        }
        const value = { owner: key, ...(end === undefined ? {} : { until: clock.now + end }) }
        const fits = remove || model.has(key) || model.size < PASSES.most
        if (!fits) await t.rejects(map.set(key, value))
        else {
          await map.set(key, remove ? undefined : value)
          if (remove) model.delete(key)
          else model.set(key, value)
        }
        t.same(new Map(map.entries()), model)
        t.same(map.get(key), model.get(key))
      }
      await map.close()
    })
    await fc.assert(property, { numRuns: name === 'memory' ? 100 : 10 })
  })
}

t.test('the other gateways see a change, and the end of a value, with and without messages', async (t) => {
  await redis.client.flushdb()
  const clock = { now: 1_000 }
  const [a, b, deaf] = [openRedis(t, clock), openRedis(t, clock), openRedis(t, clock, false)]
  await Promise.all([a.ready, b.ready, deaf.ready])
  const changed: (string | undefined)[] = []
  deaf.onChange((key) => changed.push(key))
  await a.set('a', { owner: 'alice', until: 2_000 })
  for (const node of [b, deaf]) await eventually('the change', () => node.get('a')?.owner === 'alice')
  clock.now = 2_000
  await eventually('the end', () => changed.length === 2)
  t.same(changed, ['a', 'a'])
  for (const node of [a, b, deaf]) t.equal(node.entries().size, 0)
})

t.test('a malformed value is ignored', async (t) => {
  await redis.client.flushdb()
  await redis.client.hset('tier:{passes}', 'a', '{"owner":"alice"}', 'b', 'x', 'c', '{"owner":1}')
  const map = openRedis(t, { now: 1_000 })
  await map.ready
  t.same([...map.entries()], [['a', { owner: 'alice' }]])
  t.equal(await map.read('b'), undefined)
})

t.test('ended values are removed from the store even if nobody writes', async (t) => {
  await redis.client.flushdb()
  const clock = { now: 1_000 }
  const writer = openRedis(t, clock)
  await writer.ready
  await writer.set('a', { owner: 'alice', until: 2_000 })
  await writer.set('b', { owner: 'bob' })
  await writer.close()
  clock.now = 2_000
  const late = openRedis(t, clock)
  await eventually('a is gone', async () => (await redis.client.hlen('tier:{passes}')) === 1)
  t.same(await redis.client.hkeys('tier:{passes}'), ['b'])
  t.equal(await redis.client.zcard('tier:{passes}:ends'), 0)
  t.same([...late.entries().keys()], ['b'])
})

t.test('confirmedAt tells when the copy was last equal to the store', async (t) => {
  await redis.client.flushdb()
  const clock = { now: 1_000 }
  const map = openRedis(t, clock)
  t.equal(map.confirmedAt(), 0)
  await map.ready
  await eventually('the first', () => map.confirmedAt() === 1_000)
  clock.now = 5_000
  await eventually('the next', () => map.confirmedAt() === 5_000)
  t.equal(map.entries().size, 0)
})

t.test('a map that another process feeds is read-only', async (t) => {
  const clock = { now: 1_000 }
  const map = createFollowedMap(
    PASSES,
    [
      ['a', '{"owner":"alice","until":2000}'],
      ['b', 'nonsense'],
    ],
    () => clock.now,
  )
  t.teardown(() => map.close())
  t.same([...map.entries().keys()], ['a'])
  map.follow('c', '{"owner":"carl"}')
  map.follow('a', null)
  t.same([...map.entries().keys()], ['c'])
  await t.rejects(map.set('d', { owner: 'd' }), { message: 'only the primary can do this' })
})

t.test('redis: a version number that somebody else used up hides no change', async (t) => {
  await redis.client.flushdb()
  const clock = { now: 1_000 }
  const store = connectStore({ redis: redis.url }, quiet)
  t.teardown(() => store.disconnect())
  const subscriber = openSubscriber(store)
  const options = { store, subscriber, log: quiet, pollMs: 1500, now: () => clock.now }
  const [a, b] = [createRedisMap(PASSES, options), createRedisMap(PASSES, options)]
  t.teardown(async () => {
    await Promise.all([a.close(), b.close()])
    subscriber.close()
  })
  await Promise.all([a.ready, b.ready])
  const channel = channelOf(store, `${PASSES.name}:changed`)
  await eventually('messages are heard', () => subscriber.hears(channel))
  // It comes as a message first; the next poll removes it again.
  let heard = false
  b.onChange(() => {
    if (b.get('eve') !== undefined) heard = true
  })
  await redis.client.publish(channel, '[1,"eve","{\\"owner\\":\\"eve\\"}"]')
  await eventually('what was said is heard', () => heard)
  await a.set('a', { owner: 'alice' })
  for (const map of [a, b]) {
    await eventually('the first change of the store', () => map.get('a')?.owner === 'alice')
    await eventually('and nothing else', () => map.get('eve') === undefined)
  }
})

t.test(
  'redis: the heartbeat reports changes whose message got lost, and a store that forgot; else nothing polls',
  async (t) => {
    const redis = await startRedis(t)
    function open(subscribe: boolean) {
      const store = connectStore({ redis: redis.url }, quiet)
      const heartbeat = createHeartbeat(store)
      const map = createRedisMap(PASSES, { store, log: quiet, heartbeat, subscribe })
      let reads = 0
      const get = store.get.bind(store)
      store.get = ((key: string) => {
        reads++
        return get(key)
      }) as typeof store.get
      t.teardown(async () => {
        await Promise.all([map.close(), heartbeat.close()])
        store.disconnect()
      })
      return { map, heartbeat, reads: () => reads }
    }
    const [writer, deaf] = [open(true), open(false)]
    await Promise.all([writer.map.ready, deaf.map.ready])
    await eventually('both tell all', () => writer.heartbeat.tellsAll() && deaf.heartbeat.tellsAll())
    for (const owner of ['alice', 'bob', 'carol']) {
      await writer.map.set('a', { owner })
      await eventually('it is in force', () => deaf.map.get('a')?.owner === owner)
    }
    // By then the name is not repeated any more.
    const until = Date.now() + 7000
    await eventually('the heartbeat confirms the copy', () => deaf.map.confirmedAt() > until)
    const before = deaf.reads()
    await eventually('and again', () => deaf.map.confirmedAt() > until + 2000)
    t.equal(deaf.reads(), before)

    await redis.client.flushdb()
    await eventually('the loss is noticed', () => deaf.map.history().forgottenAt !== undefined)
    t.equal(deaf.map.get('a')?.owner, 'carol')
  },
)

t.test(
  'redis: after a lost connection, many gateways spread the load of all values, and compare numbers at once',
  async (t) => {
    const redis = await startRedis(t)
    const clock = { now: 1_000 }
    for (const gateways of [1, 1e12]) {
      await redis.client.flushdb()
      await redis.client.hset('tier:{passes}', 'a', '{"owner":"alice"}')
      await redis.client.set('tier:{passes}:version', 1)
      const store = connectStore({ redis: redis.url }, quiet)
      const heartbeat: Heartbeat = { ...createHeartbeat(store), count: () => gateways }
      const map = createRedisMap(PASSES, { store, log: quiet, heartbeat, now: () => clock.now })
      let loads = 0
      const hscan = store.hscan.bind(store)
      store.hscan = ((...args: Parameters<typeof hscan>) => {
        loads++
        return hscan(...args)
      }) as typeof store.hscan
      await map.ready
      t.equal(loads, 1)
      clock.now += 1000
      const closed = new Promise((resolve) => store.once('close', resolve))
      store.disconnect(true)
      await closed
      await eventually('the number is compared', () => map.confirmedAt() === clock.now)
      t.equal(loads, gateways === 1 ? 2 : 1, `${gateways} gateways`)
      await Promise.all([map.close(), heartbeat.close()])
      store.disconnect()
    }
  },
)

t.test(
  'redis: a change that is told while the store answers a poll is no reason to load everything',
  async (t) => {
    await redis.client.flushdb()
    const writer = openRedis(t, { now: 1_000 })
    await writer.ready
    const store = connectStore({ redis: redis.url }, quiet)
    let loads = 0
    let during: (() => Promise<unknown>) | undefined
    const slow = new Proxy(store, {
      get(target, name) {
        if (name === 'get')
          return async (key: string) => {
            const answer = await target.get(key)
            if (key.endsWith(':version')) await during?.()
            return answer
          }
        if (name === 'hscan') loads++
        const member = Reflect.get(target, name) as unknown
        return typeof member === 'function' ? member.bind(target) : member
      },
    })
    const map = createRedisMap(PASSES, { store: slow, log: quiet, pollMs: 50, now: () => 1_000 })
    t.teardown(async () => {
      await map.close()
      store.disconnect()
    })
    await map.ready
    const before = loads
    let told = 0
    const tell = async () => {
      await writer.set('a', { owner: `a${++told}` })
      const owner = `a${told}`
      await eventually('it is told', () => map.get('a')?.owner === owner)
    }
    let telling: Promise<void> | undefined
    during = () => {
      telling = tell()
      return telling
    }
    await eventually('some polls', () => told >= 5)
    during = undefined
    // After the map is closed, nothing would be told.
    await telling
    t.equal(loads, before)
  },
)
