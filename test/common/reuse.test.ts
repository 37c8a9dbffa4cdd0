import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { reuse } from '../../src/common/reuse.js'

t.test('the same question is answered once, until its answer is too old', async (t) => {
  const asked: unknown[] = []
  const read = reuse(200, async (key: { id: number } | null) => asked.push(key))
  t.same(await Promise.all([read({ id: 1 }), read({ id: 1 }), read({ id: 2 }), read(null)]), [1, 1, 2, 3])
  t.same(asked, [{ id: 1 }, { id: 2 }, null])
  await sleep(250)
  t.equal(await read({ id: 1 }), 4)
})

t.test('reads keep apart: a key keeps its older answer until its turn, and a new one waits', async (t) => {
  const began: number[] = []
  const read = reuse(1, async (key: number) => [key, began.push(performance.now())], 100)
  t.same(await Promise.all([0, 1, 2].map(read)), [
    [0, 1],
    [1, 2],
    [2, 3],
  ])
  await sleep(150)
  t.same(await Promise.all([0, 3, 1].map(read)), [
    [0, 4],
    [3, 5],
    [1, 2],
  ])
  // A timer may be late, and never is more than a few ms early.
  t.ok(began.every((at, i) => at - began[0]! > i * 100 - 10))
})

t.test('at most a hundred answers are kept, and no read waits longer than five seconds', async (t) => {
  let count = 0
  const read = reuse(60_000, async (key: number) => [key, ++count])
  for (let key = 0; key <= 100; key++) await read(key)
  t.same(await read(1), [1, 2])
  t.same(await read(0), [0, 102], 'the oldest has gone')

  const slow = reuse(60_000, async (key: number) => key, 10_000)
  const start = performance.now()
  t.same(await Promise.all([slow(1), slow(2), slow(3)]), [1, 2, 3])
  t.ok(performance.now() - start < 9500)
})
