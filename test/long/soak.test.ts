import t from 'tap'
import { expectToHold } from './long.js'

/** Minutes of load, for when there is no time for ten. */
const { SOAK_MINUTES = '10' } = process.env

t.test(`${SOAK_MINUTES} minutes of mixed load do not grow the memory of a gateway`, async (t) => {
  await expectToHold(t, 'bench/soak.mjs', '--minutes', SOAK_MINUTES)
})
