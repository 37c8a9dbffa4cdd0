import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { TierAssignments } from '../../src/fleet/assignments.js'
import { ASSIGNMENTS, createAssignments } from '../../src/fleet/assignments.js'
import { createRedisMap } from '../../src/fleet/replicated-map-redis.js'

import { connectStore } from '../../src/limiter/redis/connect.js'
import { eventually } from '../support/eventually.js'
import { memoryAssignments } from '../support/gateway/gateway.js'
import { hasRedisServer, ownRedis, startRedis, type TestRedis } from '../support/redis/redis.js'

/** Longest time in ms: a second, and room for a busy machine. Without the feature under test it would never end. */
const SOON = 20_000
const quiet = { info() {}, warn() {} }
const skip = hasRedisServer ? false : 'needs a redis-server on the PATH to stop and restart'

// Each test has a server of its own, and mostly waits.
t.jobs = 4

/** Opens one gateway's view of the assignments, on connections of its own. */
function openNode(
  t: Test,
  url: string,
  options: { subscribe?: boolean; pollMs?: number; now?: () => number } = {},
): TierAssignments {
  const store = connectStore({ redis: url }, quiet)
  const assignments = createAssignments(createRedisMap(ASSIGNMENTS, { store, log: quiet, ...options }))
  t.teardown(async () => {
    await assignments.close()
    store.disconnect()
  })
  return assignments
}

/** Returns the ms until the gateway sees the tier. */
async function until(node: TierAssignments, consumer: string, tier: string | undefined): Promise<number> {
  const started = performance.now()
  while (node.get(consumer)?.tier !== tier) {
    if (performance.now() - started > SOON)
      throw new Error(`${consumer} is ${node.get(consumer)?.tier} after ${SOON} ms`)
    await delay(2)
  }
  return performance.now() - started
}

const channelOn = ({ url }: TestRedis) =>
  `tier:{assignments}:changed:${new URL(url).pathname.slice(1) || '0'}`

/** Resolves when that many gateways hear of changes: they are ready before, as they load on another connection. */
const listening = (redis: TestRedis, count: number) =>
  eventually(
    `${count} listen`,
    async () => Number((await redis.client.pubsub('NUMSUB', channelOn(redis)))[1]) === count,
  )

for (const [name, open] of [
  ['memory', async () => memoryAssignments()],
  ['redis', async (t: Test) => openNode(t, (await startRedis(t)).url)],
] as const) {
  t.test(`${name}: an assignment is read back, changed and removed`, async (t) => {
    const node = await open(t)
    await node.ready
    t.equal(node.get('alice'), undefined)
    t.equal(await node.read('alice'), undefined)
    for (const tier of ['pro', 'enterprise', undefined]) {
      await node.set('alice', tier)
      t.equal(node.get('alice')?.tier, tier)
      t.equal((await node.read('alice'))?.tier, tier)
    }
    await t.rejects(node.set('x'.repeat(1025), 'pro'), /longer than 1024/)
  })

  t.test(`${name}: any id may be assigned, whatever it holds`, async (t) => {
    const node = await open(t)
    await node.ready
    for (const id of ['', '{a}:b', '__proto__', 'é\n\u0000', '2001:db8::/64']) {
      await node.set(id, 'pro')
      t.equal(node.get(id)?.tier, 'pro')
      t.equal((await node.read(id))?.tier, 'pro')
    }
    t.equal(node.get('toString'), undefined)
  })
}

