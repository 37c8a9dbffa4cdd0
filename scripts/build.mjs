// `node scripts/build.mjs`: compiles src to dist, checks the types and writes the declarations. `--no-check` only compiles, which is
// all that a run needs and takes a second; `--tests` compiles the tests and the dashboards' sources, too.
import { chmodSync } from 'node:fs'
import { compileSources, compileTests } from './compile.mjs'

await compileSources()
chmodSync(new URL('../dist/cli/tidegate.js', import.meta.url), 0o755)
const asked = (flag) => process.argv.includes(flag)
if (asked('--tests')) await compileTests()
else if (!asked('--no-check')) await import('./check-types.mjs')
