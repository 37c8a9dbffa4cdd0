import fc from 'fast-check'
import type { Test } from 'tap'
import type { Limit } from '../../../src/config/snapshot/limit.js'
import { COUNTED } from '../../../src/limiter/limit-readings.js'
import type { Charge, Decision, Levels, Limiter, LimitUsage, Slot } from '../../../src/limiter/limiter.js'
import { policyOf, serviceOf } from './build.js'
import { createModel } from './model-limiter.js'

/** A limiter on a clock that the test moves. */
export interface Subject {
  readonly limiter: Limiter
  /** Unix ms; a whole number of days from now, so that nothing expires by the real clock. */
  clock: number
  /** Expires what has expired by `clock`, as time does in the store. */
  expire(): Promise<void>
  /** Returns the stored state as bytes, for comparison only. */
  state(service: string, consumer: string, keyPart: string): Promise<string>
  /** Number of windows that the clock may lie behind the newest one before the store starts afresh. */
  readonly windowsBack: number
}

const MINUTE = 60_000

/** Tests what every limiter does, wherever it stores its counts. */
export function contract(t: Test, name: string, open: (t: Test) => Promise<Subject>): void {
  t.test(`${name}: allows what the limit has room for, then denies without charging`, async (t) => {
    const subject = await open(t)
    const policy = policyOf([3, MINUTE])
    const service = serviceOf('payments', [policy])
    const at = subject.clock
    const decisions = []
    for (let i = 0; i < 4; i++) {
      subject.clock = at + i * 1000
      decisions.push(await subject.limiter.take(service, policy, 'alice', 1))
    }
    t.same(
      decisions.map(({ allowed, remaining, resetMs, retryMs }) => [allowed, remaining, resetMs, retryMs]),
      [
        [true, 2, 60_000, 0],
        [true, 1, 59_000, 0],
        [true, 0, 58_000, 0],
        [false, 0, 57_000, 77_000],
      ],
    )
    t.match(decisions[3], { decidedBy: 'store', reason: undefined, binding: 0, violated: 1 })
    const [usage] = await subject.limiter.usage(service, policy, 'alice')
    t.match(usage, { used: 3, remaining: 0, resetMs: 57_000 })
  })

  t.test(`${name}: keeps consumers and services apart`, async (t) => {
    const subject = await open(t)
    const policy = policyOf([1, MINUTE])
    const payments = serviceOf('payments', [policy])
    const marketing = serviceOf('marketing', [policy])
    t.ok((await subject.limiter.take(payments, policy, 'alice', 1)).allowed)
    t.notOk((await subject.limiter.take(payments, policy, 'alice', 1)).allowed)
    t.ok((await subject.limiter.take(payments, policy, 'bob', 1)).allowed)
    t.ok((await subject.limiter.take(marketing, policy, 'alice', 1)).allowed)
  })

  t.test(`${name}: takes from every limit or from none`, async (t) => {
    const subject = await open(t)
    const policy = policyOf([2, 1000], [5, MINUTE])
    const service = serviceOf('payments', [policy])
    const take = (cost: number) => subject.limiter.take(service, policy, 'alice', cost)
    const used = async () =>
      (await subject.limiter.usage(service, policy, 'alice')).map((limit) => limit.used)
    t.ok((await take(2)).allowed)
    t.match(
      await take(1),
      { allowed: false, violated: 0b01, binding: 0, remaining: 0 },
      'the second is spent',
    )
    t.same(await used(), [2, 2], 'the minute is not charged for what the second denied')
    subject.clock += 2000
    await subject.expire()
    t.ok((await take(2)).allowed)
    t.same(await used(), [2, 4])
    subject.clock += 2000
    await subject.expire()
    t.match(
      await take(2),
      { allowed: false, violated: 0b10, binding: 1, remaining: 1 },
      'the minute has one left',
    )
    t.same(await used(), [0, 4], 'the second is not charged for what the minute denied')
    t.match(
      await take(3),
      { allowed: false, violated: 0b11, binding: 0, retryMs: -1 },
      'more than a second may take',
    )
  })

  t.test(`${name}: never charges a cost above the limit, and says that a retry is no use`, async (t) => {
    const subject = await open(t)
    const policy = policyOf([3, MINUTE])
    const service = serviceOf('payments', [policy])
    t.match(await subject.limiter.take(service, policy, 'alice', 4), {
      allowed: false,
      retryMs: -1,
      remaining: 3,
    })
    t.match(await subject.limiter.take(service, policy, 'alice', 3), { allowed: true, remaining: 0 })
  })

  t.test(`${name}: a raised or lowered limit applies at once to what was used already`, async (t) => {
    const subject = await open(t)
    const service = serviceOf('payments', [policyOf([5, MINUTE])])
    const take = (amount: number) => subject.limiter.take(service, policyOf([amount, MINUTE]), 'alice', 1)
    for (let i = 0; i < 5; i++) t.ok((await take(5)).allowed)
    t.notOk((await take(5)).allowed)
    t.match(await take(8), { allowed: true, remaining: 2 })
    t.match(await take(2), { allowed: false, remaining: 0 })
    const [usage] = await subject.limiter.usage(service, policyOf([2, MINUTE]), 'alice')
    t.match(usage, { used: 6, remaining: 0 })
  })

  t.test(`${name}: a clock that steps back frees no quota`, async (t) => {
    for (const [windowMs, back] of [
      [1000, 1000],
      [1000, 7000],
      [1000, 8000],
      [1000, 60_000],
      [MINUTE, 100],
      [MINUTE, MINUTE],
      [86_400_000, 3_600_000],
    ] as const) {
      const subject = await open(t)
      const policy = policyOf([2, windowMs])
      const service = serviceOf('payments', [policy])
      t.ok((await subject.limiter.take(service, policy, 'alice', 2)).allowed)
      subject.clock -= back
      const denied = await subject.limiter.take(service, policy, 'alice', 1)
      t.notOk(denied.allowed, `window ${windowMs} ms, back by ${back} ms`)
      t.ok(denied.retryMs > 0 && denied.retryMs <= back + 2 * windowMs, 'the wait is no longer than that')
    }
  })

  t.test(`${name}: a clock that was far ahead denies nobody afterwards`, async (t) => {
    const subject = await open(t)
    const policy = policyOf([2, 7000], [2, 10_000])
    const service = serviceOf('payments', [policy])
    t.ok((await subject.limiter.take(service, policy, 'alice', 2)).allowed)
    subject.clock -= 3_600_000
    t.match(await subject.limiter.take(service, policy, 'alice', 1), { allowed: true, remaining: 1 })
  })

  t.test(`${name}: reset forgets what a consumer has used of a service, in all tiers`, async (t) => {
    const subject = await open(t)
    const free = policyOf([1, MINUTE])
    const pro = policyOf([1, 1000], [1, MINUTE])
    const payments = serviceOf('payments', [free, pro, undefined, free])
    const marketing = serviceOf('marketing', [free])
    const { limiter } = subject
    for (const policy of [free, pro]) t.ok((await limiter.take(payments, policy, 'alice', 1)).allowed)
    t.ok((await limiter.take(payments, free, 'bob', 1)).allowed)
    t.ok((await limiter.take(marketing, free, 'alice', 1)).allowed)
    await limiter.reset(payments, 'alice')
    for (const policy of [free, pro]) t.ok((await limiter.take(payments, policy, 'alice', 1)).allowed)
    t.notOk((await limiter.take(payments, free, 'bob', 1)).allowed, 'not what others have used')
    t.notOk((await limiter.take(marketing, free, 'alice', 1)).allowed, 'not what was used of other services')
  })

  t.test(`${name}: a consumer named like an address does not spend the address's quota`, async (t) => {
    const subject = await open(t)
    const policy = policyOf(
      [2, 60_000],
      { amount: 3, by: 'tenant' },
      { amount: 9, by: 'ip', windowMs: 60_000 },
    )
    const service = serviceOf('payments', [policy])
    const id = '192.0.2.7'
    const levels = (byAddress: boolean) => ({ ip: id, tenant: undefined, route: '/a', byAddress })
    const take = (byAddress: boolean) => subject.limiter.take(service, policy, id, 1, levels(byAddress))
    const used = async (byAddress: boolean) =>
      (await subject.limiter.usage(service, policy, id, levels(byAddress))).map(({ used }) => used)
    for (let i = 0; i < 2; i++) t.ok((await take(true)).allowed)
    t.notOk((await take(true)).allowed)
    t.same(await used(false), [0, 0, 2], 'the count by address includes everybody behind it')
    t.ok((await take(false)).allowed)
    t.same(await used(true), [2, 2, 3])
    await subject.limiter.reset(service, id, true)
    t.same(await used(true), [0, 2, 3])
    t.same(await used(false), [1, 1, 3])
  })

  t.test(`${name}: levels count apart and pass together, and a denial names the level`, async (t) => {
    const subject = await open(t)
    const policy = policyOf(
      { amount: 5, by: 'consumer' },
      { amount: 4, by: 'service' },
      { amount: 3, by: 'ip' },
      { amount: 9, by: 'route', algorithm: 'fixed' },
      { amount: 9, by: 'tenant', algorithm: 'strict' },
    )
    const service = serviceOf('payments', [policy])
    const at = (ip: string) => ({ ip, tenant: 'acme', route: '/payments/*' })
    const take = (consumer: string, ip: string) => subject.limiter.take(service, policy, consumer, 1, at(ip))
    for (let left = 2; left >= 0; left--) {
      t.match(await take('alice', '192.0.2.1'), { allowed: true, binding: 2, remaining: left })
    }
    t.match(await take('alice', '192.0.2.1'), { allowed: false, binding: 2, violated: 0b00100 })
    t.match(await take('alice', '192.0.2.2'), { allowed: true, binding: 1, remaining: 0 })
    t.match(await take('bob', '192.0.2.3'), { allowed: false, binding: 1, violated: 0b00010 })
    const used = async (levels?: Levels) =>
      (await subject.limiter.usage(service, policy, 'alice', levels)).map((one) => one.used)
    t.same(await used(at('192.0.2.1')), [4, 4, 3, 4, 4], 'a denied request took nothing anywhere')
    t.same(await used(), [4, 4], 'without knowing the caller: what is by consumer and by service')
    const other = { ip: '192.0.2.9', tenant: undefined, route: '/other' }
    t.same(await used(other), [4, 4, 0, 0, 0], 'the other address, tenant and route have spent nothing')
  })

  t.test(`${name}: a consumer without a tenant counts alone, apart from a tenant of that name`, async (t) => {
    const subject = await open(t)
    const policy = policyOf({ amount: 1, by: 'tenant' })
    const service = serviceOf('payments', [policy])
    const take = async (consumer: string, tenant: string | undefined) =>
      (await subject.limiter.take(service, policy, consumer, 1, { ip: '', tenant, route: '' })).allowed
    t.ok(await take('acme', undefined))
    t.notOk(await take('acme', undefined))
    t.ok(await take('alice', 'acme'))
    t.notOk(await take('bob', 'acme'), 'consumers of a tenant share its quota')
    t.ok(await take('carol', undefined))
  })

  t.test(`${name}: a slot is free again when it is given back, or when it has lapsed`, async (t) => {
    const subject = await open(t)
    const policy = policyOf({ algorithm: 'concurrency', amount: 2, windowMs: MINUTE })
    const service = serviceOf('payments', [policy])
    const take = async () => {
      // Slots ignore the cost of a request.
      const decision = await subject.limiter.take(service, policy, 'alice', 7)
      const { decidedBy, at } = decision
      const common = { service, policy, consumer: 'alice', levels: undefined, cost: 7 }
      return { allowed: decision.allowed, charge: { ...common, decidedBy, at, slotAt: at } }
    }
    const first = await take()
    subject.clock += 30_000
    const second = await take()
    t.ok(first.allowed && second.allowed)
    t.notOk((await take()).allowed)
    await subject.limiter.settle(first.charge, 0, 'release')
    const third = await take()
    t.ok(third.allowed, 'given back')
    t.notOk((await take()).allowed)
    await subject.limiter.settle(second.charge, 0, 'renew')
    subject.clock += 59_000
    await subject.limiter.settle(second.charge, 0, 'renew')
    subject.clock += 8_000
    await subject.expire()
    t.ok((await take()).allowed, 'the third slot has lapsed: it was not given back')
    t.notOk((await take()).allowed, 'the second was renewed')
  })

  t.test(
    `${name}: a later charge may overdraw the quota and delays retries; a refund helps at once`,
    async (t) => {
      for (const algorithm of ['sliding', 'strict', 'token_bucket', 'fixed'] as const) {
        const subject = await open(t)
        const policy = policyOf({ algorithm, amount: 10, windowMs: MINUTE })
        const service = serviceOf('payments', [policy])
        const take = () => subject.limiter.take(service, policy, 'alice', 1)
        const { decidedBy, at } = await take()
        const common = { service, policy, consumer: 'alice', levels: undefined, cost: 1 }
        const charge = { ...common, decidedBy, at, slotAt: at }
        await subject.limiter.settle(charge, 14, 'keep')
        const [below] = await subject.limiter.usage(service, policy, 'alice')
        t.match(below, { used: 15, remaining: 0 }, algorithm)
        const denied = await take()
        t.match(denied, { allowed: false, remaining: 0 })
        subject.clock += denied.retryMs - 1
        t.notOk((await take()).allowed, `${algorithm}: waits ${denied.retryMs} ms`)
        subject.clock -= denied.retryMs - 1
        await subject.limiter.settle(charge, -7, 'keep')
        t.match(await take(), { allowed: true, remaining: 1 }, 'and goes on with what was given back')
      }
    },
  )

  t.test(`${name}: a bucket lets a burst through, then its rate`, async (t) => {
    const subject = await open(t)
    const policy = policyOf({ algorithm: 'token_bucket', amount: 10, windowMs: 1000, burst: 30 })
    const service = serviceOf('payments', [policy])
    const take = (cost: number) => subject.limiter.take(service, policy, 'alice', cost)
    t.match(await take(30), { allowed: true, remaining: 0, resetMs: 3000 })
    t.match(await take(1), { allowed: false, retryMs: 100 })
    t.match(await take(31), { allowed: false, retryMs: -1 })
    subject.clock += 250
    t.match(await take(2), { allowed: true, remaining: 0 })
    t.match(await take(1), { allowed: false, retryMs: 50 })
  })

  t.test(`${name}: a day ends at midnight of its time zone`, async (t) => {
    const subject = await open(t)
    const calendar = { period: 'day', timeZone: 'Asia/Kolkata' } as const
    const policy = policyOf({ algorithm: 'calendar', amount: 2, windowMs: 86_400_000, calendar })
    const service = serviceOf('payments', [policy])
    const take = (cost: number) => subject.limiter.take(service, policy, 'alice', cost)
    const midnight = subject.clock + 18.5 * 3_600_000
    subject.clock = midnight - 1000
    t.match(await take(2), { allowed: true, remaining: 0, resetMs: 1000 })
    t.match(await take(1), { allowed: false, retryMs: 1000 })
    subject.clock = midnight
    await subject.expire()
    t.match(await take(1), { allowed: true, remaining: 1, resetMs: 86_400_000 })
    subject.clock = midnight - 5
    t.match(await take(2), { allowed: false, retryMs: 86_400_005 }, 'a clock stepping back reopens nothing')
  })

  t.test(`${name}: strict never exceeds its amount in any window, wherever the window begins`, async (t) => {
    const subject = await open(t)
    const step = fc.record({ after: fc.nat(400), cost: fc.integer({ min: 1, max: 5 }) })
    let run = 0
    let passed = 0
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(7, 50, 999, 1000),
        fc.array(step, { minLength: 30, maxLength: 80 }),
        async (windowMs, steps) => {
          const policy = policyOf({ algorithm: 'strict', amount: 10, windowMs })
          const service = serviceOf('payments', [policy])
          const consumer = `strict-${run++}`
          const admitted: { at: number; cost: number }[] = []
          for (const { after, cost } of steps) {
            subject.clock += Math.round((after * windowMs) / 1000)
            const { allowed } = await subject.limiter.take(service, policy, consumer, cost)
            if (allowed) admitted.push({ at: subject.clock, cost })
          }
          for (const { at } of admitted) {
            const within = admitted.filter((one) => one.at > at - windowMs && one.at <= at)
            if (within.reduce((sum, { cost }) => sum + cost, 0) > 10) return false
          }
          passed += admitted.length
          return true
        },
      ),
      { numRuns: 40 },
    )
    // A single run may have as few as two: ten at once, and nothing more in its time.
    t.ok(passed > 200, `${passed} were admitted`)
  })

  t.test(
    `${name}: any sequence of requests, settlements, clock steps and limit changes equals the model`,
    async (t) => {
      const subject = await open(t)
      const start = subject.clock
      let run = 0
      await fc.assert(
        fc.asyncProperty(
          fc.constantFrom(...SHAPES),
          fc.nat(100_000),
          fc.array(STEP, { minLength: 5, maxLength: 40 }),
          async (shape, offset, steps) => {
            const windows = shape.map(({ windowMs }) => windowMs!)
            const consumer = `consumer-${run++}`
            let amounts: readonly number[] = shape.map(() => 5)
            const compiled = () =>
              policyOf(
                ...shape.map((limit, i) => ({
                  ...limit,
                  amount: amounts[i]!,
                  burst: limit.algorithm === 'token_bucket' ? amounts[i + 1]! : amounts[i]!,
                })),
              )
            amounts = [5, 5, 5, 5, 5]
            const model = createModel(compiled().limits)
            const charges: Charge[] = []
            subject.clock = start + offset
            let latest = subject.clock
            let slowed = false
            for (const one of steps) {
              if ('windows' in one) {
                const moved =
                  subject.clock +
                  Math.round(one.windows * (one.windows < 0 ? Math.max : Math.min)(...windows))
                subject.clock = Math.max(moved, latest - subject.windowsBack * Math.max(...windows))
                latest = Math.max(latest, subject.clock)
              } else if ('amounts' in one) {
                amounts = one.amounts
                slowed = shape.some(({ algorithm }) => algorithm === 'token_bucket')
              } else if ('cost' in one) await requestLikeTheModel(one.cost)
              else await settleLikeTheModel(one.which, one.quota, one.slot)
            }

            async function requestLikeTheModel(cost: number): Promise<void> {
              const policy = compiled()
              const service = serviceOf('payments', [policy])
              // Not at every step of the clock: counts that nobody looks at may return when the clock steps back.
              await subject.expire()
              const before = await subject.state('payments', consumer, policy.parts[0]!.keyPart)
              const looks = cost === 1
              const preview = looks && (await subject.limiter.preview(service, policy, consumer, cost))
              const decision = await take(cost === 1)
              compare(decision, model.take(policy.limits, cost, subject.clock))
              if (preview) {
                const { counted, ...foreseen } = preview
                compare(decision, foreseen)
                const [shown, read] = [decision.counted?.numbers.join(), counted?.numbers.join()]
                if (shown !== read) throw new Error(`the decision shows ${shown}, the preview ${read}`)
                if (!decision.allowed) {
                  const told = await subject.limiter.usage(service, policy, consumer)
                  sameCounts(decision.counted?.numbers, told)
                  sameCounts(counted?.numbers, told)
                }
              }
              if (decision.allowed) slowed = false
              if (decision.allowed) return
              const after = await subject.state('payments', consumer, policy.parts[0]!.keyPart)
              if (after !== before)
                throw new Error(`a denied request changed the state from ${before} to ${after}`)
              // With a clock further back than the store holds, a limit that counts nothing now may count again later.
              if (decision.retryMs < 0 || latest - subject.clock > MINUTE) return
              // A debt is kept for as long as its own rate takes to pay it off.
              if (slowed) return
              const now = subject.clock
              subject.clock = now + decision.retryMs - 1
              await subject.expire()
              const early = await take()
              compare(early, model.take(policy.limits, cost, subject.clock))
              if (early.allowed)
                throw new Error(`allowed 1 ms before the retry time of ${decision.retryMs} ms`)
              subject.clock = now + decision.retryMs
              await subject.expire()
              const inTime = await take()
              compare(inTime, model.take(policy.limits, cost, subject.clock))
              if (!inTime.allowed) throw new Error(`denied at the retry time of ${decision.retryMs} ms`)
              latest = Math.max(latest, subject.clock)

              async function take(shows = false): Promise<Decision> {
                const decision = await subject.limiter.take(service, policy, consumer, cost, undefined, shows)
                if (decision.allowed && !shows && decision.counted) throw new Error('shown unasked')
                const { allowed, decidedBy, at } = decision
                if (allowed) {
                  charges.push({
                    service,
                    policy,
                    consumer,
                    levels: undefined,
                    cost,
                    decidedBy,
                    at,
                    slotAt: at,
                  })
                }
                return decision
              }
            }

            async function settleLikeTheModel(which: number, quota: number, slot: Slot): Promise<void> {
              const charge = charges[which % charges.length]
              if (charge === undefined) return
              if (slot === 'release') charges.splice(charges.indexOf(charge), 1)
              await subject.expire()
              const { at, slotAt } = charge
              const policy = compiled()
              const now = subject.clock
              const settled = { ...charge, policy }
              await subject.limiter.settle(settled, Math.max(quota, -charge.cost), slot)
              charge.slotAt = settled.slotAt
              if (slot === 'renew' && charge.slotAt !== now) throw new Error('renewing did not move the slot')
              model.settle(policy.limits, Math.max(quota, -charge.cost), at, slot, slotAt, now)
            }
          },
        ),
        { numRuns: Number(process.env.CONTRACT_RUNS ?? 300) },
      )
      t.pass()
    },
  )
}