t.test(
  "an assignment with an end ends by itself on every gateway; an older gateway's has none",
  async (t) => {
    const redis = await startRedis(t)
    const clock = { now: Date.now() }
    const now = () => clock.now
    const [a, b] = [openNode(t, redis.url, { now }), openNode(t, redis.url, { now })]
    await Promise.all([a.ready, b.ready])
    const ends = clock.now + 300
    await a.set('alice', 'pro', ends)
    t.same(await b.read('alice'), { tier: 'pro', until: ends })
    await until(b, 'alice', 'pro')
    clock.now = ends - 1
    for (const node of [a, b]) t.equal(node.get('alice')?.tier, 'pro')
    clock.now = ends
    for (const node of [a, b]) t.equal(node.get('alice'), undefined)
    t.equal(await b.read('alice'), undefined)
    t.same(ASSIGNMENTS.parse('pro'), { tier: 'pro', until: undefined })
    for (const one of [
      { tier: 'pro', until: undefined },
      { tier: 'pro', until: 1_760_000_000_000 },
    ]) {
      t.same(ASSIGNMENTS.parse(ASSIGNMENTS.write(one)), one)
    }
  },
)

t.test('assignments of the same tier with the same end share one object, and no others do', async (t) => {
  for (const text of ['gold', 'gold 1760000000000', 'a b 5 7', 'gold 7'])
    t.equal(ASSIGNMENTS.parse(text), ASSIGNMENTS.parse(text), text)
  t.same(ASSIGNMENTS.parse('a b 5 7'), { tier: 'a b 5', until: 7 })
  t.same(ASSIGNMENTS.parse('a b 5'), { tier: 'a b', until: 5 })
  // More ends than are remembered.
  for (let until = 0; until < 25_000; until++) {
    const one = ASSIGNMENTS.parse(`gold ${until}`)
    if (one?.tier !== 'gold' || one.until !== until) t.fail(`gold ${until}`)
  }
  t.same(ASSIGNMENTS.parse('gold 7'), { tier: 'gold', until: 7 })
})

t.test('a message brings a change to the other gateways at once', async (t) => {
  const redis = await startRedis(t)
  const [a, b] = [openNode(t, redis.url), openNode(t, redis.url, { pollMs: 60_000 })]
  await Promise.all([a.ready, b.ready])
  await eventually('messages are heard', async () => {
    await a.set('warm-up', 'pro')
    return b.get('warm-up') !== undefined
  })
  for (const tier of ['pro', 'enterprise', undefined, 'free']) {
    await a.set('alice', tier)
    const ms = await until(b, 'alice', tier)
    t.ok(ms < SOON, `${tier} after ${ms.toFixed(1)} ms`)
  }
})

t.test('a foreign message changes nothing', async (t) => {
  const redis = await startRedis(t)
  const node = openNode(t, redis.url, { pollMs: 60_000 })
  await node.ready
  await listening(redis, 1)
  for (const message of [
    '',
    '{',
    'null',
    '[]',
    '["1","alice","pro"]',
    '[1,"alice",{}]',
    '[1e999,"alice","pro"]',
  ]) {
    t.equal(await redis.client.publish(channelOn(redis), message), 1)
  }
  await delay(50)
  t.equal(node.get('alice'), undefined)
  await node.set('alice', 'free')
  t.equal(node.get('alice')?.tier, 'free')
})

t.test('two databases of one server are separate', { skip }, async (t) => {
  const redis = await startRedis(t)
  const [a, other] = [openNode(t, redis.url), openNode(t, `${redis.url}/3`)]
  await Promise.all([a.ready, other.ready])
  await delay(100)
  await a.set('alice', 'pro')
  await delay(100)
  t.equal(other.get('alice'), undefined)
})

t.test('a change holds within a second when its message is lost', async (t) => {
  const redis = await startRedis(t)
  const [a, deaf] = [openNode(t, redis.url), openNode(t, redis.url, { subscribe: false })]
  await Promise.all([a.ready, deaf.ready])
  for (const tier of ['pro', undefined, 'enterprise']) {
    await a.set('alice', tier)
    const ms = await until(deaf, 'alice', tier)
    t.ok(ms < SOON, `${tier} after ${ms.toFixed(0)} ms`)
  }
})

