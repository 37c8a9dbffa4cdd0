import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { startGateway } from '../../../src/main.js'
import { createLog } from '../../../src/telemetry/logs/log.js'
import { withPaths } from './paths.js'

export interface WholeGateway {
  readonly address: string
  readonly admin: string
  readonly configFile: string
  /** Returns the lines logged so far, which a process writes to stderr. */
  stderr(): string
}

/**
 * Starts in this process what `tidegate start` runs, with its configuration file, admin server and store: a process costs 0.7 s of CPU to
 * start. `startProcess` is for signals, exit, memory and stdout. Several gateways share an event loop with the test: set
 * `server.shed.event_loop_delay: 0`, and `log.access` to a file or off.
 */
export async function startWhole(t: Test, yaml: string): Promise<WholeGateway> {
  const folder = await mkdtemp(join(tmpdir(), 'tidegate-whole-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const configFile = join(folder, 'tidegate.yaml')
  writeFileSync(configFile, withPaths(yaml))
  const log = join(folder, 'events.log')
  const gateway = await startGateway({ configFile, events: createLog({ level: 'info', destination: log }) })
  t.teardown(() => gateway.close(0))
  return {
    address: gateway.address,
    admin: gateway.adminAddress,
    configFile,
    stderr: () => readFileSync(log, 'utf8'),
  }
}
