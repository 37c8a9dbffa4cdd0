// `npm test`: everything that has to hold, in one command, quickest to tell first. `npm test -- test/cli` runs some tests
// only, `--tests-only` leaves the checks out (`dist` has to be built then). One line for each check and each test file; no
// test runs when a check fails; the last line has the counts.
import { spawn } from 'node:child_process'
import { createWriteStream, mkdirSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { countLine, tapResults } from './tap-results.mjs'
import { findTests, runTestFiles } from './test-files.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const { resolve } = createRequire(import.meta.url)
const tsc = resolve('typescript/bin/tsc')
const biome = resolve('@biomejs/biome/bin/biome')
const testsOnly = process.argv.includes('--tests-only')
/** Raw TAP of the last run: what `.ci/run` counts. A run without checks is no verdict, and leaves the one there is alone. */
const RESULTS = join(root, testsOnly ? '.tap/tests-only.tap' : '.tap/results.tap')
/** Test files at a time. */
const JOBS = 3

/** Takes longer than the others together, and needs none of them: runs beside them. */
const TYPES = { name: 'types', args: [tsc, '--noEmit', '-p', '.'] }

/** Asks the registry; tells, and fails nothing. */
const AUDIT = { name: 'audit', args: ['scripts/audit.mjs', '--report'] }

const CHECKS = [
  { name: 'build', args: ['scripts/build.mjs', '--no-check'] },
  { name: 'lint', args: [biome, 'ci', '--colors=off', '.'] },
  { name: 'imports', args: ['scripts/check-imports.mjs'] },
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

/** Runs one check. Its output is shown when it fails; when it holds, the last line at most. */
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
  const failed = await runTestFiles(files, { jobs: JOBS, timeoutMs: 300_000, write })
  parser.end()
  await new Promise((done) => {
    raw.end(done)
  })
  return { failed, results }
}

const paths = process.argv.slice(2).filter((arg) => arg !== '--tests-only')
const files = findTests(paths.length > 0 ? paths : [join(root, 'test')])
mkdirSync(join(root, '.tap'), { recursive: true })
rmSync(RESULTS, { force: true })
const started = performance.now()
const inTurn = async () => {
  for (const entry of CHECKS) if (!(await check(entry))) return false
  return true
}
const held = testsOnly ? [] : await Promise.all([check(TYPES), check(AUDIT), inTurn()])
if (held.includes(false)) {
  console.log('0 passed, 1 failed')
  process.exitCode = 1
} else {
  const { failed, results } = await runTests(files)
  for (const name of results.skipped) console.log(`skipped: ${name}`)
  const what = testsOnly ? 'tests' : `${CHECKS.length + 2} checks and the tests`
  console.log(`${what} in ${seconds(performance.now() - started)}`)
  if (failed > 0 || results.passed === 0) results.failed = Math.max(1, results.failed)
  console.log(countLine(results))
  if (results.failed > 0) process.exitCode = 1
}
