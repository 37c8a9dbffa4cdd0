// `npm test`: runs the checks, then the tests. No test runs if a check fails. `npm test -- test/cli test/errors.test.ts` runs
// only these tests, `npm test -- --tests-only` all of them, both without the checks; `--watch` runs them again when a file
// changes. `npm run test:long` is this with `--long`: the tests that take minutes, one file after the other; with `--minutes N`
// it begins none after that time, with `-- fleet` it runs test/long/fleet.test.ts. It prints one line for each check and each test file; the last line has the counts.
import { spawn } from 'node:child_process'
import { createWriteStream, mkdirSync, rmSync, watch } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { compileSources, compileTests } from './compile.mjs'
import { countLine, tapResults } from './tap-results.mjs'
import { findTests, runTestFiles, stopWorkers } from './test-files.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const { resolve } = createRequire(import.meta.url)
const biome = resolve('@biomejs/biome/bin/biome')
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    'tests-only': { type: 'boolean' },
    watch: { type: 'boolean' },
    long: { type: 'boolean' },
    minutes: { type: 'string' },
  },
})
const paths = positionals.map((one) =>
  values.long && !one.includes('/') ? join(root, `test/long/${one}.test.ts`) : one,
)
const withChecks = paths.length === 0 && !values['tests-only'] && !values.watch && !values.long
/** Raw TAP of the last run, which `.ci/run` counts. A run without checks is no verdict, so it writes to another file. */
const RESULTS = join(root, `.tap/${withChecks ? 'results' : values.long ? 'long' : 'some'}.tap`)
/**
 * `jobs`: number of processes. Tests mostly wait, except for the long ones, which measure what a busy machine changes.
 * `timeoutMs`: maximum time of one file.
 */
const { jobs, timeoutMs, folder } = values.long
  ? { jobs: 1, timeoutMs: 1_200_000, folder: 'test/long' }
  : { jobs: 4, timeoutMs: 240_000, folder: 'test' }

/** Takes longer than the other checks together and needs none of them, so it runs beside them. */
const TYPES = { name: 'types', args: ['scripts/check-types.mjs'] }

/** Asks the registry; prints its findings, and never fails. */
const AUDIT = { name: 'audit', args: ['scripts/audit.mjs', '--report'] }

const CHECKS = [
  { name: 'lint', args: [biome, 'ci', '--colors=off', '.'] },
  { name: 'imports', args: ['scripts/check-imports.mjs'] },
  { name: 'named', args: ['scripts/check-tests.mjs'] },
  { name: 'made', args: ['scripts/generate-schema.mjs', '--check'] },
  { name: 'redis', args: ['scripts/ensure-redis.mjs'] },
]

/** Parts of a failure's diagnostics that are shown in another way, or that say nothing about the failure. */
const NOISE = 'at message diff source stack compare stdio cwd command args externalID jobId env test'.split(
  ' ',
)

const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`
const say = (mark, name, ms, text = '') =>
  console.log(`${mark} ${name.padEnd(8)} ${seconds(ms).padStart(7)}  ${text}`.trimEnd())

/** Runs one check. Shows all its output if it fails, and at most the last line if it passes. */
function check({ name, args }) {
  const started = performance.now()
  return new Promise((done) => {
    let output = ''
    const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
    child.stdout.on('data', (data) => {
      output += data
    })
    child.stderr.on('data', (data) => {
      output += data
    })
    child.on('close', (code) => {
      const ok = code === 0
      const lines = output.trimEnd().split('\n')
      say(ok ? 'ok  ' : 'FAIL', name, performance.now() - started, ok ? lines.at(-1) : '')
      if (!ok) console.log(output.trimEnd())
      done(ok)
    })
  })
}

function showFailure({ path, name, diag }) {
  console.log(`\nFAIL ${[...path, name].join(' > ')}`)
  const at = diag?.at
  if (at?.fileName !== undefined) console.log(`  at ${at.fileName}:${at.lineNumber}:${at.columnNumber}`)
  for (const key of ['message', 'diff', 'source', 'stack']) {
    if (typeof diag?.[key] === 'string') console.log(diag[key].trimEnd().replace(/^/gm, '  '))
  }
  if (diag?.diff === undefined) {
    const rest = Object.entries(diag ?? {}).filter(([key]) => !NOISE.includes(key))
    for (const [key, value] of rest) console.log(`  ${key}: ${JSON.stringify(value)}`)
  }
  console.log()
}

async function runTests(files) {
  const { parser, results } = tapResults({
    onFile: ({ name, ok, ms, tests }) =>
      console.log(
        `${ok ? 'ok  ' : 'FAIL'} ${name}  ${tests} ${tests === 1 ? 'test' : 'tests'}  ${seconds(ms)}`,
      ),
    onFailure: showFailure,
  })
  const raw = createWriteStream(RESULTS)
  const write = (tap) => {
    raw.write(tap)
    parser.write(tap)
  }
  const failed = await runTestFiles(files, { jobs, timeoutMs, untilMs, write })
  parser.end()
  await new Promise((done) => {
    raw.end(done)
  })
  return { failed, results }
}

/** Time until which a file may begin, on the clock of `performance.now()`. */
const untilMs = performance.now() + Number(values.minutes ?? Infinity) * 60_000

/** Runs the checks, then the tests. Resolves with whether everything passed. */
async function runAll() {
  const started = performance.now()
  rmSync(RESULTS, { force: true })
  let files
  try {
    await compileSources()
    await compileTests()
    files = findTests(paths.length > 0 ? paths : [join(root, folder)])
  } catch (error) {
    console.log(`${error.message}\n0 passed, 1 failed`)
    return false
  }
  const inTurn = async () => {
    for (const entry of CHECKS) if (!(await check(entry))) return false
    return true
  }
  const held = withChecks ? await Promise.all([check(TYPES), check(AUDIT), inTurn()]) : []
  if (held.includes(false)) {
    console.log('0 passed, 1 failed')
    return false
  }
  const { failed, results } = await runTests(files)
  for (const name of results.skipped) console.log(`skipped: ${name}`)
  const what = withChecks ? `${CHECKS.length + 2} checks and the tests` : 'tests'
  console.log(`${what} in ${seconds(performance.now() - started)}`)
  if (failed > 0 || results.passed === 0) results.failed = Math.max(1, results.failed)
  console.log(countLine(results))
  return results.failed === 0
}

/** Runs the tests, and again at each change. */
async function runAtEachChange() {
  let changed = () => {}
  for (const folder of ['src', 'test', 'lua', 'config', 'docs'])
    watch(join(root, folder), { recursive: true }, () => changed())
  for (;;) {
    const change = new Promise((done) => {
      changed = done
    })
    await runAll()
    await change
    // An editor writes more than once.
    await new Promise((done) => setTimeout(done, 50))
  }
}

mkdirSync(join(root, '.tap'), { recursive: true })
process.on('exit', stopWorkers)
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(1))
if (values.watch) await runAtEachChange()
else if (!(await runAll())) process.exitCode = 1
