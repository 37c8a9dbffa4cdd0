import t from 'tap'
import { expectToHold } from './long.js'

t.test('the gateway passes its tests without the plain path and the connection for decisions', async (t) => {
  process.env.PLAIN_PATHS = 'off'
  await expectToHold(t, 'scripts/test.mjs', 'test/gateway', 'test/e2e')
})
