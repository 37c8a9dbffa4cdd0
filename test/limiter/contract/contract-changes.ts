import fc from 'fast-check'
import type { Test } from 'tap'
import type { Limit } from '../../../src/config/snapshot/limit.js'
import type { Charge, Decision } from '../../../src/limiter/limiter.js'
import { policyOf, serviceOf } from './build.js'
import { compare, type Subject } from './contract.js'
import { createModel } from './model-limiter.js'

const MINUTE = 60_000
const DAY = 86_400_000

/** Makes a limit whose amount changes at each of these moments. */
export function changing(limit: Limit, changes: readonly { at: number; amount: number }[]): Limit {
  const [first, ...rest] = changes
  if (first === undefined) return limit
  const { at, amount } = first
  const burst = limit.algorithm === 'token_bucket' ? amount + 1 : amount
  return { ...limit, next: { at, limit: changing({ ...limit, amount, burst }, rest) } }
}

/** Tests what every limiter does with an amount that changes by itself, such as a boost that ends. */
export function changeContract(t: Test, name: string, open: (t: Test) => Promise<Subject>): void {
  t.test(`${name}: a boost ends to the millisecond, and requests made under it stay counted`, async (t) => {
    const subject = await open(t)
    const from = subject.clock
    const [plain] = policyOf([3, MINUTE]).limits
    const boosted = policyOf(changing({ ...plain!, amount: 8, burst: 8 }, [{ at: from + 5000, amount: 3 }]))
    const service = serviceOf('payments', [boosted])
    const take = (cost: number) => subject.limiter.take(service, boosted, 'alice', cost)
    t.match(await take(7), { allowed: true, remaining: 1 })
    subject.clock = from + 4999
    t.match(await take(1), { allowed: true, remaining: 0 }, 'the last moment')
    subject.clock = from + 5000
    const [usage] = await subject.limiter.usage(service, boosted, 'alice')
    t.match(usage, { used: 8, remaining: 0, limit: { amount: 3 } }, 'what was used stays')
    // 8 exceed 3 in this window; in the next one 8 × (1 - x) + 1 ≤ 3 holds from x = 6 ÷ 8 on.
    t.match(await take(1), { allowed: false, remaining: 0, retryMs: MINUTE + 45_000 - 5000 })
    t.match(await take(4), { allowed: false, retryMs: -1 })
  })

  t.test(`${name}: the retry time takes into account the amount that holds by then`, async (t) => {
    const subject = await open(t)
    const from = subject.clock
    const limit = (amount: number, ...changes: { at: number; amount: number }[]) =>
      policyOf(changing({ ...policyOf({ algorithm: 'fixed', amount }).limits[0]!, amount }, changes))
    const service = serviceOf('payments', [])
    const take = (policy: ReturnType<typeof limit>, cost: number) =>
      subject.limiter.take(service, policy, 'alice', cost)
    t.ok((await take(limit(5), 5)).allowed)
    const ends = limit(5, { at: from + 30_000, amount: 2 })
    t.match(await take(ends, 2), { allowed: false, retryMs: 60_000 })
    t.match(await take(ends, 3), { allowed: false, retryMs: -1 }, 'the next window is not for so much')
    const rises = limit(2, { at: from + 10_000, amount: 7 }, { at: from + 20_000, amount: 1 })
    t.match(await take(rises, 2), { allowed: false, retryMs: 10_000 })
    t.match(await take(rises, 1), { allowed: false, retryMs: 10_000 })
    t.match(await take(rises, 3), { allowed: false, retryMs: -1 })
  })

  t.test(`${name}: with amounts that change, decisions and retry times equal the model's`, async (t) => {
    const subject = await open(t)
    const start = subject.clock
    let run = 0
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...SHAPES),
        fc.nat(100_000),
        fc.array(CHANGES, { minLength: 4, maxLength: 4 }),
        fc.array(STEP, { minLength: 5, maxLength: 30 }),
        async (shape, offset, changes, steps) => {
          const consumer = `consumer-${run++}`
          const window = Math.min(...shape.map(({ windowMs }) => windowMs!))
          subject.clock = start + offset
          const policy = policyOf(
            ...policyOf(...shape.map((limit) => ({ ...limit, amount: 4 }))).limits.map((limit, i) =>
              changing(
                limit,
                [...changes[i]!]
                  .sort((a, b) => a.windows - b.windows)
                  .map(({ windows, amount }) => ({
                    at: subject.clock + Math.round(windows * window),
                    amount,
                  })),
              ),
            ),
          )
          const service = serviceOf('payments', [policy])
          const model = createModel(policy.limits)
          const charges: Charge[] = []

          async function take(cost: number): Promise<Decision> {
            await subject.expire()
            const decision = await subject.limiter.take(service, policy, consumer, cost)
            const expected = model.take(policy.limits, cost, subject.clock)
            // A remembered denial shows the state of then; what was spent since makes the wait longer.
            const remembered = decision.decidedBy === 'cache'
            compare(decision, remembered ? { allowed: expected.allowed === true } : expected)
            const { allowed, decidedBy, at } = decision
            if (!allowed) return decision
            charges.push({ service, policy, consumer, levels: undefined, cost, decidedBy, at, slotAt: at })
            return decision
          }

          for (const step of steps) {
            if ('windows' in step) subject.clock += Math.round(step.windows * window)
            else if ('quota' in step) {
              const charge = charges.at(-1)
              if (charge === undefined) continue
              const quota = Math.max(step.quota, -charge.cost)
              await subject.expire()
              await subject.limiter.settle(charge, quota, 'keep')
              model.settle(policy.limits, quota, charge.at, 'keep', charge.slotAt, subject.clock)
            } else {
              const denied = await take(step.cost)
              if (denied.allowed || denied.retryMs < 0 || denied.decidedBy === 'cache') continue
              subject.clock += denied.retryMs - 1
              if ((await take(step.cost)).allowed) throw new Error(`allowed 1 ms before ${denied.retryMs} ms`)
              subject.clock += 1
              if (!(await take(step.cost)).allowed) throw new Error(`denied after ${denied.retryMs} ms`)
            }
          }
        },
      ),
      { numRuns: Number(process.env.CONTRACT_RUNS ?? 150) },
    )
    t.pass()
  })
}

