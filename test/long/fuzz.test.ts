import t from 'tap'
import { expectToHold } from './long.js'

/** The inputs of a run that can be had again; without it they are new ones. */
const { FUZZ_SEED, FUZZ_SECONDS = '300' } = process.env

t.test(
  `nothing that is read from others breaks on ${FUZZ_SECONDS} seconds of inputs that nobody would send`,
  async (t) => {
    const seed = FUZZ_SEED === undefined ? [] : ['--seed', FUZZ_SEED]
    await expectToHold(t, 'dist-test/fuzz/run.js', '--seconds', FUZZ_SECONDS, ...seed)
  },
)
