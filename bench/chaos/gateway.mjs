/** Starts gateways as operators do, each in a process and a folder of its own. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { request } from 'undici'

export const CLI = fileURLToPath(new URL('../../dist/cli/tidegate.js', import.meta.url))

const running = new Set()
const folders = []
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
  for (const made of folders) rmSync(made, { recursive: true, force: true })
})
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1))

export function folder() {
  const made = mkdtempSync(path.join(os.tmpdir(), 'tidegate-chaos-'))
  folders.push(made)
  return made
}

/**
 * @param services their settings by name, as objects; routes go by the name: `/api/…` to `api`
 * @param more further top-level keys
 */
export function config(services, more = {}, route = {}) {
  return JSON.stringify({
    listen: '127.0.0.1:0',
    admin: { listen: '127.0.0.1:0' },
    tiers: ['free'],
    services,
    routes: Object.keys(services).map((service) => ({ path: `/${service}/*`, service, ...route })),
    log: { access: 'off' },
    ...more,
  })
}

/** Starts a process that is expected to fail. */
export function run(args, { nodeArgs = [], shell, stdio = ['ignore', 'ignore', 'pipe'], env = {} } = {}) {
  const command = [process.execPath, ...nodeArgs, CLI, ...args]
  const [file, ...rest] =
    shell === undefined ? command : ['sh', '-c', `${shell}; exec "$@"`, 'sh', ...command]
  const child = spawn(file, rest, { stdio, env: { ...process.env, ...env } })
  running.add(child)
  let stderr = ''
  child.stderr.setEncoding('utf8')
  child.stderr.on('data', (text) => {
    stderr = (stderr + text).slice(-100_000)
  })
  const exited = once(child, 'exit').then(([code, signal]) => {
    running.delete(child)
    return code ?? signal
  })
  return { child, exited, stderr: () => stderr }
}

export async function startGateway(text, { args = [], file, ...options } = {}) {
  const configFile = file ?? path.join(folder(), 'tidegate.yaml')
  if (file === undefined) writeFileSync(configFile, text)
  const gateway = run(['start', '--config', configFile, ...args], options)
  const { child, exited, stderr } = gateway
  const found = await new Promise((resolve, reject) => {
    const look = () => {
      const match = /listens on (http:\S+), admin on (http:[^\s,]+)/.exec(stderr())
      if (match !== null) resolve(match)
    }
    child.stderr.on('data', look)
    exited.then((code) => reject(new Error(`the gateway ended with ${code}: ${stderr()}`)))
  })
  const admin = found[2]
  const metricText = async () => (await request(`${admin}/metrics`)).body.text()
  return {
    ...gateway,
    address: found[1],
    admin,
    configFile,
    alive: () => child.exitCode === null && child.signalCode === null,
    /** Returns the resident MiB. */
    rss: () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))[1]) / 1024,
    /** Returns the sum of a metric's series whose labels contain the text. */
    async metric(name, label = '') {
      const lines = (await metricText())
        .split('\n')
        .filter((line) => line.startsWith(name) && line.includes(label))
      return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0)
    },
    async ready() {
      try {
        const { statusCode, body } = await request(`${admin}/readyz`)
        await body.dump()
        return statusCode === 200
      } catch {
        return false
      }
    },
    async stop() {
      child.kill('SIGKILL')
      await exited
    },
  }
}
