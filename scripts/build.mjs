// `node scripts/build.mjs`: compiles src to dist, checks the types and writes the declarations. `--no-check` only compiles, which
// suffices for a run and takes a second; `--tests` also compiles the tests and the dashboards' sources.
import { chmodSync } from 'node:fs'
import { compileSources, compileTests } from './compile.mjs'

await compileSources()
chmodSync(new URL('../dist/cli/tidegate.js', import.meta.url), 0o755)
const asked = (flag) => process.argv.includes(flag)
if (asked('--tests')) await compileTests()
else if (!asked('--no-check')) await import('./check-types.mjs')
