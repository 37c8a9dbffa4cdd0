/**
 * `npm run bench:accuracy`: measures how near each algorithm comes to an exact log, through the real memory limiter with an
 * injected clock. Nothing depends on the machine: the same seed gives the same figures. See README.md.
 */
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { policyOf } from '../dist/config/snapshot/policy.js'
import { createMemoryLimiter } from '../dist/limiter/memory.js'
import { plotAccuracy } from './accuracy/plot.mjs'
import { judgeMarks, measureAccuracy } from './accuracy/simulate.mjs'
import { LIMIT, WINDOW_MS } from './accuracy/traffic.mjs'
import { printMarks } from './harness/marks.mjs'
import { printTable } from './harness/table.mjs'

const usage = `Usage: npm run bench:accuracy -- [options]

  --windows N   windows of traffic in each class, a multiple of 4 (4000)
  --seed N      of the traffic (1)
  --svg FILE    where the plot goes (docs/accuracy.svg); none: no plot
`

function open(algorithm, amount, windowMs) {
  let at = 0
  const limiter = createMemoryLimiter({ now: () => at })
  const limit = { name: 'bench', algorithm, by: 'consumer', amount, windowMs, burst: amount }
  const policy = policyOf([{ ...limit, calendar: undefined }], { refunds: false, candidate: undefined })
  const service = { index: 0, name: 'bench', upstreams: [], onFailure: 'open', policies: [policy] }
  return (t) => {
    at = t
    return limiter.take(service, policy, 'consumer', 1).allowed
  }
}

function readOptions() {
  const { values } = parseArgs({
    options: {
      windows: { type: 'string', default: '4000' },
      seed: { type: 'string', default: '1' },
      svg: { type: 'string', default: fileURLToPath(new URL('../docs/accuracy.svg', import.meta.url)) },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  const windows = Number(values.windows)
  const seed = Number(values.seed)
  if (!Number.isInteger(windows) || windows < 4 || windows % 4 !== 0)
    throw new Error('--windows takes a multiple of 4')
  if (!Number.isInteger(seed) || seed < 0) throw new Error('--seed takes a whole number from 0 on')
  return { ...values, windows, seed }
}

let options
try {
  options = readOptions()
} catch (error) {
  console.error(`${error.message}\n\n${usage}`)
  process.exit(2)
}
if (options.help) {
  console.log(usage)
  process.exit(0)
}

const { windows, seed } = options
const rows = measureAccuracy({ open, windows, seed })
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`

console.log(`A limit of ${LIMIT} in ${WINDOW_MS / 1000} s, ${windows} windows of each traffic, seed ${seed}.

- "Exact" is a limiter that keeps the time of each of its own admissions, and admits when fewer than ${LIMIT} of them lie in the
  ${WINDOW_MS / 1000} s that end with the request. "Admitted ÷ exact" compares the volumes of the two on the same requests.
- A decision is wrong when a log of this algorithm's own admissions would have said otherwise at that moment.
- "Fullest window" is the most that was admitted in any ${WINDOW_MS / 1000} s, wherever they begin, of the limit.
`)
printTable(
  [
    'traffic',
    'algorithm',
    'requests',
    'admitted ÷ exact',
    'wrongly passed',
    'wrongly denied',
    'fullest window',
  ],
  rows.map((row) => [
    row.traffic,
    row.algorithm,
    row.requests,
    percent(row.ofExact),
    percent(row.wronglyPassed),
    percent(row.wronglyDenied),
    percent(1 + row.peakExcess, 0),
  ]),
)
const marks = judgeMarks(rows)
console.log()
const hold = printMarks(marks)
if (options.svg !== 'none') {
  writeFileSync(options.svg, plotAccuracy(rows))
  console.log(`\nThe plot is in ${options.svg}.`)
}
process.exit(hold ? 0 : 1)
