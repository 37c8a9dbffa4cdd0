/**
 * `npm run load`: Redis, two gateways, an upstream and Locust on this machine; see docs/load.md. Locust takes the
 * gateways in turn for A, B and the mix; scenario C has one gateway, with a core of its own.
 */
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, openSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { cpuMs, GATEWAY_CORE, LOAD_CORE, shape } from '../bench/harness/machine.mjs'
import { folder, freePort, start, startScript, stop, until } from '../bench/harness/process.mjs'
import { startStore } from '../bench/harness/store.mjs'

const SCENARIOS = {
  a: { classes: ['FreeBurst'], users: 100, seconds: 60 },
  b: { classes: ['Upgraded'], users: 20, seconds: 60 },
  c: { classes: ['Parallel'], users: 5000, seconds: 60 },
  mix: { classes: ['Free', 'Pro', 'Enterprise'], users: 50, seconds: 20 },
  // Everything runs at once and briefly, and a Redis that waits for a busy machine must not count as away.
  check: {
    classes: ['FreeBurst', 'Upgraded', 'Parallel', 'Free', 'Pro', 'Enterprise'],
    users: 26,
    seconds: 3,
    rate: 200,
    storeTimeout: '2s',
  },
}

const usage = `Usage: npm run load -- [a|b|c|mix|check|page ...] [options]

  a            100 free consumers burst over their limit
  b            20 consumers spend their free quota, are put on enterprise, and go on
  c            5,000 consumers, each with a keep-alive connection, 4,000 requests a second; prints a table
  mix          50 consumers of all tiers
  check        a few of each at once, for three seconds
  (none)       a, b and mix
  page         all of them on Locust's page, until Ctrl-C

  --users N    of each scenario
  --seconds N  of c and mix
  --rate N     requests a second of c
`

const here = path.dirname(fileURLToPath(import.meta.url))
const CLI = path.join(here, '../dist/cli/tidegate.js')
const ANY_CORE = `${GATEWAY_CORE},${LOAD_CORE}`
const RATE = 4000
const PAGE = ['--web-host', '127.0.0.1', '--class-picker']
const TOKEN = 'only-of-this-machine'

function fail(message, code = 1) {
  console.error(message)
  process.exit(code)
}

function options() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        users: { type: 'string' },
        seconds: { type: 'string' },
        rate: { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
    for (const name of positionals) {
      if (name !== 'page' && !Object.hasOwn(SCENARIOS, name)) throw new Error(`there is no scenario ${name}`)
    }
    for (const name of ['users', 'seconds', 'rate']) {
      if (values[name] !== undefined && !/^[1-9]\d*$/.test(values[name]))
        throw new Error(`--${name} takes a whole number above 0, not ${values[name]}`)
    }
    return { ...values, names: positionals.length === 0 ? ['a', 'b', 'mix'] : positionals }
  } catch (error) {
    return fail(`${error.message}\n\n${usage}`, 2)
  }
}

function requireLocust() {
  if (spawnSync('locust', ['--version']).status !== 0)
    fail('locust is missing: install it (Debian: apt-get install python3-locust; else: pip install locust)')
}

async function startGateway(core, dir, store, upstream, storeTimeout = '100ms') {
  const [port, adminPort] = [await freePort(), await freePort()]
  const out = path.join(dir, `gateway-${port}.log`)
  const log = openSync(out, 'a')
  const child = start(core, process.execPath, [CLI, 'start', '--config', path.join(here, 'tidegate.yaml')], {
    stdio: ['ignore', openSync(path.join(dir, `access-${port}.log`), 'a'), log],
    env: {
      ...process.env,
      LISTEN: `127.0.0.1:${port}`,
      ADMIN_LISTEN: `127.0.0.1:${adminPort}`,
      TIDEGATE_ADMIN_TOKEN: TOKEN,
      STORE_TIMEOUT: storeTimeout,
      REDIS_URL: `redis://127.0.0.1:${store.port}`,
      PAYMENTS_URL: `http://127.0.0.1:${upstream.port}`,
      MARKETING_URL: `http://127.0.0.1:${upstream.port}`,
    },
  })
  const admin = `http://127.0.0.1:${adminPort}`
  await until(`Tidegate is ready (its output is in ${out})`, 60_000, () => {
    if (child.exitCode !== null)
      throw new Error(`Tidegate ended with ${child.exitCode}:\n${readFileSync(out, 'utf8')}`)
    // The gateway serves before it is connected to Redis, and does not count there until then.
    return fetch(`${admin}/readyz`).then(
      async (answer) => answer.ok && (await answer.json()).store === 'up',
      () => false,
    )
  })
  return { child, pid: child.pid, url: `http://127.0.0.1:${port}`, admin }
}

