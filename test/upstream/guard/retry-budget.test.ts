import fc from 'fast-check'
import t from 'tap'
import { RetryBudget } from '../../../src/upstream/guard/retry-budget.js'

t.test('with little traffic, 30 retries in 10 s are allowed', async (t) => {
  const budget = new RetryBudget(0.1)
  for (let i = 0; i < 30; i++) t.ok(budget.take(0), `number ${i + 1}`)
  t.notOk(budget.take(0))
  t.notOk(budget.take(9_999), 'for 10 s')
  t.ok(budget.take(10_000), 'then those of the first second are forgotten')
})

t.test('with much traffic, retries are allowed up to their share of the last 10 s', async (t) => {
  const budget = new RetryBudget(0.1)
  for (let i = 0; i < 5_000; i++) budget.request(i)
  let taken = 0
  while (budget.take(5_000)) taken++
  t.equal(taken, 500)
  for (let i = 0; i < 100; i++) budget.request(6_000)
  t.ok(budget.take(6_000), 'more traffic, more budget')
  t.notOk(budget.take(12_000), 'less traffic, less budget')
})

t.test('a share of 0 allows no retry', async (t) => {
  const budget = new RetryBudget(0)
  budget.request(0)
  t.notOk(budget.take(0))
})

t.test('no 10 s have more retries than the share, or 30', async () => {
  const events = fc.array(fc.record({ after: fc.integer({ min: 0, max: 4_000 }), retry: fc.boolean() }), {
    maxLength: 300,
  })
  fc.assert(
    fc.property(events, fc.double({ min: 0.01, max: 1, noNaN: true }), (list, share) => {
      const budget = new RetryBudget(share)
      const requests: number[] = []
      const retries: number[] = []
      let now = 0
      for (const { after, retry } of list) {
        now += after
        if (!retry) {
          budget.request(now)
          requests.push(now)
        } else if (budget.take(now)) {
          retries.push(now)
          // In whole seconds: the current one and the nine before it.
          const since = Math.floor(now / 1000) - 9
          const recent = (times: number[]) => times.filter((time) => Math.floor(time / 1000) >= since).length
          if (recent(retries) > Math.ceil(Math.max(30, recent(requests) * share))) return false
        }
      }
      return true
    }),
    { numRuns: 200 },
  )
})
