// Tests src/limiter/generational-cache.ts
import fc from 'fast-check'
import t from 'tap'
import { createDenials } from '../../src/limiter/denial-cache.js'
import type { Decision } from '../../src/limiter/limiter.js'
import { connectStore } from '../../src/limiter/redis/connect.js'
import { createRedisLimiter } from '../../src/limiter/redis/redis.js'
import { startRedis } from '../support/redis/redis.js'
import { policyOf, serviceOf } from './contract/build.js'
import { openLimiter } from './contract/open-limiter.js'

const DAY = 86_400_000
const quiet = { info() {}, warn() {} }
/** Ahead of the real clock, so that Redis itself expires nothing. */
const TOMORROW = (Math.floor(Date.now() / DAY) + 100) * DAY
const redis = await startRedis(t)

/** Steps of traffic: concurrent requests, time, a changed amount, a refund of an earlier request, a reset. */
const STEP = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      turn: fc.array(fc.record({ consumer: fc.nat(1), cost: fc.integer({ min: 1, max: 3 }) }), {
        minLength: 1,
        maxLength: 8,
      }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ ms: fc.nat(1500) }) },
  { weight: 1, arbitrary: fc.record({ amount: fc.integer({ min: 1, max: 9 }) }) },
  { weight: 1, arbitrary: fc.record({ refund: fc.nat(100) }) },
  { weight: 1, arbitrary: fc.constant({ reset: true }) },
)

t.test('batching, remembered denials and merged requests do not change which requests pass', async (t) => {
  let clock = TOMORROW
  const open = async (options: { denials?: number; merge?: boolean; batch?: number; gatherMs?: number }) => {
    const store = connectStore({ redis: redis.url }, quiet)
    const limiter = createRedisLimiter({ store, timeoutMs: 5000, log: quiet, now: () => clock, ...options })
    t.teardown(async () => {
      await limiter.close()
      store.disconnect()
    })
    await limiter.ready
    return limiter
  }
  const plain = await open({ denials: 0, merge: false, batch: 1 })
  const others = [
    await open({}),
    await open({ merge: false }),
    await open({ denials: 0 }),
    await open({ denials: 0, merge: false }),
    await open({ denials: 0, gatherMs: 1 }),
  ]
  const shapes = [
    [{ windowMs: 1000 }],
    [{ windowMs: 2000 }, { windowMs: 1000 }],
    [{ algorithm: 'token_bucket', windowMs: 1000 }],
    [
      { algorithm: 'strict', windowMs: 1000 },
      { algorithm: 'fixed', windowMs: 3000 },
    ],
    [{ windowMs: 1000 }, { windowMs: 1000, by: 'service' }],
    [{ windowMs: 1000 }, { algorithm: 'concurrency', windowMs: 2000 }],
  ] as const
  let run = 0
  let fromMemory = 0
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...shapes),
      fc.array(STEP, { minLength: 5, maxLength: 25 }),
      async (shape, steps) => {
        run++
        let policy = policyOf(...shape.map((limit) => ({ ...limit, amount: 4 })))
        const limiters = [plain, ...others]
        const decided = limiters.map(() => [] as (Decision & { consumer: string; cost: number })[])
        for (const step of steps) {
          if ('ms' in step) clock += step.ms
          else if ('amount' in step)
            policy = policyOf(...shape.map((limit) => ({ ...limit, amount: step.amount })))
          else {
            // Each has a service of its own, so they do not meet.
            const asked = limiters.map(async (limiter, i) => {
              const service = serviceOf(`${run}-${i}`, [policy])
              const charge = 'refund' in step ? decided[i]![step.refund % decided[i]!.length] : undefined
              if ('turn' in step) {
                const turn = step.turn.map(async ({ consumer, cost }) => {
                  const name = `consumer-${consumer}`
                  return {
                    ...(await limiter.take(service, policy, name, cost)),
                    consumer: name,
                    cost,
                  }
                })
                decided[i]!.push(...(await Promise.all(turn)))
              } else if (charge?.allowed === true) {
                const { consumer, cost, at } = charge
                const common = { service, policy, consumer, cost, levels: undefined, at, slotAt: at }
                await limiter.settle({ ...common, decidedBy: 'store' }, -1, 'keep')
              } else if ('reset' in step) await limiter.reset(service, 'consumer-0')
            })
            await Promise.all(asked)
          }
        }
        // The retry times may differ: a remembered denial tells what held when the store was asked.
        const [expected, ...found] = decided.map((all) => all.map(({ allowed }) => allowed).join(' '))
        fromMemory += decided.flat().filter(({ decidedBy }) => decidedBy === 'cache').length
        for (const [i, one] of found.entries()) {
          if (one !== expected) throw new Error(`limiter ${i + 1} decided ${one}; without: ${expected}`)
        }
      },
    ),
    { numRuns: Number(process.env.CONTRACT_RUNS ?? 150) },
  )
  t.ok(fromMemory > 50, `${fromMemory} denials were remembered`)
})