/** Resolves with Locust's exit code. Calls `onReady` when all its users have started. */
async function locust(core, gateways, args, { rate = RATE, page = false, onReady }) {
  const child = start(
    core,
    'locust',
    ['-f', path.join(here, 'locustfile.py'), '-s', '10', ...args.map(String)],
    {
      env: {
        ...process.env,
        TIDEGATE_URLS: gateways.map(({ url }) => url).join(','),
        TIDEGATE_ADMIN: gateways.map(({ admin }) => admin).join(','),
        TIDEGATE_ADMIN_TOKEN: TOKEN,
        LOAD_RATE: rate,
      },
      // The comparison is on stdout. Locust's own output, on stderr, is only for its page.
      stdio: ['ignore', 'pipe', page ? 'inherit' : 'ignore'],
    },
  )
  createInterface(child.stdout).on('line', (line) => {
    if (line === 'all users are there') onReady?.()
    else console.log(line)
  })
  const [code] = await once(child, 'close')
  return code ?? 1
}

/** Measures the CPU of Redis and of the gateway, as shares of a core, from the start of all users until just before they stop. */
function watchCpu(processes, seconds) {
  const read = () => Object.values(processes).map(cpuMs)
  const shares = {}
  return {
    shares,
    begin() {
      const from = read()
      const at = performance.now()
      setTimeout(
        () => {
          const ms = performance.now() - at
          const now = read()
          Object.keys(processes).forEach((name, i) => {
            shares[name] = (now[i] - from[i]) / ms
          })
        },
        (seconds - 2) * 1000,
      )
    },
  }
}

async function headless(name, gateways, { store, users, seconds, rate }) {
  const scenario = SCENARIOS[name]
  const count = Number(users ?? scenario.users)
  const length = Number(seconds ?? scenario.seconds)
  const perSecond = Math.min(count, 500)
  console.log(`\n## ${name}: ${count} users, ${scenario.classes.join(', ')}`)
  const args = ['--headless', '-u', count, '-r', perSecond, '-t', `${Math.ceil(count / perSecond) + length}s`]
  if (name !== 'c')
    return locust(ANY_CORE, gateways, [...args, ...scenario.classes], { rate: rate ?? scenario.rate })

  const cpu = watchCpu({ Redis: store.pid, gateway: gateways[0].pid }, length)
  console.log(`\n${rate ?? RATE} requests a second asked for; ${shape(store.version)}`)
  const code = await locust(LOAD_CORE, gateways, [...args, ...scenario.classes], { rate, onReady: cpu.begin })
  for (const [what, share] of Object.entries(cpu.shares))
    console.log(`${what}: ${(share * 100).toFixed(1)} % of a core`)
  return code
}

const chosen = options()
requireLocust()
if (!existsSync(CLI)) fail('dist/ is missing: npm run build')
const dir = folder()
const store = await startStore()
const upstream = await startScript(LOAD_CORE, path.join(here, '../bench/contenders/upstream.mjs'))
let worst = 0
for (const name of chosen.names) {
  const gateways = []
  for (const core of name === 'c' ? [GATEWAY_CORE] : [ANY_CORE, ANY_CORE])
    gateways.push(await startGateway(core, dir, store, upstream, SCENARIOS[name]?.storeTimeout))
  if (name === 'page') console.log('Locust: http://127.0.0.1:8089, until Ctrl-C')
  const code =
    name === 'page'
      ? await locust(ANY_CORE, gateways, PAGE, { rate: chosen.rate, page: true })
      : await headless(name, gateways, { ...chosen, store })
  worst = Math.max(worst, code)
  for (const { child } of gateways) await stop(child, 'SIGINT')
}
await stop(upstream.child, 'SIGKILL')
await store.stop()
process.exit(worst === 0 ? 0 : 1)
