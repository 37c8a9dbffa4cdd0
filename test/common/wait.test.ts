import t from 'tap'
import { deferred, limitConcurrency, withTimeout } from '../../src/common/wait.js'

t.test('no more run at the same time, the others in their order, also after a failure', async (t) => {
  const turn = limitConcurrency(2)
  const began: number[] = []
  let running = 0
  let most = 0
  const all = Array.from({ length: 7 }, (_, i) =>
    turn(async () => {
      began.push(i)
      most = Math.max(most, ++running)
      await new Promise((resolve) => setImmediate(resolve))
      running--
      if (i % 3 === 0) throw new Error(`${i} failed`)
      return i
    }),
  )
  const results = await Promise.allSettled(all)
  t.same(
    results.map((one) => (one.status === 'fulfilled' ? one.value : (one.reason as Error).message)),
    ['0 failed', 1, 2, '3 failed', 4, 5, '6 failed'],
  )
  t.equal(most, 2)
  t.same(began, [0, 1, 2, 3, 4, 5, 6])
  t.equal(await turn(async () => 'later'), 'later')
})

t.test('what comes too late is replaced by a value or an error; what comes in time is not', async (t) => {
  const never = deferred<string>()
  t.equal(await withTimeout(never.promise, 1, () => 'late'), 'late')
  const failing = withTimeout(never.promise, 1, () => {
    throw new Error('too late')
  })
  await t.rejects(failing, { message: 'too late' })
  t.equal(await withTimeout('here', 60_000, () => 'late'), 'here')
  const { promise, reject } = deferred()
  reject(new Error('failed'))
  await t.rejects(
    withTimeout(promise, 60_000, () => undefined),
    { message: 'failed' },
  )
})
