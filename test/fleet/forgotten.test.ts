// Tests src/fleet/{stored-map,write-back}.ts
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { createFleet } from '../../src/fleet/gateway-rpc.js'
import { askHeld } from '../../src/fleet/held-elsewhere.js'
import { openSubscriber } from '../../src/fleet/pubsub.js'
import type { MapShape } from '../../src/fleet/replicated-map.js'
import { createRedisMap, type RedisMap } from '../../src/fleet/replicated-map-redis.js'
import { connectStore } from '../../src/limiter/redis/connect.js'
import { createHeartbeat } from '../../src/limiter/redis/heartbeat.js'
import { eventually } from '../support/eventually.js'
import {
  hasRedisServer,
  type OwnRedis,
  ownRedis,
  startRedis,
  type TestRedis,
} from '../support/redis/redis.js'
import { startRedisCluster } from '../support/redis/redis-cluster.js'
import { startSentinels } from '../support/redis/redis-sentinel.js'

/** Tests what happens to a map whose store forgets what it had. */

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
  most: 10_000,
  longestKey: 100,
  longestValue: 1000,
}
const MARK = `${PASSES.name}:rollback`
const PARTS = ['', ':version', ':log', ':ends'].map((part) => PASSES.name + part)

interface Options {
  readonly member?: boolean
  /** A gateway that looks only when told to. */
  readonly pollMs?: number
  readonly subscribe?: boolean
}

const NEEDS_ITS_OWN = hasRedisServer ? false : 'needs a redis-server of its own'

interface Gateway {
  readonly map: RedisMap<Pass>
  readonly lines: string[]
  close(): Promise<void>
}

/** Opens a gateway's place on the store, and the one map. */
function openGateway(
  t: Test,
  redis: { readonly url: string | readonly string[] },
  { member = true, pollMs = 30, subscribe = true }: Options = {},
): Gateway {
  const lines: string[] = []
  const log = {
    info: (_: object, line: string) => lines.push(line),
    warn: (_: object, line: string) => lines.push(line),
  }
  const store = connectStore({ redis: redis.url }, log)
  const subscriber = openSubscriber(store)
  const heartbeat = createHeartbeat(store)
  const fleet = createFleet({ store, subscriber, member, heartbeat })
  const map = createRedisMap(PASSES, {
    store,
    subscriber: subscribe ? subscriber : { ...subscriber, listen: () => () => {} },
    fleet,
    log,
    pollMs,
  })
  async function close() {
    await Promise.all([map.close(), fleet.close(), heartbeat.close()])
    subscriber.close()
    store.disconnect()
  }
  t.teardown(close)
  return { map, lines, close }
}

const owners = ({ map }: Gateway) =>
  Object.fromEntries([...map.entries()].map(([key, { owner }]) => [key, owner]).sort())
const is = (gateways: readonly Gateway[], wanted: Record<string, string>) =>
  eventually(`all hold ${JSON.stringify(wanted)}`, () => {
    const text = JSON.stringify(wanted)
    return gateways.every((one) => JSON.stringify(owners(one)) === text)
  })
const noticed = (gateways: readonly Gateway[]) =>
  eventually('it is noticed', () => gateways.every(({ map }) => map.history().forgottenAt !== undefined))
const decided = (gateways: readonly Gateway[]) =>
  eventually('it is decided', () => gateways.every(({ map }) => map.history().forgottenAt === undefined))

/** A question waits a second: of that many at once the last would have no time left. */
async function inBatches<T>(all: readonly T[], write: (one: T) => Promise<void>): Promise<void> {
  for (let i = 0; i < all.length; i += 50) await Promise.all(all.slice(i, i + 50).map(write))
}

/** Gateways say once a second that they are alive, also to a store that has forgotten. */
const known = ({ client }: TestRedis, count: number) =>
  eventually('they are known', async () => (await client.zcard('nodes:{fleet}')) === count)

