import t from 'tap'
import { expectToHold } from './long.js'

t.test('stopping and restarting gateways under full load costs no request', async (t) => {
  await expectToHold(t, 'bench/restart.mjs')
})
