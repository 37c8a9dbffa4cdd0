import fc from 'fast-check'
import t, { type Test } from 'tap'
import { createCopySize } from '../../src/fleet/copy-size.js'
import { createLookUpLimits } from '../../src/fleet/look-ups.js'
import {
  AMOUNTS,
  type Amount,
  type AmountKey,
  amountKeyText,
  changedPolicy,
  createAmounts,
  readAmountKey,
} from '../../src/fleet/overrides.js'
import { createMemoryMap, type ReplicatedMap } from '../../src/fleet/replicated-map.js'
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

/** Opens a gateway that holds only the changes that it was asked for. */
async function openRecent(t: Test, url: string) {
  const store = connectStore({ redis: url }, quiet)
  const size = createCopySize({ count: () => store.hlen(AMOUNTS.name), most: 0, least: -1 })
  const limits = createLookUpLimits()
  let asked = 0
  const hmget = store.hmget.bind(store)
  store.hmget = (...args: unknown[]) => {
    asked++
    return hmget(...(args as Parameters<typeof hmget>))
  }
  const recent = { size, room: 1000, limits, timeoutMs: 1000 }
  const map = createRedisMap(AMOUNTS, { store, log: quiet, pollMs: 30, recent })
  const amounts = createAmounts(map)
  t.teardown(async () => {
    await map.close()
    store.disconnect()
  })
  await map.ready
  return { amounts, store, asked: () => asked }
}

t.test('of too many changes a gateway looks up those of a consumer and its tenant, once', async (t) => {
  const redis = await startRedis(t)
  await redis.client.hset(AMOUNTS.name, key({ kind: 'override' }), '{"amount":50}')
  await redis.client.hset(AMOUNTS.name, key({ of: 'tenant', id: 'acme' }), '{"amount":7}')
  const [{ amounts, asked }, other] = [await openRecent(t, redis.url), await openRecent(t, redis.url)]
  t.equal(amounts.isWhole(), false)
  const find = (consumer: string, tenant?: string) => amounts.find(payments, policy, consumer, tenant)
  t.equal(amounts.policyFor(payments, policy, 'alice', 'acme'), policy, 'nothing is in memory yet')
  const [first, again] = await Promise.all([find('alice', 'acme'), find('alice', 'acme')])
  t.equal(first.limits[0]!.amount, 57)
  t.equal(again.limits[0]!.amount, 57)
  t.equal(asked(), 1, 'all in one question')
  const held = find('alice', 'acme')
  t.match(held, { limits: [{ amount: 57 }] }, 'from memory')
  t.equal(find('alice', 'acme'), held, 'the same object')
  t.equal(amounts.policyFor(payments, policy, 'alice', 'acme'), held)
  t.equal(await find('bob'), policy)
  t.equal(find('bob'), policy, 'it is known that bob has none')
  t.equal(asked(), 2)

  await other.amounts.map.set(key({ id: 'bob' }), value(2))
  await other.amounts.map.set(key({ kind: 'override' }), undefined)
  await eventually('changes', () => amounts.policyFor(payments, policy, 'bob', undefined) !== policy)
  t.match(find('bob'), { limits: [{ amount: 5 }] })
  await eventually('a removal', () => amounts.policyFor(payments, policy, 'alice', undefined) === policy)
  t.match(find('alice', 'acme'), { limits: [{ amount: 10 }] })
  await amounts.map.set(key({ of: 'tenant', id: 'acme' }), value(9))
  t.match(find('alice', 'acme'), { limits: [{ amount: 12 }] }, 'the own change is in force at once')
})

t.test('while the store is away, what is known stays in force', async (t) => {
  const redis = await startRedis(t)
  await redis.client.hset(AMOUNTS.name, key(), '{"amount":5}')
  const { amounts, store } = await openRecent(t, redis.url)
  t.match(await amounts.find(payments, policy, 'alice', undefined), { limits: [{ amount: 8 }] })
  store.disconnect()
  t.match(amounts.find(payments, policy, 'alice', undefined), { limits: [{ amount: 8 }] })
  await t.rejects(amounts.find(payments, policy, 'alice', 'acme') as Promise<unknown>)
  t.match(amounts.policyFor(payments, policy, 'alice', 'acme'), { limits: [{ amount: 8 }] })
  t.match(await changedPolicy(amounts, payments, policy, 'alice', 'acme'), { limits: [{ amount: 8 }] })
  t.equal(await changedPolicy(amounts, payments, policy, 'bob', undefined), policy)
})

t.test('looked up or held, the changes are the same', async (t) => {
  const names = ['minute', 'hour'] as const
  // Each service has policies of its own, as compiled ones have.
  const services = ['payments', 'reports'].map((name) =>
    serviceOf(name, [
      policyOf({ name: 'minute', amount: 3 }),
      policyOf({ name: 'minute', amount: 9 }, { name: 'hour', amount: 30 }),
    ]),
  )
  const holder = fc.record({
    of: fc.constantFrom('consumer', 'tenant'),
    id: fc.constantFrom('a', 'b'),
    kind: fc.constantFrom('boost', 'override'),
    service: fc.constantFrom('payments', 'reports'),
    limit: fc.constantFrom(...names),
  }) as fc.Arbitrary<AmountKey>
  const step = fc.oneof(
    fc.tuple(fc.constant('set' as const), holder, fc.integer({ min: 1, max: 50 })),
    fc.tuple(fc.constant('remove' as const), holder),
    fc.tuple(
      fc.constant('ask' as const),
      fc.record({
        service: fc.constantFrom(...services),
        tier: fc.nat(1),
        consumer: fc.constantFrom('a', 'b'),
        tenant: fc.constantFrom('a', 'b', undefined),
      }),
    ),
    fc.tuple(fc.constant('drop' as const), fc.boolean()),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const all = createMemoryMap(AMOUNTS)
      const known = new Set<string>()
      const tell: ((key: string | undefined) => void)[] = []
      const some: ReplicatedMap<Amount> = {
        ...all,
        isWhole: () => false,
        get: (key) => (known.has(key) ? all.get(key) : undefined),
        async find(key) {
          await undefined
          known.add(key)
          return all.get(key)
        },
        onChange(listener) {
          all.onChange(listener)
          tell.push(listener)
        },
      }
      const [whole, recent] = [createAmounts(all), createAmounts(some)]
      for (const step of steps) {
        if (step[0] === 'set') await all.set(key(step[1]), value(step[2]))
        else if (step[0] === 'remove') await all.set(key(step[1]), undefined)
        else if (step[0] === 'drop') {
          known.clear()
          if (step[1]) for (const listener of tell) listener(undefined)
        } else {
          const { service, tier, consumer, tenant } = step[1]
          const policy = service.policies[tier]!
          const wanted = whole.policyFor(service, policy, consumer, tenant).limits
          const found = await recent.find(service, policy, consumer, tenant)
          t.same(
            found.limits.map(({ amount }) => amount),
            wanted.map(({ amount }) => amount),
          )
          t.equal(recent.find(service, policy, consumer, tenant), found)
        }
      }
      await all.close()
    }),
  )
})