/** Returns a copy of everything that the store has of the map. */
async function backup({ client }: TestRedis): Promise<() => Promise<void>> {
  const dumps = await Promise.all(PARTS.map((key) => client.dumpBuffer(key)))
  return async () => {
    // In one step, as for a server that starts with it.
    const all = client.multi().flushdb()
    for (const [i, key] of PARTS.entries()) if (dumps[i]) all.restore(key, 0, dumps[i])
    await all.exec()
  }
}

const EMPTIED: readonly [string, (redis: OwnRedis) => Promise<unknown>][] = [
  ['FLUSHALL', ({ client }) => client.flushdb()],
  [
    'a restart without a file',
    async (redis) => {
      await redis.stop()
      await redis.restart()
    },
  ],
]

for (const [how, empty] of EMPTIED) {
  t.test(`${how}: the last known values hold until it is decided`, { skip: NEEDS_ITS_OWN }, async (t) => {
    const redis = await ownRedis(t)
    const [a, b] = [openGateway(t, redis), openGateway(t, redis)]
    const both = [a, b]
    await Promise.all(both.map(({ map }) => map.ready))
    await a.map.set('x', { owner: 'xenia' })
    await a.map.set('y', { owner: 'yara', until: Date.now() + 3_600_000 })
    await a.map.set('z', { owner: 'zoe' })
    await is(both, { x: 'xenia', y: 'yara', z: 'zoe' })
    await Promise.all(both.map(({ map }) => map.look()))
    await empty(redis)
    await noticed(both)
    for (const { map, lines } of both) {
      t.match(map.history(), { what: 'passes', held: 3, known: true, rollbacks: 1 })
      t.ok(lines.some((line) => line.startsWith('the store has forgotten records: the last known ones stay')))
      t.same(await map.read('x'), { owner: 'xenia' }, 'operators see what holds')
    }
    t.match(await redis.client.get(MARK), /^open \d+$/)

    // Operators go on: their changes hold on every gateway.
    await a.map.set('n', { owner: 'nina' })
    t.equal(
      await b.map.setIf('present', 'x', undefined),
      true,
      'a key can be revoked that the store does not know',
    )
    t.equal(await a.map.setIf('absent', 'z', { owner: 'eve' }), false)
    await is(both, { n: 'nina', y: 'yara', z: 'zoe' })
    await Promise.all(both.map(({ map }) => map.look()))
    t.match(a.map.history(), { held: 3, rollbacks: 1 })

    t.equal(await b.map.restore(), 3)
    await decided(both)
    await is([...both, openGateway(t, redis)], { n: 'nina', y: 'yara', z: 'zoe' })
    t.equal(await redis.client.zcard(`${PASSES.name}:ends`), 1)
    await a.map.set('z', undefined)
    await is(both, { n: 'nina', y: 'yara' })
    t.match(b.map.history(), { rollbacks: 1, forgottenAt: undefined })

    // Once more, and on purpose.
    await empty(redis)
    await noticed(both)
    await a.map.set('w', { owner: 'willi' })
    await a.map.accept()
    await decided(both)
    await is([...both, openGateway(t, redis)], { w: 'willi' })
    t.match(b.map.history(), { rollbacks: 2, forgottenAt: undefined })
  })
}

t.test('after a restored backup, or a lagging replica, removed values do not come back', async (t) => {
  const redis = await startRedis(t)
  const [a, b] = [openGateway(t, redis), openGateway(t, redis)]
  const both = [a, b]
  await Promise.all(both.map(({ map }) => map.ready))
  await a.map.set('revoked', { owner: 'eve' })
  await a.map.set('kept', { owner: 'kim' })
  await a.map.set('changed', { owner: 'before' })
  const goBack = await backup(redis)
  await a.map.set('revoked', undefined)
  await a.map.set('changed', { owner: 'after' })
  await a.map.set('made', { owner: 'mia' })
  const now = { changed: 'after', kept: 'kim', made: 'mia' }
  await is(both, now)
  await Promise.all(both.map(({ map }) => map.look()))
  await goBack()
  await noticed(both)
  await is(both, now)
  t.equal(await b.map.restore(), 3)
  await decided(both)
  await is([...both, openGateway(t, redis)], now)
  t.same((await redis.client.hkeys(PASSES.name)).sort(), ['changed', 'kept', 'made'])
  t.equal(await redis.client.get(`${PASSES.name}:version`), '7', 'beyond what any gateway has seen')
  await b.map.set('more', { owner: 'mo' })
  await is(both, { ...now, more: 'mo' })
})

