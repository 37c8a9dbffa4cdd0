// `node scripts/count-tests.mjs FILE …`: counts the tests in raw TAP; its last line is `N passed, N failed`. It exits with 1 if a
// test failed, if no test of a file passed, or if a file is missing.
import { countFiles } from './tap-results.mjs'

const { lines, ok } = countFiles(process.argv.slice(2))
console.log(lines.join('\n'))
process.exitCode = ok ? 0 : 1
