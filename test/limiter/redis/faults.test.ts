// Tests src/limiter/redis/{script-batcher,take-batch}.ts
import { readFileSync } from 'node:fs'
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { API_KEYS } from '../../../src/fleet/api-keys.js'
import { ASSIGNMENTS, createAssignments } from '../../../src/fleet/assignments.js'
import { createRedisLastUsed } from '../../../src/fleet/last-used.js'
import { createRedisMap } from '../../../src/fleet/replicated-map-redis.js'
import type { Decision } from '../../../src/limiter/limiter.js'
import { connectStore } from '../../../src/limiter/redis/connect.js'
import { runAnnounce } from '../../../src/limiter/redis/scripts.js'
import { eventually } from '../../support/eventually.js'
import { startProxy } from '../../support/http/proxy.js'
import { hasRedisServer, type OwnRedis, ownRedis, startRedis } from '../../support/redis/redis.js'
import { stall } from '../../support/stall.js'
import { policyOf, serviceOf } from '../contract/build.js'
import { openLimiter } from '../contract/open-limiter.js'
import {
  PATIENT,
  policy,
  RECOVERY,
  SLOWEST,
  serviceWhich,
  slowest,
  traffic,
  used,
} from '../contract/traffic.js'

const service = serviceWhich('open')
const skip = hasRedisServer ? false : 'needs a redis-server on the PATH to stop and freeze'

// SCRIPT FLUSH would affect every user of a shared server.
t.jobs = hasRedisServer ? 4 : 1

async function open(
  t: Test,
  timeoutMs?: number,
): Promise<{ redis: OwnRedis } & ReturnType<typeof openLimiter>> {
  const redis = await ownRedis(t)
  const opened = openLimiter(t, redis.url, timeoutMs)
  await opened.limiter.ready
  return { redis, ...opened }
}

t.test('SCRIPT FLUSH under load degrades no decision, and each is counted', async (t) => {
  const redis = await startRedis(t)
  const { limiter } = openLimiter(t, redis.url, PATIENT)
  await limiter.ready
  const running = traffic(limiter, 300)
  for (let i = 0; i < 20; i++) {
    await delay(10)
    await redis.client.script('FLUSH')
  }
  const all = await running
  t.ok(all.every(({ decision }) => decision.decidedBy === 'store'))
  t.equal(await used(limiter, 'alice'), all.length, 'each is charged exactly once')
})

t.test('a decision whose reply is lost passes, is charged once, and is never sent again', async (t) => {
  const redis = await startRedis(t)
  const proxy = await startProxy(t, redis.port)
  const url = `redis://127.0.0.1:${proxy.port}${new URL(redis.url).pathname}`
  const { limiter } = openLimiter(t, url, PATIENT)
  await limiter.ready
  proxy.cutNextReply()
  const decision = await limiter.take(service, policy, 'alice', 1)
  t.match(decision, { allowed: true, decidedBy: 'open', reason: 'error' })
  const started = performance.now()
  while (limiter.state() !== 'up') await delay(5)
  t.ok(performance.now() - started < RECOVERY)
  await delay(300)
  t.equal(await used(limiter, 'alice'), 1)
})

t.test('while the breaker is open, the store gets only an occasional probe', async (t) => {
  const redis = await startRedis(t)
  const proxy = await startProxy(t, redis.port)
  const { limiter } = openLimiter(t, `redis://127.0.0.1:${proxy.port}${new URL(redis.url).pathname}`)
  await limiter.ready
  proxy.delayBack = 150
  while (limiter.state() === 'up') await traffic(limiter, 10)
  await delay(150)
  const calls = async () =>
    Number(/cmdstat_evalsha:calls=(\d+)/.exec(await redis.client.info('commandstats'))?.[1])
  const started = performance.now()
  const before = await calls()
  const decided = await traffic(limiter, 450)
  const asked = (await calls()) - before
  // Probes are at least 200 ms apart; one may have been on its way before.
  const most = 2 + Math.floor((performance.now() - started) / 200)
  t.ok(asked <= most, `${asked} probes for ${decided.length} decisions, ${most} at most`)
  t.ok(decided.every(({ decision }) => decision.reason === 'breaker'))
})

t.test('on_failure: closed denies what cannot be counted', { skip }, async (t) => {
  const { redis, limiter } = await open(t)
  redis.pause()
  const all = await traffic(limiter, 300, 'closed')
  t.ok(all.every(({ decision }) => !decision.allowed && decision.decidedBy === 'closed'))
  t.ok(all.every(({ decision }) => decision.violated === 0 && decision.retryMs > 0))
  t.ok(slowest(all) < SLOWEST)
})