t.test('a change holds within a second when the subscription is cut', { skip }, async (t) => {
  const redis = await startRedis(t)
  const [a, b] = [openNode(t, redis.url), openNode(t, redis.url)]
  await Promise.all([a.ready, b.ready])
  await listening(redis, 2)
  t.ok(Number(await redis.client.call('CLIENT', 'KILL', 'TYPE', 'pubsub')) >= 2)
  await a.set('alice', 'pro')
  const ms = await until(b, 'alice', 'pro')
  t.ok(ms < SOON, `after ${ms.toFixed(0)} ms`)
  await listening(redis, 2)
  await a.set('alice', 'free')
  t.ok((await until(b, 'alice', 'free')) < SOON)
})

t.test('a gateway that starts late loads everything, page by page', async (t) => {
  const redis = await startRedis(t)
  const many = Array.from({ length: 5000 }, (_, i) => [`consumer-${i}`, i % 2 ? 'pro' : 'free']).flat()
  await redis.client.hset('tier:{assignments}', ...many)
  await redis.client.set('tier:{assignments}:version', 5000)
  const node = openNode(t, redis.url)
  await node.ready
  t.equal(node.get('consumer-0')?.tier, 'free')
  t.equal(node.get('consumer-4999')?.tier, 'pro')
  await node.set('consumer-0', undefined)
  t.equal(node.get('consumer-0'), undefined)
})

t.test('if the log does not reach back far enough, everything is loaded', async (t) => {
  const redis = await startRedis(t)
  const node = openNode(t, redis.url, { subscribe: false, pollMs: 50 })
  await node.ready
  await node.set('alice', 'pro')
  const fill = redis.client.pipeline()
  for (let i = 0; i < 10_000; i++) fill.zadd('tier:{assignments}:log', 100_000 + i, `other-${i}`)
  fill.zrem('tier:{assignments}:log', 'alice')
  fill.hset('tier:{assignments}', 'alice', 'enterprise')
  fill.set('tier:{assignments}:version', 110_000)
  await fill.exec()
  t.ok((await until(node, 'alice', 'enterprise')) < SOON)
})

t.test('the log keeps the newest 10,000 changes', async (t) => {
  const redis = await startRedis(t)
  const node = openNode(t, redis.url)
  await node.ready
  await node.set('first', 'pro')
  const fill = redis.client.pipeline()
  for (let i = 0; i < 10_000; i++) fill.zadd('tier:{assignments}:log', i, `other-${i}`)
  await fill.exec()
  await node.set('last', 'pro')
  t.equal(await redis.client.zcard('tier:{assignments}:log'), 10_000)
})

t.test('while the store is away the last known assignments hold, and set rejects', { skip }, async (t) => {
  const redis = await ownRedis(t)
  const node = openNode(t, redis.url)
  await node.ready
  await node.set('alice', 'pro')
  await redis.stop()
  const refused = () =>
    node.set('alice', 'free').then(
      () => '',
      (error: Error) => error.message,
    )
  await eventually('it is noticed', async () => (await refused()) === 'there is no connection to the store')
  t.equal(node.get('alice')?.tier, 'pro')
  await t.rejects(node.read('alice'))
  t.equal(node.get('alice')?.tier, 'pro')
})

t.test('set rejects in time when the store hangs', { skip }, async (t) => {
  const redis = await ownRedis(t)
  const node = openNode(t, redis.url)
  await node.ready
  redis.pause()
  const started = performance.now()
  await t.rejects(node.set('alice', 'free'), /did not answer/)
  t.ok(performance.now() - started < SOON)
})

t.test('when a store has lost everything, the gateway keeps its copy', { skip }, async (t) => {
  const redis = await ownRedis(t)
  const node = openNode(t, redis.url)
  await node.ready
  await node.set('alice', 'pro')
  await redis.stop()
  await redis.restart()
  await redis.client.hset('tier:{assignments}', 'bob', 'pro')
  await redis.client.set('tier:{assignments}:version', 1)
  const marked = async () => /^open /.test((await redis.client.get('tier:{assignments}:rollback')) ?? '')
  await eventually('it is noticed', marked)
  t.equal(node.get('alice')?.tier, 'pro')
})
