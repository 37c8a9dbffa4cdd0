import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'

const root = fileURLToPath(new URL('../..', import.meta.url))
const { countFiles } = await import(join(root, 'scripts/tap-results.mjs'))

function countTap(t: Test, ...taps: string[]) {
  const folder = t.testdir(Object.fromEntries(taps.map((tap, i) => [`${i}.tap`, tap])))
  const { ok, lines } = countFiles(taps.map((_, i) => join(folder, `${i}.tap`)))
  return { status: ok ? 0 : 1, lines: lines.map((line: string) => line.replace(folder, '')) }
}

const GOOD = `TAP version 14
# Subtest: test/a.test.ts
    # Subtest: passes a request
        ok 1 - should be equal
        ok 2 - should be equal
        1..2
    ok 1 - passes a request # time=3ms
    # Subtest: limits
        # Subtest: rejects the eleventh
            ok 1 - should be equal
            1..1
        ok 1 - rejects the eleventh # time=3ms
        1..1
    ok 2 - limits # time=3ms
    1..2
ok 1 - test/a.test.ts # time=10ms
1..1
`

t.test('counts tests without a test inside', async (t) => {
  t.strictSame(countTap(t, GOOD), { status: 0, lines: ['2 passed, 0 failed'] })
})

t.test('counts and names a failed test', async (t) => {
  const tap = GOOD.replace('            ok 1 - should', '            not ok 1 - should')
    .replace('        ok 1 - rejects', '        not ok 1 - rejects')
    .replace('    ok 2 - limits', '    not ok 2 - limits')
    .replace('\nok 1 - test/a', '\nnot ok 1 - test/a')
  t.strictSame(countTap(t, tap), {
    status: 1,
    lines: ['failed: test/a.test.ts > limits > rejects the eleventh', '1 passed, 1 failed'],
  })
})

t.test('counts a file that crashed after its tests had passed', async (t) => {
  const tap = GOOD.replace('\nok 1 - test/a', '\nnot ok 1 - test/a')
  t.strictSame(countTap(t, tap), { status: 1, lines: ['failed: test/a.test.ts', '2 passed, 1 failed'] })
})

t.test('counts a file that did not load', async (t) => {
  const tap = GOOD.replace('\n1..1\n', '\nnot ok 2 - test/b.test.ts # time=9ms\n1..2\n')
  t.strictSame(countTap(t, tap), { status: 1, lines: ['failed: test/b.test.ts', '2 passed, 1 failed'] })
})

t.test('counts a failed assertion beside passed inner tests once', async (t) => {
  const tap = GOOD.replace('    1..2\nok', '    not ok 3 - left nothing open\n    1..3\nnot ok')
  t.strictSame(countTap(t, tap), { status: 1, lines: ['failed: test/a.test.ts', '2 passed, 1 failed'] })
})

t.test('names a file that took too long', async (t) => {
  const late = 'not ok 2 - timeout!\n  ---\n  expired: test/slow.test.ts\n  ...\n1..2\n'
  t.strictSame(countTap(t, GOOD.replace(/1\.\.1\n$/, late)), {
    status: 1,
    lines: ['failed: test/slow.test.ts took too long', '2 passed, 1 failed'],
  })
})

t.test('names skipped tests', async (t) => {
  const tap = GOOD.replace('    1..2\nok', '    ok 3 - on Windows # SKIP no such machine\n    1..3\nok')
  t.strictSame(countTap(t, tap), {
    status: 0,
    lines: ['skipped: test/a.test.ts > on Windows', '2 passed, 0 failed, 1 skipped'],
  })
})

t.test('fails a run without a test, also among several runs', async (t) => {
  const lines = ['no test has passed in /0.tap', '0 passed, 1 failed']
  t.strictSame(countTap(t, 'TAP version 14\n1..0 # no tests found\n'), { status: 1, lines })
  t.strictSame(countTap(t, ''), { status: 1, lines })
  t.strictSame(countTap(t, GOOD, ''), {
    status: 1,
    lines: ['no test has passed in /1.tap', '2 passed, 1 failed'],
  })
  t.strictSame(countFiles(['/no/such/file']).ok, false)
  t.strictSame(countFiles([]).ok, false)
})

t.test('adds up several runs', async (t) => {
  t.strictSame(countTap(t, GOOD, GOOD), { status: 0, lines: ['4 passed, 0 failed'] })
})

t.test('the command prints the lines, and exits with 1 when a test failed', async (t) => {
  const count = (tap: string) => {
    const file = join(t.testdir({ 'results.tap': tap }), 'results.tap')
    const { status, stdout } = spawnSync(process.execPath, [join(root, 'scripts/count-tests.mjs'), file], {
      encoding: 'utf8',
    })
    return { status, stdout }
  }
  t.strictSame(count(GOOD), { status: 0, stdout: '2 passed, 0 failed\n' })
  t.match(count(''), { status: 1, stdout: /\n0 passed, 1 failed\n$/ })
})
