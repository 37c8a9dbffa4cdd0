/**
 * Measures how many requests are lost when an operator stops, restarts or replaces gateways under full load: `node
 * bench/restart.mjs`. A closed loop of clients uses node:http, which never retries; half of them keep their connection, half open
 * one for each request. Exit code 1 if a request failed. The functions are for `npm run chaos`, too.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const CLI = fileURLToPath(new URL('../dist/cli/tidegate.js', import.meta.url))
const CLIENTS = 32

async function startBackend() {
  const server = http.createServer({ keepAliveTimeout: 60_000 }, (req, res) => {
    req.resume()
    res.end('ok')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { origin: `http://127.0.0.1:${server.address().port}`, server }
}

async function startGateway(origin, args) {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'tidegate-restart-'))
  const file = path.join(folder, 'tidegate.yaml')
  const config = {
    listen: '127.0.0.1:0',
    admin: { listen: '127.0.0.1:0' },
    tiers: ['free'],
    services: { api: { upstreams: [origin] } },
    routes: [{ path: '/*', service: 'api' }],
    server: { shutdown_delay: '5s' },
    log: { access: path.join(folder, 'access.log') },
  }
  writeFileSync(file, JSON.stringify(config))
  const child = spawn(process.execPath, [CLI, 'start', '--config', file, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const exited = once(child, 'exit').then(([code, signal]) => code ?? signal)
  let stderr = ''
  const [, address, admin] = await new Promise((resolve, reject) => {
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text
      const found = /listens on (http:\S+), admin on (http:[^\s,]+)/.exec(stderr)
      if (found !== null) resolve(found)
    })
    exited.then(() => reject(new Error(stderr)))
  })
  const remove = () => rmSync(folder, { recursive: true, force: true })
  return { address, admin, child, exited, remove }
}

function startLoad(gateways) {
  const result = { requests: 0, failed: 0, failures: {} }
  let stopping = false
  /** Gateways that the balancer uses: their last /readyz was 200. */
  let ready = gateways

  function ask(gateway, agent) {
    return new Promise((resolve, reject) => {
      const call = http.get(`${gateway.address}/x`, { agent, timeout: 20_000 }, (response) => {
        response.resume()
        response.on('error', reject)
        response.on('end', () => resolve(response.statusCode))
      })
      call.on('timeout', () => call.destroy(new Error('silent for 20 s')))
      call.on('error', reject)
    })
  }

  async function client(index) {
    const agents = new Map(
      gateways.map((gateway) => [
        gateway,
        index % 2 === 0 ? new http.Agent({ keepAlive: true, maxSockets: 1 }) : false,
      ]),
    )
    while (!stopping) {
      const gateway = ready[result.requests % ready.length]
      const outcome = await ask(gateway, agents.get(gateway)).catch((error) => error.code ?? error.message)
      result.requests++
      if (outcome === 200) continue
      result.failed++
      result.failures[outcome] = (result.failures[outcome] ?? 0) + 1
    }
    for (const agent of agents.values()) if (agent) agent.destroy()
  }

  const clients = Promise.all(Array.from({ length: CLIENTS }, (_, index) => client(index)))
  return {
    result,
    async look() {
      const looked = await Promise.all(
        gateways.map((gateway) =>
          fetch(`${gateway.admin}/readyz`)
            .then((answer) => answer.ok)
            .catch(() => false),
        ),
      )
      ready = gateways.filter((_, i) => looked[i])
    },
    async stop() {
      stopping = true
      await clients
      return result
    },
  }
}

/**
 * Sends SIGTERM to one of two gateways behind a balancer that asks /readyz every second, as balancers do, and goes on sending
 * until it learns of it.
 */
export async function terminateUnderLoad({ workers = 0, atLeast = 10_000 } = {}) {
  const backend = await startBackend()
  const args = workers === 0 ? [] : ['--workers', String(workers)]
  const gateways = [await startGateway(backend.origin, args), await startGateway(backend.origin, args)]
  const load = startLoad(gateways)
  const looking = setInterval(() => void load.look(), 1000)
  await sleep(2000)
  const before = load.result.requests
  gateways[0].child.kill('SIGTERM')
  const code = await gateways[0].exited
  const during = load.result.requests - before
  while (load.result.requests < atLeast) await sleep(100)
  clearInterval(looking)
  const result = await load.stop()
  gateways[1].child.kill('SIGINT')
  await gateways[1].exited
  for (const { remove } of gateways) remove()
  backend.server.close()
  return { ...result, during, code }
}

/** Sends SIGUSR2, which replaces all workers, `times` times while clients send requests. */
export async function restartUnderLoad({ workers = 2, times = 3, atLeast = 5_000 } = {}) {
  const backend = await startBackend()
  const gateway = await startGateway(backend.origin, ['--workers', String(workers)])
  const load = startLoad([gateway])
  const status = async () => (await (await fetch(`${gateway.admin}/config`)).json()).workers
  const began = load.result.requests
  for (let generation = 2; generation < 2 + times; generation++) {
    gateway.child.kill('SIGUSR2')
    const renewed = (all) => all.length === workers && all.every((one) => one.generation === generation)
    while (!renewed(await status())) await sleep(200)
    await sleep(200)
  }
  const during = load.result.requests - began
  while (load.result.requests < atLeast) await sleep(100)
  const result = await load.stop()
  gateway.child.kill('SIGINT')
  const code = await gateway.exited
  gateway.remove()
  backend.server.close()
  return { ...result, during, code }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const checks = [
    ['SIGTERM, one process', () => terminateUnderLoad()],
    ['SIGTERM, two workers', () => terminateUnderLoad({ workers: 2 })],
    ['SIGUSR2, two workers, three times', () => restartUnderLoad()],
  ]
  let failed = 0
  for (const [name, run] of checks) {
    const { requests, during, failed: lost, failures, code } = await run()
    failed += lost
    console.log(`${name}: ${lost} of ${requests} failed (${during} while it went on), exit ${code}`, failures)
  }
  process.exit(failed === 0 ? 0 : 1)
}