const SHAPES: readonly Partial<Limit>[][] = [
  [{ windowMs: 1000 }],
  [{ windowMs: MINUTE }],
  [{ windowMs: 1000 }, { windowMs: MINUTE }],
  [{ algorithm: 'strict', windowMs: 1000 }],
  [{ algorithm: 'token_bucket', windowMs: 1000, burst: 6 }],
  [{ algorithm: 'fixed', windowMs: 1000 }],
  [{ algorithm: 'calendar', windowMs: DAY, calendar: { period: 'day', timeZone: 'Asia/Kolkata' } }],
  [{ algorithm: 'concurrency', windowMs: 5000 }],
  [
    { algorithm: 'token_bucket', windowMs: 1000 },
    { algorithm: 'strict', windowMs: 5000 },
    { windowMs: 3000 },
  ],
]

const CHANGES = fc.array(
  fc.record({ windows: fc.double({ min: 0, max: 4, noNaN: true }), amount: fc.integer({ min: 1, max: 9 }) }),
  { maxLength: 3 },
)

const STEP = fc.oneof(
  { weight: 6, arbitrary: fc.record({ cost: fc.integer({ min: 1, max: 6 }) }) },
  { weight: 3, arbitrary: fc.record({ windows: fc.double({ min: 0, max: 1.2, noNaN: true }) }) },
  { weight: 1, arbitrary: fc.record({ quota: fc.integer({ min: -4, max: 6 }) }) },
)
