// `node scripts/count-tests.mjs results.tap`: counts the tests in raw TAP; `N passed, N failed` is its last line.
// Exit 1 when one failed, when none ran, or when there is no such file.
import { existsSync, readFileSync } from 'node:fs'
import { countLine, tapResults } from './tap-results.mjs'

const file = process.argv[2]
const { parser, results } = tapResults()
parser.end(file !== undefined && existsSync(file) ? readFileSync(file, 'utf8') : '')

for (const name of results.failures) if (name !== '') console.log(`failed: ${name}`)
for (const name of results.skipped) console.log(`skipped: ${name}`)
if (results.passed === 0) {
  // A run that proves nothing must not look like one that proves something.
  console.log('no test has passed')
  results.failed = Math.max(1, results.failed)
}
console.log(countLine(results))
if (results.failed > 0) process.exitCode = 1
