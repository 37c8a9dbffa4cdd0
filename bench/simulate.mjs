/**
 * `npm run simulate`: a day of a hundred million users in minutes, through the real limiter on a virtual clock. See README.md. Start
 * reading at simulate/assumptions.mjs; simulate/user.mjs is what happens to one user.
 */
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { scenarioOf } from './simulate/assumptions.mjs'
import { loadsOf, needsOf } from './simulate/load.mjs'
import { plotLoads } from './simulate/plot.mjs'
import * as report from './simulate/report.mjs'
import { simulate } from './simulate/run.mjs'

const usage = `Usage: npm run simulate -- [options]

  --set NAME=VALUE    replaces an assumption, by JSON; again for another one
                      (--set users=1000000 --set gateways=8 --set failures=[])
  --sample N          about how many decisions the sampled users make (10000000); more: less error
  --seed N            of the sample (1)
  --svg FILE          where the plot goes (docs/simulation.svg, if nothing was set); none: no plot
  --json FILE         the figures once more, for a program
  --assumptions       prints the assumptions only
  --errors            several sample sizes and seeds: is the error what it is said to be?
  --check             small cases, simulated and on a real Redis with real limiters: three minutes
`

function readOptions() {
  const { values } = parseArgs({
    options: {
      set: { type: 'string', multiple: true, default: [] },
      sample: { type: 'string', default: '10000000' },
      seed: { type: 'string', default: '1' },
      svg: { type: 'string' },
      json: { type: 'string' },
      assumptions: { type: 'boolean', default: false },
      errors: { type: 'boolean', default: false },
      check: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  const [takes, seed] = ['sample', 'seed'].map((name) => {
    const n = Number(values[name])
    if (!Number.isInteger(n) || n < 1) throw new Error(`--${name} takes a whole number above 0`)
    return n
  })
  const changes = Object.fromEntries(values.set.map(readChange))
  const page = fileURLToPath(new URL('../docs/simulation.svg', import.meta.url))
  const svg = values.svg ?? (values.set.length === 0 ? page : 'none')
  return { ...values, takes, seed, svg, scenario: scenarioOf(changes) }
}

function readChange(text) {
  const equals = text.indexOf('=')
  const [name, value] = [text.slice(0, equals), text.slice(equals + 1)]
  if (equals < 1) throw new Error(`--set takes NAME=VALUE, not ${text}`)
  try {
    return [name, JSON.parse(value)]
  } catch {
    return [name, value]
  }
}

async function main({ scenario, takes, seed, svg, json }) {
  report.printAssumptions(scenario)
  const from = performance.now()
  const result = await simulate(scenario, { takes, seed })
  const seconds = (performance.now() - from) / 1000
  const loads = loadsOf(scenario, result)
  const needs = needsOf(scenario, loads)
  report.printTotals(scenario, result)
  report.printTimes(loads)
  report.printPrimaries(loads)
  report.printHot(scenario, result)
  report.printFailures(scenario, result)
  report.printNeeds(scenario, needs, loads)
  console.log(`\nThe simulation took ${seconds.toFixed(0)} s.`)
  const caption = `${scenario.users.toLocaleString('en')} users, ${scenario.gateways} gateways, ${scenario.primaries} primaries`
  if (svg !== 'none') {
    writeFileSync(svg, plotLoads(scenario, loads, caption))
    console.log(`The plot is in ${svg}.`)
  }
  if (json !== undefined) {
    const { totals, head, simulated } = result
    writeFileSync(json, JSON.stringify({ scenario, totals, head, simulated, loads, needs }, null, 1))
  }
  return true
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
if (options.assumptions) {
  report.printAssumptions(options.scenario)
  process.exit(0)
}
try {
  const { check, errors } = options
  const part = check ? 'check' : errors ? 'errors' : undefined
  const run = part === undefined ? main : (await import(`./simulate/${part}.mjs`)).main
  process.exit((await run(options)) ? 0 : 1)
} catch (error) {
  console.error(`simulate: ${error.stack}`)
  process.exit(1)
}
