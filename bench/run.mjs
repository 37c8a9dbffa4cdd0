/**
 * `npm run bench`: Tidegate beside its peers. `npm run bench -- c`: scenario C. See README.md.
 * Installs the peers and builds the product when they are not there yet, so nothing but node is imported up here.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const usage = `Usage: npm run bench -- [c] [options]

  c                   scenario C: 5,000 parallel clients, Redis CPU and added p99 at 4,000 requests a second
  --rounds N          rounds, each in new processes (7)
  --seconds N         seconds of a round (5)
  --quick             2 rounds of 2 s: does it run, not how fast is it
  --only A,B          of tidegate, pair, proxy, nginx
  --scenario NAME     allowed or denied (both)
  --before DIR        one more, called before: another checkout of Tidegate, built
  --json FILE         the figures once more, for a program
  --profile DIR       writes a CPU profile of Tidegate there; its figures don't count (or BENCH_CPU_PROF=DIR)
  --auto-pipelining   ioredis' auto-pipelining for the pair
`

function fail(message, code = 1) {
  console.error(message)
  process.exit(code)
}

let args
try {
  args = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: 'string', default: process.env.BENCH_ROUNDS },
      seconds: { type: 'string', default: process.env.BENCH_SECONDS },
      quick: { type: 'boolean', default: false },
      only: { type: 'string' },
      scenario: { type: 'string' },
      json: { type: 'string' },
      before: { type: 'string' },
      profile: { type: 'string', default: process.env.BENCH_CPU_PROF },
      'auto-pipelining': { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
} catch (error) {
  fail(`${error.message}\n\n${usage}`, 2)
}
const { values, positionals } = args
if (values.help) {
  console.log(usage)
  process.exit(0)
}
if (positionals.length > 1 || (positionals.length === 1 && positionals[0] !== 'c')) {
  fail(`unknown argument ${positionals.join(' ')}\n\n${usage}`, 2)
}
const number = (name, fallback) => {
  const n = Number(values[name] ?? fallback)
  if (!Number.isInteger(n) || n < 1) fail(`--${name} takes a whole number above 0, not ${values[name]}`, 2)
  return n
}
const only = values.only?.split(',')
for (const name of only ?? []) {
  if (!['tidegate', 'pair', 'proxy', 'nginx'].includes(name)) fail(`--only: there is no contender ${name}`, 2)
}
if (values.scenario !== undefined && !['allowed', 'denied'].includes(values.scenario)) {
  fail(`--scenario is allowed or denied, not ${values.scenario}`, 2)
}

const here = fileURLToPath(new URL('.', import.meta.url))
const root = fileURLToPath(new URL('..', import.meta.url))
function npm(...command) {
  console.log(`npm ${command.join(' ')}`)
  if (spawnSync('npm', command, { cwd: root, stdio: 'inherit' }).status !== 0)
    fail(`npm ${command.join(' ')} failed`)
}
if (!existsSync(`${here}/node_modules/fastify`)) npm('ci', '--prefix', 'bench', '--no-audit', '--no-fund')
if ((only === undefined || only.includes('tidegate')) && !existsSync(`${root}/dist/cli/tidegate.js`))
  npm('run', 'build')

const options = {
  rounds: number('rounds', values.quick ? 2 : 7),
  seconds: number('seconds', values.quick ? 2 : 5),
  warmup: values.quick ? 2 : 4,
  quick: values.quick,
  only,
  scenarios: values.scenario ? [values.scenario] : ['allowed', 'denied'],
  json: values.json,
  before: values.before,
  profile: values.profile,
  autoPipelining: values['auto-pipelining'],
}
try {
  const ok =
    positionals[0] === 'c'
      ? await (await import('./scenario-c.mjs')).scenarioC(options)
      : await (await import('./side-by-side.mjs')).sideBySide(options)
  process.exit(ok ? 0 : 1)
} catch (error) {
  fail(`bench: ${error.stack}`)
}