t.test('a lagging replica that takes over counts as a loss', { skip: NEEDS_ITS_OWN }, async (t) => {
  const { primary, replica, url } = await startSentinels(t)
  const [a, b] = [openGateway(t, { url }), openGateway(t, { url })]
  await Promise.all([a.map.ready, b.map.ready])
  await a.map.set('revoked', { owner: 'eve' })
  await a.map.set('kept', { owner: 'kim' })
  const replicated = async () => (await replica.client.hlen(PASSES.name)) === 2
  await eventually('the replica has both', replicated)
  // From here on it receives nothing.
  await replica.client.config('SET', 'masteruser', 'nobody')
  await replica.client.config('SET', 'masterauth', 'wrong')
  await primary.client.call('CLIENT', 'KILL', 'TYPE', 'replica')
  await a.map.set('revoked', undefined)
  await a.map.set('made', { owner: 'mia' })
  await is([a, b], { kept: 'kim', made: 'mia' })
  await primary.stop()
  await noticed([a, b])
  await is([a, b], { kept: 'kim', made: 'mia' })
  await b.map.set('more', { owner: 'mo' })
  await is([a, b], { kept: 'kim', made: 'mia', more: 'mo' })
  t.equal(await a.map.restore(), 3)
  t.same((await replica.client.hkeys(PASSES.name)).sort(), ['kept', 'made', 'more'])
  await decided([a, b])
})

t.test('a Cluster that forgets is noticed and restored', { skip: NEEDS_ITS_OWN }, async (t) => {
  const nodes = await startRedisCluster(t, 2)
  const url = nodes.map(({ proxy }) => `redis://127.0.0.1:${proxy.port}`)
  const [a, b] = [openGateway(t, { url }), openGateway(t, { url })]
  await Promise.all([a.map.ready, b.map.ready])
  await a.map.set('x', { owner: 'xenia' })
  await a.map.set('y', { owner: 'yara' })
  await is([a, b], { x: 'xenia', y: 'yara' })
  await Promise.all([a.map.look(), b.map.look()])
  await Promise.all(nodes.map(({ redis }) => redis.client.flushdb()))
  await noticed([a, b])
  await b.map.set('x', undefined)
  await is([a, b], { y: 'yara' })
  t.equal(await a.map.restore(), 1)
  await decided([a, b])
  const c = openGateway(t, { url })
  await c.map.ready
  t.same(owners(c), { y: 'yara' })
})

t.test('lost values are noticed even if the version stays or grows', { skip: NEEDS_ITS_OWN }, async (t) => {
  const redis = await ownRedis(t)
  const a = openGateway(t, redis)
  await a.map.ready
  await a.map.set('x', { owner: 'xenia' })
  await a.map.set('soon', { owner: 'sara', until: Date.now() + 300_000 })
  await a.map.look()
  const loadAnew = () => redis.client.call('CLIENT', 'KILL', 'TYPE', 'NORMAL')
  // Another gateway removes what has ended by its clock, which is ahead.
  await redis.client.hdel(PASSES.name, 'soon')
  await loadAnew()
  await is([a], { x: 'xenia' })
  t.equal(a.map.history().rollbacks, 0)

  const other = openGateway(t, redis)
  await other.map.ready
  await redis.client.del(PASSES.name)
  await other.map.set('n', { owner: 'nina' })
  await is([a, other], { n: 'nina', x: 'xenia' })
  await loadAnew()
  await noticed([a])
  await is([a], { n: 'nina', x: 'xenia' })
  t.equal(await a.map.restore(), 2)
  t.same((await redis.client.hkeys(PASSES.name)).sort(), ['n', 'x'])
})

