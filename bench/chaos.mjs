/**
 * `npm run chaos`: every fault of upstreams, clients, files and processes, and each attack of one address on the others, against
 * a real gateway under constant load, with what its clients saw. Everything on loopback. Prints a Markdown table, which is the one in docs/failure-modes.md; exit code 1
 * when a mark is missed. See README.md.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { rows as clients } from './chaos/clients.mjs'
import { rows as files } from './chaos/files.mjs'
import { rows as neighbours } from './chaos/neighbours.mjs'
import { rows as processes } from './chaos/processes.mjs'
import { rows as upstreams } from './chaos/upstreams.mjs'

const usage = `Usage: npm run chaos -- [options]

  --only TEXT     rows whose name holds the text
  --write         puts the table, or the rows that were run, into docs/failure-modes.md
  --minutes N     what is not begun by then is left out, and counts as a miss (10)
`

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    write: { type: 'boolean' },
    minutes: { type: 'string' },
    help: { type: 'boolean' },
  },
})
if (values.help) {
  process.stdout.write(usage)
  process.exit(0)
}
const end = performance.now() + Number(values.minutes ?? 10) * 60_000
const all = [...upstreams, ...clients, ...files, ...processes, ...neighbours]
const chosen = all.filter(({ name }) => values.only === undefined || name.includes(values.only))

const counts = (tally = {}) =>
  Object.entries(tally)
    .map(([status, count]) => `${count} × ${status}`)
    .join(', ')
const ms = (n) => (n === undefined ? '' : n < 10 ? n.toFixed(1) : n.toFixed(0))

const table = []
function say(line) {
  table.push(line)
  console.log(line)
}

say('| fault | mark | | clients saw, while it lasted | p50, p99 ms | back after ms | failed, of all | |')
say('| --- | --- | --- | --- | ---: | ---: | ---: | --- |')
let missed = 0
for (const { name, mark, run, holds } of chosen) {
  let line
  try {
    if (performance.now() > end) throw new Error('no time was left')
    const result = await run()
    const held = holds(result) && result.alive !== false
    if (!held) missed++
    line = [
      name,
      mark,
      held ? 'HOLD' : 'MISS',
      counts(result.during),
      result.p99 === undefined ? '' : `${ms(result.p50)}, ${ms(result.p99)}`,
      ms(result.recovered),
      result.requests === undefined ? '' : `${result.failed} of ${result.requests}`,
      result.note ?? '',
    ]
  } catch (error) {
    missed++
    line = [name, mark, 'MISS', '', '', '', '', String(error.message).slice(0, 300).replaceAll('\n', ' ')]
  }
  say(`| ${line.join(' | ')} |`)
}
if (values.write) {
  const page = new URL('../docs/failure-modes.md', import.meta.url)
  const [before, rest] = readFileSync(page, 'utf8').split('<!-- chaos -->')
  const [known, after] = rest.split('<!-- /chaos -->')
  const lines = [...table, ...known.trim().split('\n')]
  const rows = all.flatMap(({ name }) => lines.find((line) => line.startsWith(`| ${name} | `)) ?? [])
  const whole = [...table.slice(0, 2), ...rows].join('\n')
  writeFileSync(page, `${before}<!-- chaos -->\n${whole}\n<!-- /chaos -->${after}`)
}
console.log()
console.log(missed === 0 ? `all ${chosen.length} hold` : `${missed} of ${chosen.length} missed`)
process.exit(missed === 0 ? 0 : 1)
