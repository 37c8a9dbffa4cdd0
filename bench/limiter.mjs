/** `npm run bench:limiter`: measures decisions of the limiter alone, beside its peers. See README.md. */
import { writeFileSync } from 'node:fs'
import os from 'node:os'
import { parseArgs } from 'node:util'
import { pinSelf, requireTools, shape } from './harness/machine.mjs'
import { startStore } from './harness/store.mjs'
import { report } from './limiter/report.mjs'
import { measure, PARTS } from './limiter/rounds.mjs'

const usage = `Usage: npm run bench:limiter -- [options]

  --rounds N     rounds, each in new processes (5)
  --seconds N    seconds of a measurement (2; latency three times that)
  --quick        2 rounds of half a second: does it run, not how fast is it
  --only A,B     of ${Object.keys(PARTS).join(', ')}
  --json FILE    the figures once more, for a program
`

function readOptions() {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      quick: { type: 'boolean', default: false },
      only: { type: 'string', default: Object.keys(PARTS).join(',') },
      json: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  const rounds = Number(values.rounds ?? (values.quick ? 2 : 5))
  const seconds = Number(values.seconds ?? (values.quick ? 0.5 : 2))
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds takes a whole number above 0')
  if (!(seconds > 0)) throw new Error('--seconds takes a number above 0')
  const only = values.only.split(',')
  for (const part of only) if (PARTS[part] === undefined) throw new Error(`--only: there is no part ${part}`)
  return { ...values, rounds, seconds, only }
}

const load = () =>
  os
    .loadavg()
    .map((n) => n.toFixed(2))
    .join(' ')

async function main({ rounds, seconds, only, quick, json }) {
  requireTools({ wrk: false })
  pinSelf()
  const before = load()
  const store = await startStore()
  const byPart = Object.fromEntries(only.map((part) => [part, []]))
  const tasks = only.flatMap((part) => PARTS[part].map((task) => ({ part, task })))
  console.log(`${shape(store.version)}\n${rounds} rounds of ${seconds} s, load average before: ${before}`)
  try {
    for (let round = 0; round < rounds; round++) {
      // There and back again: slow changes of the machine meet all alike.
      const order = round % 2 === 0 ? tasks : tasks.toReversed()
      for (const { part, task } of order) {
        const longer = part === 'latency' ? 3 : 1
        const options = { store, seconds: seconds * longer, warmup: quick ? 0.5 : 1.5 }
        for (const result of await measure(task, options)) byPart[part].push({ round, ...result })
      }
    }
  } finally {
    await store.stop()
  }
  // In the order of the parts, whichever way the last round went.
  for (const part of only) {
    const place = (r) => PARTS[part].findIndex((task) => task.subject === r.subject && task.shape === r.shape)
    byPart[part].sort((a, b) => place(a) - place(b))
  }
  const ok = report(byPart)
  console.log(`\nLoad average after: ${load()}. All marks are for a machine that does nothing else.`)
  if (json !== undefined) writeFileSync(json, JSON.stringify(byPart, undefined, 2))
  return ok
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
try {
  process.exit((await main(options)) ? 0 : 1)
} catch (error) {
  console.error(`bench:limiter: ${error.stack}`)
  process.exit(1)
}
