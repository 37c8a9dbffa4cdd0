import t from 'tap'
import { expectToHold } from './long.js'

t.test(
  'nothing that is read from others breaks on five minutes of inputs that nobody would send',
  async (t) => {
    t.equal((await expectToHold(t, 'dist-test/fuzz/run.js', '--seconds', '300')).at(-1), 'all held')
  },
)
