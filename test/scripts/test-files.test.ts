import { execFile, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { eventually } from '../support/eventually.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const { tapResults } = await import(join(root, 'scripts/tap-results.mjs'))
const { findTests, runTestFiles } = await import(join(root, 'scripts/test-files.mjs'))
const FOLDER = 'test/fixtures/runner'

/** Runs files of test/fixtures/runner, as `npm test` runs the others. */
async function run(names: readonly string[], options: object = {}) {
  const files = findTests(names.map((name) => join(root, FOLDER, `${name}.test.ts`)))
  const { parser, results } = tapResults()
  let tap = ''
  const write = (text: string) => {
    tap += text
    parser.write(text)
  }
  const failed = await runTestFiles(files, { jobs: 2, timeoutMs: 60_000, graceMs: 500, write, ...options })
  parser.end()
  const failures = results.failures.map((name: string) => name.replace(`${FOLDER}/`, '')).sort()
  return { failed, passed: results.passed, skipped: results.skipped, failures, tap }
}

t.test('every file is a subtest', async (t) => {
  const { failed, passed, skipped, failures, tap } = await run([
    'broken',
    'early',
    'empty',
    'false',
    'good',
    'late',
    'open',
    'skipped',
    'source',
  ])
  t.match(tap, /^# Subtest: test\/fixtures\/runner\/good\.test\.ts$/m)
  t.match(tap, /^1\.\.9$/m)

  t.test('its tests count, and a file without tests says why', async (t) => {
    t.equal(passed, 8)
    t.same(skipped, [`${FOLDER}/skipped.test.ts`])
  })
  t.test(
    'it fails when a test fails, it exits early, it throws late, or it leaves something open',
    async (t) => {
      t.equal(failed, 6)
      t.same(failures, [
        'broken.test.ts',
        'early.test.ts',
        'empty.test.ts',
        'false.test.ts > a test that fails',
        'late.test.ts > a test that passes and throws later',
        'open.test.ts',
      ])
      t.match(tap, /does not load/)
      t.match(tap, 'open: "TCPServerWrap (1)"')
    },
  )
})

t.test('a file that takes too long is ended and named, whether it waits, hangs or is busy', async (t) => {
  const { failed, passed, failures, tap } = await run(['busy', 'waiting', 'dry'], {
    jobs: 3,
    timeoutMs: 2000,
  })
  t.equal(failed, 3)
  t.equal(passed, 3, 'tests that passed before count')
  t.same(failures, [
    'busy.test.ts took too long',
    'dry.test.ts',
    'waiting.test.ts > a test that waits for a minute',
  ])
  t.match(tap, /expired: test\/fixtures\/runner\/waiting\.test\.ts/)
})

t.test('a process that a file has started ends with the file', async (t) => {
  const { tap, failures } = await run(['orphan'], { timeoutMs: 1000 })
  t.same(failures, ['orphan.test.ts took too long'])
  const pid = /# pid (\d+)/.exec(tap)![1]!
  // An ended process stays listed until its parent asks for its exit code.
  const state = () => spawnSync('ps', ['-o', 'stat=', '-p', pid], { encoding: 'utf8' }).stdout
  await eventually('it has ended', () => !/^[^Z]/.test(state()))
})

t.test(
  'files share a process, except one that says it runs alone, and the one after a failure',
  async (t) => {
    t.match(await run(['shared-one', 'alone', 'shared-two'], { jobs: 1 }), { failed: 0, passed: 3 })
    const { failures } = await run(['open', 'shared-one', 'shared-two'], { jobs: 1 })
    t.same(failures, ['open.test.ts'])
  },
)

t.test('a path without tests is an error', async (t) => {
  const folder = t.testdir({ 'helper.ts': '' })
  t.throws(() => findTests([folder]), { message: `no test files in ${folder}` })
  const missing = join(folder, 'not-there')
  t.throws(() => findTests([missing]), { message: `there is no ${missing}` })
})

t.test("long tests and the runner's own fixtures run only when asked for", async (t) => {
  const found = (path: string): string[] =>
    findTests([join(root, path)]).map(({ name }: { name: string }) => name)
  t.ok(found('test').includes('test/scripts/test-files.test.ts'))
  t.notOk(found('test').some((name) => /^test\/(?:fixtures|long)\//.test(name)))
  t.ok(found('test/long').includes('test/long/fuzz.test.ts'))
  t.same(found(`${FOLDER}/good.test.ts`), [`${FOLDER}/good.test.ts`])
})

t.test('when the time is up no file is begun, and those left out are named', async (t) => {
  const { failed, passed, skipped } = await run(['good', 'false'], { untilMs: performance.now() - 1 })
  t.same({ failed, passed }, { failed: 0, passed: 0 })
  t.same(skipped, [`${FOLDER}/false.test.ts`, `${FOLDER}/good.test.ts`])
})

t.test('the command prints the counts last, and exits with 0 only when all passed', async (t) => {
  const npmTest = (t: Test, name: string, expected: object) =>
    new Promise<void>((resolve) => {
      const args = [join(root, 'scripts/test.mjs'), join(root, FOLDER, `${name}.test.ts`)]
      execFile(process.execPath, args, (error, stdout) => {
        t.same({ code: Number(error?.code ?? 0), last: stdout.trimEnd().split('\n').at(-1) }, expected)
        resolve()
      })
    })
  await npmTest(t, 'good', { code: 0, last: '2 passed, 0 failed' })
  await npmTest(t, 'false', { code: 1, last: '1 passed, 1 failed' })
})
