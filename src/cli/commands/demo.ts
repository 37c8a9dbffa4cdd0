import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { compileSnapshot, type Snapshot } from '../../config/snapshot/snapshot.js'
import type { RunningGateway } from '../../main.js'
import { Refused, RefusedAsIs } from '../command.js'
import { CONFIG_OPTION, readGoodConfig } from '../config-file.js'
import { defineCommand } from '../define-command.js'
import { nodeWarning } from '../node-version.js'
import { examplesFor } from '../print/demo-examples.js'
import { createDemoLog } from '../print/demo-log.js'
import { tierTable } from '../print/describe-config.js'
import { complain, type Paint, painter, print, table } from '../print/terminal.js'
import { surviveFaults } from '../report-errors.js'
import { stopSignal } from '../stop-signal.js'
import { type DemoBackend, startDemoBackend } from './demo-backend.js'

export const command = defineCommand({
  name: 'demo',
  usage: ['[--config FILE]'],
  about: `Starts a demo backend for every upstream of the configuration, and the gateway in front of them, and shows what to try.
Ctrl-C stops all of it.`,
  options: {
    config: { ...CONFIG_OPTION, help: 'the configuration; by default the example that comes with Tidegate' },
  },
  async run({ config }, _, io) {
    const stopped = stopSignal()
    surviveFaults()
    const paint = painter(io.stdout, io.env)
    const file = config ?? packagedConfig(io.cwd)
    const snapshot = compileSnapshot(readGoodConfig(io, file), Date.now())
    const backends: DemoBackend[] = []
    let gateway: RunningGateway
    try {
      for (const { service, origin } of upstreamsOf(snapshot)) {
        backends.push(await startDemoBackend(service, origin))
      }
      const { startGateway } = await import('../../main.js')
      gateway = await startGateway({ configFile: file, ...createDemoLog((line) => print(io, line), paint) })
    } catch (error) {
      await Promise.all(backends.map((backend) => backend.close()))
      throw error instanceof Refused ? error : new RefusedAsIs((error as Error).message)
    }
    print(io, welcome(file, snapshot, gateway, backends, paint))
    const warning = nodeWarning(process.versions.node)
    if (warning !== undefined) complain(io, `${warning}\n`)
    await stopped
    await gateway.close(0)
    await Promise.all(backends.map((backend) => backend.close()))
    print(io, '\nstopped')
    // An open connection must not delay the prompt.
    process.exit(0)
  },
})

/** Returns the path of the packaged configuration, as short as possible from this folder. */
function packagedConfig(cwd: string): string {
  const path = fileURLToPath(new URL('../../../config/tidegate.yaml', import.meta.url))
  const near = relative(cwd, path)
  return near.startsWith('..') ? path : near
}

/** Returns each address once. A backend that two services share is named after the first. */
function upstreamsOf({ services }: Snapshot): { service: string; origin: string }[] {
  const byOrigin = new Map<string, string>()
  for (const { name, upstreams } of services) {
    for (const { origin } of upstreams) if (!byOrigin.has(origin)) byOrigin.set(origin, name)
  }
  return [...byOrigin].map(([origin, service]) => ({ service, origin }))
}

function welcome(
  file: string,
  snapshot: Snapshot,
  gateway: RunningGateway,
  backends: readonly DemoBackend[],
  paint: Paint,
): string {
  const address = reachable(gateway.address)
  const admin = reachable(gateway.adminAddress)
  const rows = [
    ['page', admin, 'open it in a browser: live traffic, who is limited, and why'],
    ['gateway', address],
    ...backends.map((backend) => [backend.service, backend.address, 'demo backend']),
  ]
  const examples = examplesFor(snapshot, address).map(
    ({ what, line }) => `  ${paint('dim', `# ${what}`)}\n  ${paint('bold', line)}`,
  )
  return `
${paint('bold', 'Tidegate demo')}

${table(rows, 2)}

  Configuration: ${file}

${paint('bold', 'What each tier may do')}

${tierTable(snapshot)}

${paint('bold', 'Try, in another terminal')}

${examples.join('\n\n')}

Each request appears here, and so does each change of the configuration file. Ctrl-C stops all of it.
`
}

/** Returns an address to connect to for a listen address. */
function reachable(address: string): string {
  return address.replace('//0.0.0.0:', '//127.0.0.1:').replace('//[::]:', '//[::1]:')
}
