import t from 'tap'
import { expectToHold } from './long.js'

t.test(
  'each fault of upstreams, clients, files and processes costs callers what docs/failure-modes.md says',
  async (t) => {
    await expectToHold(t, 'bench/chaos.mjs')
  },
)
