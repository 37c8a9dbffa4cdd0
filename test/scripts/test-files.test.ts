import { execFile } from 'node:child_process'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'

const root = fileURLToPath(new URL('../..', import.meta.url))
const { tapResults } = await import(join(root, 'scripts/tap-results.mjs'))
const { findTests, runTestFiles } = await import(join(root, 'scripts/test-files.mjs'))
const HEAD = "import t from 'tap'\nt.test('passes', async (t) => t.pass())\n"

async function run(t: Test, content: Record<string, string>, options: object = {}) {
  const folder = t.testdir(content)
  const { parser, results } = tapResults()
  let tap = ''
  const write = (text: string) => {
    tap += text
    parser.write(text)
  }
  const failed = await runTestFiles(findTests([folder]), { jobs: 4, timeoutMs: 60_000, write, ...options })
  parser.end()
  const failures = results.failures
    .map((name: string) => name.replace(`${relative(root, folder)}/`, ''))
    .sort()
  return { failed, passed: results.passed, failures, tap }
}

t.test(
  'every file is a subtest, and a file fails that fails, ends early, has no tests or dies',
  async (t) => {
    const { failed, passed, failures, tap } = await run(t, {
      'good.test.ts': `${HEAD}t.test('typed', async (t) => t.equal(2 as number, 2))`,
      'early.test.ts': `${HEAD}t.test('never ends', async () => process.exit(0))`,
      'false.test.ts': `${HEAD}t.test('is false', async (t) => t.equal(1, 2))`,
      'empty.test.ts': '',
      'broken.test.ts': 'process.exit(3)',
      'helper.ts': 'throw new Error("not a test file")',
    })
    t.equal(failed, 4)
    t.equal(passed, 4)
    t.same(failures, ['broken.test.ts', 'early.test.ts', 'empty.test.ts', 'false.test.ts > is false'])
    t.match(tap, /^1\.\.5$/m)
  },
)

t.test('a file that is too busy to keep the time is ended, and named', async (t) => {
  const content = { 'busy.test.ts': `${HEAD}for (;;);` }
  const { failed, failures } = await run(t, content, { timeoutMs: 100, graceMs: 100 })
  t.equal(failed, 1)
  t.match(failures, [/^busy\.test\.ts.* took too long$/])
})

t.test('a path without tests is a mistake', async (t) => {
  const folder = t.testdir({ 'helper.ts': '' })
  t.throws(() => findTests([folder]), { message: `no test files in ${folder}` })
  t.throws(() => findTests([join(folder, 'not-there')]), { code: 'ENOENT' })
})

t.test('the command ends with the counts, and with 0 only when all passed', async (t) => {
  const folder = t.testdir({ 'good.test.ts': HEAD, 'false.test.ts': `${HEAD}t.equal(1, 2)` })
  const npmTest = (file: string) =>
    new Promise<{ code: number; last: string | undefined }>((resolve) => {
      const args = [join(root, 'scripts/test.mjs'), '--tests-only', join(folder, file)]
      execFile(process.execPath, args, (error, stdout) => {
        resolve({ code: Number(error?.code ?? 0), last: stdout.trimEnd().split('\n').at(-1) })
      })
    })
  t.same(await npmTest('good.test.ts'), { code: 0, last: '1 passed, 0 failed' })
  t.same(await npmTest('false.test.ts'), { code: 1, last: '1 passed, 1 failed' })
})
