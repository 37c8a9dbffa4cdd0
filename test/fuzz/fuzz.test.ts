import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import t from 'tap'
import { TARGETS } from './list.js'

for (const target of TARGETS) {
  t.test(`${target.name}: ${target.what}`, async (t) => {
    await fc.assert(await target.open(t), { numRuns: target.short })
  })
}

t.test('npm run fuzz runs one target from a seed, and says that all held', async (t) => {
  const script = fileURLToPath(new URL('../../dist-test/fuzz/run.js', import.meta.url))
  const fuzz = (...args: string[]) => spawnSync(process.execPath, [script, ...args], { encoding: 'utf8' })

  const good = fuzz('--seconds', '0.2', '--only', 'paths', '--seed', '7')
  t.equal(good.status, 0, good.stderr)
  t.match(good.stdout, /^seed 7\nok {3}paths .* inputs: .*\nall held\n$/)
})
