import t from 'tap'
import { expectToHold } from './long.js'

/** Of load, where there is no time for ten minutes. */
const { SOAK_MINUTES = '10' } = process.env

t.test(`${SOAK_MINUTES} minutes of mixed load leave the memory of a gateway as it was`, async (t) => {
  await expectToHold(t, 'bench/soak.mjs', '--minutes', SOAK_MINUTES)
})
