// `node scripts/count-tests.mjs FILE …`: counts the tests in raw TAP; `N passed, N failed` is its last line.
// Exit 1 when one failed, or when in one of the files none passed, or it is not there.
import { countFiles } from './tap-results.mjs'

const { lines, ok } = countFiles(process.argv.slice(2))
console.log(lines.join('\n'))
process.exitCode = ok ? 0 : 1
