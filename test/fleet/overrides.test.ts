import t, { type Test } from 'tap'
import {
  AMOUNTS,
  type AmountKey,
  amountKeyText,
  createAmounts,
  readAmountKey,
} from '../../src/fleet/overrides.js'
import { createMemoryMap } from '../../src/fleet/replicated-map.js'
import { createRedisMap } from '../../src/fleet/replicated-map-redis.js'
import { createMemoryLimiter } from '../../src/limiter/memory.js'
import { connectStore } from '../../src/limiter/redis/connect.js'
import { policyOf, serviceOf } from '../limiter/contract/build.js'
import { openLimiter } from '../limiter/contract/open-limiter.js'
import { eventually } from '../support/eventually.js'
import { startRedis } from '../support/redis/redis.js'

const NOW = 1_760_000_055_000
const DAY = 86_400_000
const quiet = { info() {}, warn() {} }
const policy = policyOf({ name: 'minute', amount: 3 })
const payments = serviceOf('payments', [policy])
const key = (changes: Partial<AmountKey> = {}) =>
  amountKeyText({
    kind: 'boost',
    of: 'consumer',
    id: 'alice',
    service: 'payments',
    limit: 'minute',
    ...changes,
  })
const value = (amount: number, until?: number) => ({ amount, until, reason: undefined })

function open() {
  const clock = { now: NOW }
  const now = () => clock.now
  const amounts = createAmounts(createMemoryMap(AMOUNTS, { now }), now)
  const limiter = createMemoryLimiter({ now })
  const held = (consumer = 'alice', tenant?: string, service = payments) =>
    amounts.policyFor(service, service.policies[0]!, consumer, tenant)
  return { clock, amounts, limiter, held }
}

t.test('a boosted policy stays the same object until something changes', async (t) => {
  const { amounts, clock, held } = open()
  t.equal(held(), policy, 'without any, that of the tier')
  await amounts.map.set(key(), value(2, NOW + 5000))
  const boosted = held()
  t.equal(boosted.limits[0]!.amount, 5)
  t.equal(held(), boosted)
  t.equal(held('alice', 'acme'), boosted, 'whatever the tenant, which has none')
  t.equal(held('bob'), policy)
  const other = policyOf({ name: 'minute', amount: 3 })
  t.equal(held('alice', undefined, serviceOf('marketing', [other])), other, 'on another service')
  await amounts.map.set(key(), value(4, NOW + 5000))
  t.equal(held().limits[0]!.amount, 7)
  await amounts.map.set(key({ of: 'tenant', id: 'acme' }), value(10, NOW + 9000))
  t.same(
    [held('alice', 'acme'), held('alice'), held('bob', 'acme')].map(({ limits }) => limits[0]!.amount),
    [17, 7, 13],
  )
  clock.now = NOW + 5000
  t.same(
    [held('alice', 'acme'), held('alice')].map(({ limits }) => limits[0]!.amount),
    [13, 3],
  )
  clock.now = NOW + 9000
  t.equal(held('alice', 'acme'), policy)
  amounts.map.entries()
  t.equal(held('alice', 'acme'), policy, 'also when it is forgotten')
})

t.test('after a boost ends, requests made under it still count', async (t) => {
  const { amounts, clock, limiter, held } = open()
  const take = () => limiter.take(payments, held(), 'alice', 1)
  for (const left of [2, 1, 0]) t.match(take(), { allowed: true, remaining: left })
  t.match(take(), { allowed: false })
  await amounts.map.set(key(), value(2, NOW + 1000))
  for (const left of [1, 0]) t.match(take(), { allowed: true, remaining: left })
  t.notOk(take().allowed)
  clock.now += 1000
  const denied = take()
  t.match(denied, { allowed: false, remaining: 0 })
  clock.now += denied.retryMs
  t.ok(take().allowed)
})

t.test('a malformed value in the store is ignored', async (t) => {
  for (const text of ['', '{', 'null', '5', '{}', '{"amount":0}', '{"amount":1.5}', '{"amount":"5"}']) {
    t.equal(AMOUNTS.parse(text), undefined, text)
  }
  for (const text of [
    '{"amount":1,"until":"x"}',
    '{"amount":1,"reason":5}',
    '{"amount":33554432}',
    '{"amount":1,"until":9e15}',
    '{"amount":1,"until":-1}',
  ]) {
    t.equal(AMOUNTS.parse(text), undefined, text)
  }
  t.same(AMOUNTS.parse('{"amount":7,"until":5}'), { amount: 7, until: 5, reason: undefined })
  for (const text of ['', 'boost', 'boost:consumer:a:b', 'gift:consumer:a:b:c', 'boost:ip:a:b:c']) {
    t.equal(readAmountKey(text), undefined, text)
  }
  const { amounts, held } = open()
  await amounts.map.set('nonsense', value(1))
  t.equal(held(), policy)
})

t.test('any id may have one, whatever it holds', async (t) => {
  const { amounts, held } = open()
  for (const id of ['a:b', '{x}', '__proto__', 'constructor', 'é\n', '2001:db8::/64']) {
    await amounts.map.set(key({ id }), value(2, NOW + 5000))
    t.equal(held(id).limits[0]!.amount, 5, id)
    t.equal(readAmountKey(key({ id }))?.id, id)
  }
  t.equal(held('toString'), policy)
})

t.test('on two gateways a boost holds, frees denied consumers, and ends', async (t) => {
  const redis = await startRedis(t)
  // Ahead of the real clock, so that Redis itself expires nothing.
  const clock = { now: (Math.floor(Date.now() / DAY) + 100) * DAY }
  const now = () => clock.now
  const node = async (t: Test) => {
    const store = connectStore({ redis: redis.url }, quiet)
    const map = createRedisMap(AMOUNTS, { store, log: quiet, now })
    const { limiter } = openLimiter(t, redis.url, 5000, { now })
    const amounts = createAmounts(map, now)
    t.teardown(async () => {
      await map.close()
      store.disconnect()
    })
    await Promise.all([map.ready, limiter.ready])
    const wide = policyOf({ name: 'minute', amount: 3, windowMs: DAY })
    const service = serviceOf('payments', [wide])
    const take = async () =>
      limiter.take(service, amounts.policyFor(service, wide, 'alice', undefined), 'alice', 1)
    return { map, take }
  }
  const [a, b] = [await node(t), await node(t)]
  for (const one of [a, b, a]) t.ok((await one.take()).allowed)
  for (const one of [a, b]) {
    t.match(await one.take(), { allowed: false, decidedBy: 'store' })
    t.match(await one.take(), { allowed: false, decidedBy: 'cache' })
  }
  const ends = clock.now + 400
  await a.map.set(key(), value(2, ends))
  t.ok((await a.take()).allowed, 'at once where it was given')
  await eventually('it holds on the other', () => b.map.get(key()) !== undefined)
  t.ok((await b.take()).allowed)
  t.notOk((await b.take()).allowed)
  clock.now = ends
  for (const one of [a, b]) t.match(await one.take(), { allowed: false, remaining: 0 })
  t.equal(b.map.get(key()), undefined)
})