const SHAPES: readonly Partial<Limit>[][] = [
  [{ windowMs: 1000 }],
  [{ windowMs: MINUTE }],
  [{ windowMs: 7 }],
  [{ windowMs: 1000 }, { windowMs: MINUTE }],
  [{ windowMs: 7000 }, { windowMs: 10_000 }, { windowMs: 5000 }],
  [{ windowMs: 86_400_000 }, { windowMs: 1000 }],
  [{ algorithm: 'strict', windowMs: 1000 }],
  [{ algorithm: 'strict', windowMs: 77 }],
  [{ algorithm: 'token_bucket', windowMs: 1000 }],
  [{ algorithm: 'token_bucket', windowMs: MINUTE }],
  [{ algorithm: 'fixed', windowMs: 1000 }],
  [{ algorithm: 'calendar', windowMs: 86_400_000, calendar: { period: 'day', timeZone: 'Asia/Kolkata' } }],
  [{ algorithm: 'concurrency', windowMs: 1000 }],
  [{ windowMs: 1000 }, { algorithm: 'concurrency', windowMs: 5000 }],
  [
    { algorithm: 'token_bucket', windowMs: 1000 },
    { algorithm: 'strict', windowMs: 5000 },
    { windowMs: 3000 },
    { algorithm: 'fixed', windowMs: 10_000 },
  ],
]