t.test('changes made before a gateway has looked are kept by a restore', async (t) => {
  const redis = await startRedis(t)
  const a = openGateway(t, redis, { pollMs: 100_000 })
  const writer = openGateway(t, redis, { pollMs: 100_000, member: false })
  await Promise.all([a.map.ready, writer.map.ready])
  for (const key of ['x', 'y', 'z']) await writer.map.set(key, { owner: 'before' })
  await is([a], { x: 'before', y: 'before', z: 'before' })
  await a.map.look()
  await redis.client.flushdb()
  const third = openGateway(t, redis, { member: false })
  await third.map.ready
  await third.map.set('x', { owner: 'after' })
  await eventually('the message is heard', async () => {
    await a.map.look()
    return a.map.history().rollbacks === 1 && a.map.get('x')?.owner === 'after'
  })
  t.same(owners(a), { x: 'after', y: 'before', z: 'before' })
})

t.test(
  'the loss of the last change before a crash is noticed, though no gateway had asked for it',
  { skip: NEEDS_ITS_OWN },
  async (t) => {
    const redis = await ownRedis(t)
    const a = openGateway(t, redis, { pollMs: 100_000 })
    const writer = openGateway(t, redis, { pollMs: 100_000, member: false })
    await Promise.all([a.map.ready, writer.map.ready])
    await eventually('the last change is heard', async () => {
      await writer.map.set('x', { owner: 'xenia' })
      return a.map.get('x') !== undefined
    })
    await writer.close()
    await redis.stop()
    const looked = () =>
      a.map.look().then(
        () => '',
        (error: Error) => error.message,
      )
    await eventually('a look says so', async () => (await looked()) === 'there is no connection to the store')
    await redis.restart()
    await noticed([a])
    t.same(owners(a), { x: 'xenia' })
  },
)

t.test('a gateway that starts meanwhile gets the values from others, page by page', async (t) => {
  const redis = await startRedis(t)
  const a = openGateway(t, redis)
  await a.map.ready
  const many = Array.from({ length: 3000 }, (_, i) => [`key-${i}`, `${'o'.repeat(200)}${i}`] as const)
  await inBatches(many, ([key, owner]) => a.map.set(key, { owner }))
  await a.map.look()
  await redis.client.flushdb()
  await noticed([a])
  await a.map.set('n', { owner: 'nina' })
  await known(redis, 1)
  const b = openGateway(t, redis)
  await b.map.ready
  t.match(b.map.history(), { held: 3001, known: true, rollbacks: 0 })
  t.ok(b.lines.some((line) => line.endsWith('another gateway supplied the last known ones')))
  await a.map.set('m', { owner: 'mia' })
  await eventually('it hears of changes', () => b.map.get('m') !== undefined)

  // Of several gateways only one may be left that has the data.
  await a.close()
  const command = openGateway(t, redis, { member: false })
  await command.map.ready
  t.equal(await command.map.restore(), 3002)
  t.equal(await redis.client.hlen(PASSES.name), 3002)
  await decided([b])
})

t.test('of two gateways with different changes the later ones are restored', async (t) => {
  const redis = await startRedis(t)
  const away = openGateway(t, redis, { pollMs: 100_000, subscribe: false })
  const a = openGateway(t, redis)
  await Promise.all([a.map.ready, away.map.ready])
  await a.map.set('x', { owner: 'xenia' })
  await away.map.look()
  await a.map.set('y', { owner: 'yara' })
  await a.map.look()
  await redis.client.flushdb()
  await noticed([a])
  await away.map.look()
  t.same(owners(away), { x: 'xenia' })
  await known(redis, 2)
  t.equal(await away.map.restore(), 2)
  await decided([a])
  await is([a, away], { x: 'xenia', y: 'yara' })
})

