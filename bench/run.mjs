/**
 * `npm run bench`: Tidegate beside its peers; `npm run bench -- PART`: another part of it. See README.md. Installs the peers and
 * builds the product if they are missing, so only node modules are imported here.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const NAMES = ['tidegate', 'pair', 'proxy', 'bare', 'http-proxy', 'nginx', 'nginx-lua']

const usage = `Usage: npm run bench -- [PART] [options]

  (none)              Tidegate beside its peers, allowed and denied
  conditions          Tidegate beside nginx + Lua: small, denied, TLS, HTTP/2, bodies, open loop, Redis Cluster …
  bodies              10 KB, 100 KB and 1 MB in either direction
  idle                memory of 10,000 idle keep-alive clients
  burst               latency while 1,000 clients connect at once
  routes              CPU and memory by number of routes and of consumers
  steady              memory over 10 minutes of load
  traces              what traces add to a request, recorded or not
  telemetry           what metrics, top and the access log cost a request, on against off
  c                   scenario C: 5,000 parallel clients, Redis CPU and added p99 at 4,000 requests a second

  --rounds N          rounds, each in new processes (7)
  --seconds N         seconds of a round (5)
  --quick             2 rounds of 2 s: does it run, not how fast is it
  --only A,B          of ${NAMES.join(', ')}
  --row A,B           of conditions: only these rows
  --node PATH         of conditions and burst: the Node for Tidegate and the pair
  --node-args A,B     arguments of node for Tidegate, without their dashes
  --scenario NAME     allowed or denied (both)
  --before DIR        one more, called before: another checkout of Tidegate, built
  --json FILE         the figures once more, for a program
  --write             of c and conditions: puts its table into docs/capacity.md, bench/README.md
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
      write: { type: 'boolean', default: false },
      before: { type: 'string' },
      row: { type: 'string' },
      node: { type: 'string' },
      'node-args': { type: 'string' },
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
const PARTS = {
  conditions: async () => (await import('./gateway/conditions.mjs')).conditions,
  burst: async () => (await import('./gateway/burst.mjs')).burstOfConnections,
  c: async () => (await import('./gateway/scenario-c.mjs')).scenarioC,
  bodies: async () => (await import('./gateway/bodies.mjs')).bodies,
  idle: async () => (await import('./gateway/idle.mjs')).idle,
  routes: async () => (await import('./gateway/scale.mjs')).scale,
  traces: async () => (await import('./gateway/traces.mjs')).traces,
  steady: async () => (await import('./gateway/steady.mjs')).steady,
  telemetry: async () => (await import('./micro/telemetry.mjs')).telemetry,
}
if (positionals.length > 1 || (positionals.length === 1 && !Object.hasOwn(PARTS, positionals[0]))) {
  fail(`unknown argument ${positionals.join(' ')}\n\n${usage}`, 2)
}
const number = (name, fallback) => {
  const n = Number(values[name] ?? fallback)
  if (!Number.isInteger(n) || n < 1) fail(`--${name} takes a whole number above 0, not ${values[name]}`, 2)
  return n
}
const only = values.only?.split(',')
for (const name of only ?? []) {
  if (!NAMES.includes(name)) fail(`--only: there is no contender ${name}`, 2)
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
  write: values.write,
  before: values.before,
  rows: values.row?.split(','),
  node: values.node,
  nodeArgs: values['node-args']?.split(',').map((arg) => `--${arg}`),
  profile: values.profile,
  autoPipelining: values['auto-pipelining'],
}
try {
  const load = PARTS[positionals[0]] ?? (async () => (await import('./gateway/side-by-side.mjs')).sideBySide)
  const part = await load()
  const ok = await part(options)
  process.exit(ok ? 0 : 1)
} catch (error) {
  fail(`bench: ${error.stack}`)
}