t.test('repeated requests of a denied consumer do not reach the store', async (t) => {
  const clock = { now: TOMORROW }
  const { limiter } = openLimiter(t, redis.url, 5000, { now: () => clock.now })
  await limiter.ready
  const policy = policyOf([2, 60_000])
  const service = serviceOf('payments', [policy])
  const take = () => limiter.take(service, policy, 'mallory', 1)
  t.ok((await take()).allowed && (await take()).allowed)
  const first = await take()
  t.match(first, { allowed: false, decidedBy: 'store' })
  const commands = async () =>
    Number(/cmdstat_evalsha:calls=(\d+)/.exec(await redis.client.info('commandstats'))?.[1])
  const before = await commands()
  clock.now += 300
  const hammered = Array.from({ length: 1000 }, take)
  t.notOk(
    hammered.some((decision) => decision instanceof Promise),
    'it does not wait',
  )
  t.equal(await commands(), before)
  const last = hammered.at(-1) as Decision
  t.match(last, { allowed: false, decidedBy: 'cache', binding: 0, violated: 1, remaining: 0 })
  t.equal(last.retryMs, first.retryMs - 300, 'its figures are up to date')
})

t.test('a remembered denial names the same limit as the store did', async (t) => {
  const { limiter } = openLimiter(t, redis.url, 5000, { now: () => TOMORROW })
  await limiter.ready
  const policy = policyOf({ amount: 9, by: 'service' }, { amount: 1, by: 'consumer' })
  const service = serviceOf('marketing', [policy])
  const levels = { ip: '', tenant: undefined, route: '' }
  const take = () => limiter.take(service, policy, 'mallory', 1, levels)
  t.ok((await take()).allowed)
  const named = { allowed: false, binding: 1, violated: 0b10 }
  t.match(await take(), { ...named, decidedBy: 'store' })
  t.match(await take(), { ...named, decidedBy: 'cache' })
})

t.test('the store decides every request of a limit with slots or refunds', async (t) => {
  const { limiter } = openLimiter(t, redis.url, 5000)
  await limiter.ready
  const slots = policyOf({ algorithm: 'concurrency', amount: 1 })
  const refunds = { ...policyOf([1, 60_000]), refunds: true }
  for (const policy of [slots, refunds]) {
    const service = serviceOf(`asked-${policy.refunds}`, [policy])
    for (let i = 0; i < 3; i++) {
      t.match(await limiter.take(service, policy, 'alice', 1), { allowed: i === 0, decidedBy: 'store' })
    }
  }
})

t.test('remembered denials are bounded in number, and last a second', async (t) => {
  let clock = 0
  const denials = createDenials(10, () => clock)
  const policy = policyOf([1, 60_000])
  const verdict = {
    allowed: false,
    decidedBy: 'store',
    reason: undefined,
    binding: 0,
    violated: 1,
    remaining: 0,
    resetMs: 50_000,
    retryMs: 90_000,
    at: 1_000_000,
    sentAt: 0,
  } as const
  for (let i = 0; i < 25; i++) denials.remember(`key-${i}`, policy, 1, verdict, clock)
  const known = Array.from({ length: 25 }, (_, i) => denials.find(`key-${i}`, policy, 1) !== undefined)
  t.equal(known.filter(Boolean).length, 15, 'the older half goes when the younger is full')
  t.equal(denials.find('key-24', policy, 2), undefined, 'another cost is asked')
  t.equal(denials.find('key-24', policyOf([1, 60_000]), 1), undefined, 'so is another configuration')
  clock = 900
  t.match(denials.find('key-24', policy, 1), { retryMs: 89_100, resetMs: 49_100, at: 1_000_900 })
  clock = 1000
  t.equal(denials.find('key-24', policy, 1), undefined)
})

t.test('decisions that may wait for each other share calls to the store', async (t) => {
  const calls = async (gatherMs: number): Promise<number> => {
    const store = connectStore({ redis: redis.url }, quiet)
    const limiter = createRedisLimiter({ store, timeoutMs: 5000, log: quiet, gatherMs })
    await limiter.ready
    const policy = policyOf({ windowMs: 60_000, amount: 100 })
    const service = serviceOf(`gather-${gatherMs}`, [policy])
    await redis.client.config('RESETSTAT')
    const decided: Promise<Decision>[] = []
    for (let i = 0; i < 12; i++) {
      decided.push(Promise.resolve(limiter.take(service, policy, `consumer-${i}`, 1)))
      await new Promise(setImmediate)
    }
    t.same([...new Set((await Promise.all(decided)).map(({ decidedBy }) => decidedBy))], ['store'])
    const stats = await redis.client.info('commandstats')
    await limiter.close()
    store.disconnect()
    return Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1])
  }
  t.equal(await calls(0), 12)
  t.ok((await calls(500)) < 6, 'a few calls for all')
})