t.test('a gateway that was away adopts the decision when it returns', async (t) => {
  const redis = await startRedis(t)
  const [away, other] = [0, 1].map(() => openGateway(t, redis, { pollMs: 100_000, subscribe: false })) as [
    Gateway,
    Gateway,
  ]
  const a = openGateway(t, redis)
  await Promise.all([a.map.ready, away.map.ready, other.map.ready])
  for (const key of ['x', 'y']) await a.map.set(key, { owner: 'before' })
  await Promise.all([a, away, other].map(({ map }) => map.look()))
  await redis.client.flushdb()
  await noticed([a])
  await a.map.restore()
  await away.map.look()
  t.same(owners(away), { x: 'before', y: 'before' })
  await redis.client.flushdb()
  await noticed([a])
  await a.map.accept()
  await away.map.look()
  await other.map.look()
  for (const one of [away, other]) {
    t.same(owners(one), {})
    t.match(one.map.history(), { rollbacks: 0, forgottenAt: undefined })
  }
})

t.test('when no gateway knows the values, that is reported, and the loss can be accepted', async (t) => {
  const redis = await startRedis(t)
  const a = openGateway(t, redis)
  await a.map.ready
  await a.map.set('x', { owner: 'xenia' })
  await a.map.look()
  await redis.client.flushdb()
  await noticed([a])
  await a.close()
  const b = openGateway(t, redis)
  await b.map.ready
  t.match(b.map.history(), { held: 0, known: false })
  t.type(b.map.history().forgottenAt, 'number')
  await t.rejects(b.map.read('x'), {
    message: /has forgotten passes, and no gateway knows them; see tidegate store/,
  })
  t.equal(await b.map.restore(), undefined)
  await b.map.set('y', { owner: 'yara' })
  await b.map.accept()
  t.same(owners(b), { y: 'yara' })
  t.equal(b.map.history().forgottenAt, undefined)
  t.equal(await b.map.read('x'), undefined)
})

t.test('heavy writes and lost connections do not count as a loss', { skip: NEEDS_ITS_OWN }, async (t) => {
  const redis = await ownRedis(t)
  const gateways = [openGateway(t, redis), openGateway(t, redis), openGateway(t, redis, { subscribe: false })]
  await Promise.all(gateways.map(({ map }) => map.ready))
  let stored = 0
  for (let round = 0; round < 48; round++) {
    if (round % 6 === 5)
      await redis.client.call('CLIENT', 'KILL', 'TYPE', round % 12 === 5 ? 'NORMAL' : 'PUBSUB')
    const writes = gateways.flatMap(({ map }, i) =>
      [0, 1, 2, 3].map((n) => {
        const key = `key-${(round * 7 + i * 5 + n * 3) % 20}`
        const until = n === 3 ? { until: Date.now() + 5 * (round % 10) } : {}
        return map.set(key, n === 2 ? undefined : { owner: `${round}-${i}`, ...until })
      }),
    )
    // A write that was under way on a lost connection is refused, which is no loss.
    for (const { status } of await Promise.allSettled(writes)) if (status === 'fulfilled') stored++
    const writable = ({ map }: Gateway) =>
      map.set('probe', undefined).then(
        () => true,
        () => false,
      )
    if (round % 6 === 5) for (const one of gateways) await eventually('it is connected', () => writable(one))
  }
  t.ok(stored > 100, `${stored} writes`)
  await eventually('all hold what the store has', async () => {
    const present = Object.entries(await redis.client.hgetall(PASSES.name)).filter(([, text]) => {
      return (PASSES.parse(text)?.until ?? Number.POSITIVE_INFINITY) > Date.now()
    })
    const wanted = JSON.stringify(present.map(([key, text]) => [key, PASSES.parse(text)!.owner]).sort())
    return gateways.every((one) => JSON.stringify(Object.entries(owners(one))) === wanted)
  })
  for (const { map } of gateways) {
    await map.look()
    t.match(map.history(), { rollbacks: 0, forgottenAt: undefined })
  }
  t.equal(await redis.client.get(MARK), null)
})

t.test('a store that had nothing has forgotten nothing', async (t) => {
  const redis = await startRedis(t)
  const a = openGateway(t, redis)
  await a.map.ready
  await a.map.set('x', { owner: 'xenia' })
  await a.map.set('x', undefined)
  const goBack = await backup(redis)
  await a.map.look()
  await redis.client.flushdb()
  await a.map.look()
  t.match(a.map.history(), { rollbacks: 0, forgottenAt: undefined })
  await a.map.set('y', { owner: 'yara' })
  await a.map.set('y', undefined)
  await a.map.set('y', undefined)
  await a.map.look()
  await goBack()
  await a.map.look()
  t.match(a.map.history(), { rollbacks: 1 }, 'removed values could come back')
})