t.test('on_failure: local counts in the process, from what the store had left', { skip }, async (t) => {
  const { redis, limiter } = await open(t, PATIENT)
  const small = policyOf([5, 86_400_000])
  const local = serviceOf('payments', [small], 'local')
  t.equal((await limiter.take(local, small, 'carol', 1)).decidedBy, 'store')
  await redis.stop()
  const all: Decision[] = []
  for (let i = 0; i < 9; i++) all.push(await limiter.take(local, small, 'carol', 1))
  t.ok(all.every(({ decidedBy, reason }) => decidedBy === 'local' && reason !== undefined))
  t.same(
    all.map(({ allowed, remaining }) => [allowed, remaining]),
    [3, 2, 1, 0]
      .map((left) => [true, left] as [boolean, number])
      .concat([0, 0, 0, 0, 0].map(() => [false, 0])),
  )
})

t.test('while the primary is a replica, requests fail open; counting resumes after', { skip }, async (t) => {
  const { redis, limiter } = await open(t)
  await redis.client.replicaof('127.0.0.1', 1)
  const during = await traffic(limiter, 300)
  t.ok(during.every(({ decision }) => decision.allowed && decision.decidedBy === 'open'))
  t.ok(slowest(during) < SLOWEST)
  await redis.client.replicaof('NO', 'ONE')
  const back = performance.now()
  while ((await limiter.take(service, policy, 'bob', 1)).decidedBy !== 'store') await delay(5)
  t.ok(performance.now() - back < RECOVERY)
  t.equal(await used(limiter, 'alice'), 0, 'nothing was charged for what passed meanwhile')
})

t.test('while Redis is out of memory, requests fail open; counting resumes after', { skip }, async (t) => {
  const { redis, limiter } = await open(t)
  await redis.client.config('SET', 'maxmemory', '100kb')
  const during = await traffic(limiter, 300)
  t.ok(during.every(({ decision }) => decision.allowed && decision.decidedBy === 'open'))
  t.ok(slowest(during) < SLOWEST)
  await redis.client.config('SET', 'maxmemory', '0')
  const back = performance.now()
  while ((await limiter.take(service, policy, 'bob', 1)).decidedBy !== 'store') await delay(5)
  t.ok(performance.now() - back < RECOVERY)
  t.equal(await used(limiter, 'alice'), 0, 'nothing was charged for what passed meanwhile')
})

t.test('the gateway needs only the rights that docs/limits.md names', { skip }, async (t) => {
  const redis = await ownRedis(t)
  const docs = readFileSync(new URL('../../../docs/limits.md', import.meta.url), 'utf8')
  const rights = [...docs.matchAll(/`([~+][^`]+)`/g)].flatMap(([, words = '']) => words.split(/\s+/))
  const words = rights.filter((word) => word.length > 1)
  await redis.client.call('ACL', 'SETUSER', 'gateway', 'on', '>pw', ...words)
  const url = `redis://gateway:pw@127.0.0.1:${redis.port}`
  const { limiter, log } = openLimiter(t, url, PATIENT)
  await limiter.ready
  t.equal((await limiter.take(service, policy, 'alice', 1)).decidedBy, 'store')
  t.equal((await limiter.take(service, policy, 'alice', 1)).decidedBy, 'store')
  t.equal(await used(limiter, 'alice'), 2)
  await limiter.reset(service, 'alice')
  t.equal(await used(limiter, 'alice'), 0)
  const lines: unknown[] = []
  const store = connectStore({ redis: url }, { info() {}, warn: (...line) => lines.push(line) })
  const assignments = createAssignments(
    createRedisMap(ASSIGNMENTS, {
      store,
      log: { info() {}, warn: (...line) => lines.push(line) },
    }),
  )
  t.teardown(async () => {
    await assignments.close()
    store.disconnect()
  })
  await assignments.ready
  t.equal(await runAnnounce(store, 'nodes:{gateways}', 'one', 1000), 1)
  t.equal(await runAnnounce(store, 'nodes:{gateways}', 'one', 0), 0)
  await assignments.set('alice', 'pro')
  t.match(await assignments.read('alice'), { tier: 'pro' })
  await redis.client.hset('tier:{assignments}', 'alice', 'free')
  await redis.client.zadd('tier:{assignments}:log', 2, 'alice')
  await redis.client.incr('tier:{assignments}:version')
  while (assignments.get('alice')?.tier !== 'free') await delay(10)
  const keys = createRedisMap(API_KEYS, { store, log: { info() {}, warn: (...line) => lines.push(line) } })
  const lastUsed = createRedisLastUsed(store, API_KEYS, { shards: async () => 1 })
  t.teardown(() => keys.close())
  await keys.ready
  const sha256 = '0123456789abcdef'.repeat(4)
  const id = sha256.slice(0, 16)
  const ended = { consumer: 'alice', created: 1, expires: 2, tier: undefined, tenant: undefined }
  await keys.set(id, { id, sha256, ...ended, scopes: undefined, name: undefined, replacedBy: undefined })
  await lastUsed.touch([id], 1)
  t.same(await lastUsed.read([id]), [1])
  await lastUsed.forget(id)
  await keys.set('next', undefined)
  t.equal(await redis.client.hlen('keys:{keys}'), 0, 'ended entries are swept')
  t.match(await redis.client.info('clients'), /pubsub_clients:2/)
  t.same(lines, [])
  t.same(
    log.filter(({ level }) => level === 'warn'),
    [],
  )
})

