import t from 'tap'
import { expectToHold } from './long.js'

t.test('restarts, reloads and upgrades under full load cost no request', async (t) => {
  await expectToHold(t, 'bench/restart.mjs')
})
