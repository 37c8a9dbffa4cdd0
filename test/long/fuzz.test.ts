import t from 'tap'
import { expectToHold } from './long.js'

/** The inputs of a run that can be had again; without it they are new ones. */
const { FUZZ_SEED } = process.env

t.test(
  'nothing that is read from others breaks on five minutes of inputs that nobody would send',
  async (t) => {
    const seed = FUZZ_SEED === undefined ? [] : ['--seed', FUZZ_SEED]
    await expectToHold(t, 'dist-test/fuzz/run.js', '--seconds', '300', ...seed)
  },
)