const STEP = fc.oneof(
  { weight: 6, arbitrary: fc.record({ cost: fc.integer({ min: 1, max: 6 }) }) },
  { weight: 3, arbitrary: fc.record({ windows: fc.double({ min: 0, max: 2.5, noNaN: true }) }) },
  { weight: 1, arbitrary: fc.record({ windows: fc.double({ min: -7, max: 0, noNaN: true }) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      amounts: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 5, maxLength: 5 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      which: fc.nat(100),
      quota: fc.integer({ min: -6, max: 8 }),
      slot: fc.constantFrom<Slot>('keep', 'release', 'renew'),
    }),
  },
)

/** A denied request learns of each limit what an operator would read at that moment. */
function sameCounts(numbers: readonly number[] | undefined, usage: readonly LimitUsage[]): void {
  usage.forEach(({ limit, used, resetMs }, i) => {
    const [amount, left, reset, current = -1, before = -1] = (numbers ?? []).slice(i * COUNTED)
    // After a step back of the clock, the window begins later than now, and is decided as at its beginning.
    const weighed = current + before * Math.min(1, reset! / limit.windowMs)
    const adds = limit.algorithm !== 'sliding' || Math.ceil(weighed) === used
    if (amount !== limit.burst || limit.burst - left! !== used || reset !== resetMs || !adds)
      throw new Error(`limit ${i} is told as ${numbers}, and is ${JSON.stringify({ used, resetMs })}`)
  })
}

export function compare(decision: Decision, expected: Partial<Decision>): void {
  for (const [field, value] of Object.entries(expected)) {
    const found = decision[field as keyof Decision]
    if (found !== value)
      throw new Error(`${field} is ${found}, by the model ${value}; ${JSON.stringify(decision)}`)
  }
}