t.test('a store that forgets a second time, with its mark, is noticed again', async (t) => {
  const redis = await startRedis(t)
  const a = openGateway(t, redis)
  await a.map.ready
  await a.map.set('x', { owner: 'xenia' })
  await a.map.look()
  await redis.client.flushdb()
  await noticed([a])
  await redis.client.flushdb()
  await eventually('the mark is back', async () => /^open /.test((await redis.client.get(MARK)) ?? ''))
  await a.map.set('y', { owner: 'yara' })
  await a.map.look()
  await redis.client.flushdb()
  await eventually('counted', () => a.map.history().rollbacks === 2)
  t.equal(await a.map.restore(), 2)
  await is([a, openGateway(t, redis)], { x: 'xenia', y: 'yara' })
})

t.test('changes during a restore are neither lost nor undone', async (t) => {
  const redis = await startRedis(t)
  const [a, b] = [openGateway(t, redis), openGateway(t, redis)]
  await Promise.all([a.map.ready, b.map.ready])
  const wanted: Record<string, string> = {}
  for (let i = 0; i < 2000; i++) wanted[`key-${i}`] = 'before'
  await inBatches(Object.keys(wanted), (key) => a.map.set(key, { owner: 'before' }))
  await is([b], Object.fromEntries(Object.entries(wanted).sort()))
  await Promise.all([a.map.look(), b.map.look()])
  await redis.client.flushdb()
  await noticed([a, b])
  const restoring = a.map.restore()
  for (let i = 0; i < 2000; i += 40) {
    await b.map.set(`key-${i}`, i % 80 === 0 ? { owner: 'after' } : undefined)
    if (i % 80 === 0) wanted[`key-${i}`] = 'after'
    else delete wanted[`key-${i}`]
  }
  t.ok((await restoring)! > 1000)
  await decided([a, b])
  await is([a, b, openGateway(t, redis)], Object.fromEntries(Object.entries(wanted).sort()))
})

t.test('in any sequence no gateway drops a value without a decision', async (t) => {
  const redis = await startRedis(t)
  const step = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        what: fc.constant('set'),
        key: fc.constantFrom('a', 'b', 'c'),
        by: fc.nat(1),
        remove: fc.boolean(),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        what: fc.constantFrom('flush', 'backup', 'goBack'),
        key: fc.constant(''),
        by: fc.nat(1),
        remove: fc.constant(false),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        what: fc.constantFrom('restore', 'start'),
        key: fc.constant(''),
        by: fc.nat(1),
        remove: fc.constant(false),
      }),
    },
  )
  const property = fc.asyncProperty(fc.array(step, { maxLength: 14 }), async (steps) => {
    await redis.client.flushdb()
    const gateways = [openGateway(t, redis), openGateway(t, redis)]
    await Promise.all(gateways.map(({ map }) => map.ready))
    const model: Record<string, string> = {}
    const expected = () => Object.fromEntries(Object.entries(model).sort())
    let goBack = () => redis.client.flushdb() as Promise<unknown>
    for (const [i, { what, key, by, remove }] of steps.entries()) {
      const { map } = gateways[by % gateways.length]!
      if (what === 'set') {
        await map.set(key, remove ? undefined : { owner: `o${i}` })
        if (remove) delete model[key]
        else model[key] = `o${i}`
      } else if (what === 'flush') await redis.client.flushdb()
      else if (what === 'backup') goBack = await backup(redis)
      else if (what === 'goBack') await goBack()
      else if (what === 'restore') await map.restore()
      else gateways.push(openGateway(t, redis))
      await Promise.all(gateways.map(({ map }) => map.ready))
      for (const one of gateways) await one.map.look()
      await is(gateways, expected())
    }
    await Promise.all(gateways.map((one) => one.close()))
  })
  await fc.assert(property, { numRuns: Number(process.env.CONTRACT_RUNS ?? 8), endOnFailure: true })
})

