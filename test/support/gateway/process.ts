import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createServer, type IncomingMessage, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { eventually } from '../eventually.js'
import { killAtExit } from '../kill-at-exit.js'
import { withPaths } from './paths.js'

export const CLI = fileURLToPath(new URL('../../../dist/cli/tidegate.js', import.meta.url))

export interface GatewayProcess {
  readonly address: string
  readonly admin: string
  readonly child: ChildProcess
  readonly configFile: string
  stderr(): string
  /** Sends the signal and resolves with the exit code, or with the name of the signal that ended it. */
  stop(signal?: NodeJS.Signals): Promise<number | string>
}

/** Runs the built `tidegate start` with a configuration in a folder of its own; kills it when the test ends. */
export async function startProcess(
  t: Test,
  yaml: string,
  env: NodeJS.ProcessEnv = {},
  args: readonly string[] = [],
  nodeFlags: readonly string[] = [],
): Promise<GatewayProcess> {
  if (!existsSync(CLI)) throw new Error('dist/ is missing: run `npm run build` first (npm test does)')
  const configFile = `${t.testdir({ 'tidegate.yaml': withPaths(yaml) })}/tidegate.yaml`
  return startProcessOn(t, configFile, env, args, nodeFlags)
}

/** Runs it on a file that is there already. */
export async function startProcessOn(
  t: Test,
  configFile: string,
  env: NodeJS.ProcessEnv = {},
  args: readonly string[] = [],
  nodeFlags: readonly string[] = [],
  node: readonly [command: string, ...args: string[]] = [process.execPath],
): Promise<GatewayProcess> {
  const [command, ...flags] = node
  const child = spawn(command, [...flags, ...nodeFlags, CLI, 'start', '--config', configFile, ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let stderr = ''
  child.stderr!.setEncoding('utf8')
  const exited = once(child, 'exit').then(([code, signal]) => (code ?? signal) as number | string)
  killAtExit(child)
  t.teardown(() => {
    child.kill('SIGKILL')
    return exited
  })
  const addresses = await new Promise<RegExpExecArray>((resolve, reject) => {
    child.stderr!.on('data', (text: string) => {
      stderr += text
      const found = /listens on ([^\s,]+),(?: [^\s,]+,)* admin on (http:[^\s,]+)/.exec(stderr)
      if (found !== null) resolve(found)
    })
    exited.then((code) => reject(new Error(`the gateway ended with ${code}: ${stderr}`)))
  })
  return {
    address: addresses[1]!,
    admin: addresses[2]!,
    child,
    configFile,
    stderr: () => stderr,
    stop(signal = 'SIGTERM') {
      child.kill(signal)
      return exited
    },
  }
}

/**
 * Resolves when the store has answered and all its records are loaded: the start does not wait for it long, and decisions before are not
 * counted in it.
 */
export function storeUp({ admin }: Pick<GatewayProcess, 'admin'>): Promise<void> {
  return eventually('the store is up', async () =>
    /"store":"up","reasons":\[\]/.test(await (await fetch(`${admin}/readyz`)).text()),
  )
}

export interface Backend {
  readonly origin: string
  readonly requests: IncomingMessage[]
}

/** Starts a real upstream on a free port, which answers 200 unless told otherwise and remembers its requests. */
export async function startBackend(t: Test, listener?: RequestListener): Promise<Backend> {
  const requests: IncomingMessage[] = []
  const server = createServer((req, res) => {
    requests.push(req)
    if (listener !== undefined) listener(req, res)
    else {
      req.resume()
      res.end('{"ok":true}')
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests }
}

/** Counts how often each status came back. */
export function tally(statuses: readonly number[]): Record<number, number> {
  const counts: Record<number, number> = {}
  for (const status of statuses) counts[status] = (counts[status] ?? 0) + 1
  return counts
}
