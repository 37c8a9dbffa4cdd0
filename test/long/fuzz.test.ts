import t from 'tap'
import { expectToHold } from './long.js'

/** Seed to repeat the inputs of a run; without it the inputs are new. */
const { FUZZ_SEED, FUZZ_SECONDS = '300' } = process.env

t.test(`every reader of outside data withstands ${FUZZ_SECONDS} seconds of hostile inputs`, async (t) => {
  const seed = FUZZ_SEED === undefined ? [] : ['--seed', FUZZ_SEED]
  await expectToHold(t, 'dist-test/fuzz/run.js', '--seconds', FUZZ_SECONDS, ...seed)
})
