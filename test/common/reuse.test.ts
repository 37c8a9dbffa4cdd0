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