t.test("another gateway's answer is used only as far as it is well-formed", async (t) => {
  const answering = (...answers: unknown[]) => ({
    ask: async <A>() => {
      const answer = answers.shift() as A
      return {
        answers: answer === undefined ? [] : [{ node: 'b', member: 'b~1', answer }],
        silent: [],
        problem: undefined,
      }
    },
  })
  const ask = (...answers: unknown[]) => askHeld(answering(...answers), 'm', -1, 2)
  const page = {
    texts: [
      ['a', '1'],
      ['b', '2'],
    ],
    next: 0,
  }
  t.match(await ask([7, 3], page), {
    known: 7,
    change: 3,
    texts: new Map([
      ['a', '1'],
      ['b', '2'],
    ]),
  })
  for (const first of [null, 7, [7], ['7', 3], [7.5, 3], {}, [-1, 0]])
    t.equal(await ask(first, page), undefined)
  for (const bad of [
    null,
    {},
    { texts: [['a']], next: 0 },
    { texts: 1, next: 0 },
    { texts: [], next: 'x' },
  ]) {
    t.equal(await ask([7, 3], bad), undefined)
  }
  t.equal(await ask([7, 3], { ...page, next: 1 }, page), undefined, 'more than there may be')
  t.equal(await ask([7, 3], { ...page, next: 1 }), undefined, 'one that goes away half way')
})

t.test('a change during a read holds from then on, and does not count as forgotten', async (t) => {
  const redis = await startRedis(t)
  const writer = openGateway(t, redis)
  await writer.map.ready
  await writer.map.set('a', { owner: 'ann' })
  const store = connectStore({ redis: redis.url }, { info() {}, warn() {} })
  const map = createRedisMap(PASSES, { store, log: { info() {}, warn() {} }, pollMs: 20 })
  t.teardown(async () => {
    await map.close()
    store.disconnect()
  })
  await map.ready

  const come = new Map<string, string>()
  const undone = new Set<string>()
  map.onChange(() => {
    for (const [key, owner] of come) if (map.get(key)?.owner !== owner) undone.add(key)
  })
  async function changeMeanwhile(key: string): Promise<void> {
    await writer.map.set(key, { owner: 'bea' })
    await eventually('the message has come', () => map.get(key)?.owner === 'bea')
    come.set(key, 'bea')
  }
  let scans = 0
  const hscan = store.hscan.bind(store) as (...args: unknown[]) => Promise<unknown>
  store.hscan = (async (...args: unknown[]) => {
    const page = await hscan(...args)
    // After the page was read, and before it is held.
    await changeMeanwhile(`new-${scans}`)
    await map.set(`own-${scans}`, { owner: 'cyd' })
    come.set(`own-${scans}`, 'cyd')
    scans++
    return page
  }) as typeof store.hscan
  const hmget = store.hmget.bind(store) as (...args: unknown[]) => Promise<unknown>
  let reads = 0
  store.hmget = (async (...args: unknown[]) => {
    const values = await hmget(...args)
    for (const key of args.slice(1) as string[]) {
      if (key.startsWith('silent')) {
        reads++
        await changeMeanwhile(key)
      }
    }
    return values
  }) as typeof store.hmget
  store.disconnect(true)
  await eventually('everything is read anew', () => scans > 0)
  await eventually('all holds', () => map.get('own-0') !== undefined && map.get('a') !== undefined)
  // Without a message: the change comes from the log of changes.
  await redis.client.hset(PASSES.name, 'silent', PASSES.write({ owner: 'ann' }))
  await redis.client.zadd(`${PASSES.name}:log`, await redis.client.incr(`${PASSES.name}:version`), 'silent')
  await eventually('a change is read', () => reads > 0)
  await map.look()
  t.same([...undone], [])
  t.match(map.history(), { rollbacks: 0, forgottenAt: undefined, held: 2 * scans + 2 })
})