// Runs alone: it stalls every other test of this process.
t.test('a stall of our own event loop does not count against the store', { buffered: false }, async (t) => {
  const redis = await startRedis(t)
  const { limiter } = openLimiter(t, redis.url, 500)
  await limiter.ready
  const deciding = limiter.take(service, policy, 'alice', 1)
  await turn()
  stall(1500)
  t.equal((await deciding).decidedBy, 'store')
  t.equal(limiter.state(), 'up')
})

t.test('an outage is logged at most once a second, with a count of lines held back', { skip }, async (t) => {
  const { redis, limiter, log } = await open(t)
  await redis.stop()
  const started = performance.now()
  await traffic(limiter, 2300)
  const seconds = (performance.now() - started) / 1000
  const lines = log.filter(
    ({ message }) => message !== 'no connection to the store' && message.includes('store'),
  )
  const warnings = lines.filter(({ fields, level }) => level === 'warn' && fields.event === undefined)
  t.match(
    lines.filter(({ fields }) => fields.event !== undefined).map(({ fields }) => fields),
    [{ event: 'degraded' }],
    'and its beginning once',
  )
  t.ok(warnings.length >= 2 && warnings.length <= 1 + seconds, `${warnings.length} lines in ${seconds} s`)
  t.ok(Number(warnings.at(-1)!.fields.suppressed) > 10)
})

t.test('after one refused password, later connections do not wait five seconds', { skip }, async (t) => {
  const redis = await ownRedis(t)
  await redis.client.config('SET', 'requirepass', 'other')
  const { limiter, log } = openLimiter(t, `redis://default:right@127.0.0.1:${redis.port}`)
  await eventually('it is refused', () => log.some(({ fields }) => /WRONGPASS/.test(String(fields.error))))
  await redis.client.config('SET', 'requirepass', 'right')
  await eventually('it is let in', () => limiter.state() === 'up', 20_000)
  for (let i = 0; i < 3; i++) {
    await redis.client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    await eventually('the loss is noticed', () => limiter.state() === 'degraded')
    const lost = performance.now()
    await eventually('it is back', () => limiter.state() === 'up')
    t.ok(performance.now() - lost < 4_500, `${performance.now() - lost} ms`)
  }
})

t.test(
  'a refused password is logged without the password, and not tried all the time',
  { skip },
  async (t) => {
    const redis = await ownRedis(t)
    await redis.client.config('SET', 'requirepass', 'right-secret')
    const { limiter, log } = openLimiter(t, `redis://default:wrong-s%65cret@127.0.0.1:${redis.port}`)
    const refusals = () => log.filter(({ message }) => message === 'no connection to the store')
    await eventually('it is refused', () => refusals().length > 0)
    await delay(1300)
    const decision = await limiter.take(service, policy, 'alice', 1)
    t.match(decision, { allowed: true, decidedBy: 'open', reason: 'breaker' })
    t.match(refusals()[0]?.fields, { user: 'default', store: `127.0.0.1:${redis.port}`, error: /WRONGPASS/ })
    t.notMatch(JSON.stringify(log), /secret/)
    const info = await redis.client.auth('right-secret').then(() => redis.client.info('stats'))
    t.ok(Number(/total_connections_received:(\d+)/.exec(info)?.[1]) <= 6)
  },
)
