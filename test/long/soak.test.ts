import t from 'tap'
import { expectToHold } from './long.js'

t.test('ten minutes of mixed load leave the memory of a gateway as it was', async (t) => {
  await expectToHold(t, 'bench/soak.mjs')
})
