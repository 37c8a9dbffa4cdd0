// `node scripts/build.mjs`: compiles src to dist, checks the types and writes the declarations. `--no-check` only compiles, which
// suffices for a run and takes a second; `--tests` also compiles the tests and the dashboards' sources.
import { chmodSync } from 'node:fs'
import { compileSources, compileTests } from './compile.mjs'

const asked = (flag) => process.argv.includes(flag)
/** Says what is being done and, when it is done, how long it took. It writes to stderr: `npm pack --json` owns stdout. */
async function step(name, run) {
  const started = performance.now()
  process.stderr.write(`${name} … `)
  await run()
  process.stderr.write(`${((performance.now() - started) / 1000).toFixed(1)} s\n`)
}

await step('compiling src to dist', () => compileSources())
chmodSync(new URL('../dist/cli/tidegate.js', import.meta.url), 0o755)
if (asked('--tests')) await step('compiling the tests', () => compileTests())
else if (!asked('--no-check')) await step('checking the types', () => import('./check-types.mjs'))
