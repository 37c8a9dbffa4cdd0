import cluster from 'node:cluster'
import { availableParallelism } from 'node:os'
import type { Snapshot } from '../../config/snapshot/snapshot.js'
import { type CommandIo, RefusedAsIs, WrongUse } from '../command.js'
import { CONFIG_OPTION, configFile } from '../config-file.js'
import { defineCommand } from '../define-command.js'
import { laxParser, nodeWarning } from '../node-version.js'
import { complain } from '../print/terminal.js'
import { surviveFaults } from '../report-errors.js'
import { stopSignal } from '../stop-signal.js'
import { openServiceManager } from './service-manager.js'

export const command = defineCommand({
  name: 'start',
  usage: ['[--config FILE] [--workers N]'],
  about: `Runs the gateway until SIGTERM or SIGINT (Ctrl-C), then finishes the requests in flight and exits with 0; a second signal
exits at once. SIGHUP reads the configuration again, as does a change of the file, and reopens the access log. With --workers,
SIGUSR2 replaces all workers by new ones of the version that is installed by then, without refusing a request. If the heap stays
full (server.shed.exit_heap), the gateway drains by itself and exits with 1. If systemd asks for it (NOTIFY_SOCKET,
WATCHDOG_USEC), the gateway notifies systemd when it serves, reloads and drains, and keeps its watchdog alive.`,
  notes: `Access lines go where log.access says (by default stdout), everything else to stderr. A start that fails, because of
a bad configuration or a taken port, prints the reason and exits with 1.`,
  options: {
    config: CONFIG_OPTION,
    workers: {
      value: 'N',
      short: 'w',
      help: 'serve from N processes, which one more looks after; auto: one for each core',
    },
  },
  async run(options, _, io) {
    // For other commands, a reader that goes away ends the process (`tidegate.ts`). A reader of the access log must
    // not.
    io.stdout.removeAllListeners('error').on('error', () => {})
    const lax = laxParser(process.execArgv, io.env.NODE_OPTIONS)
    if (lax !== undefined) throw new RefusedAsIs(lax)
    // Runs in the workers, which the primary started from the same command line.
    if (cluster.isWorker) {
      surviveFaults()
      const { runWorker } = await import('../../workers/worker.js')
      return runWorker()
    }
    const count = options.workers === undefined ? undefined : countOf(options.workers)
    const stopped = stopSignal()
    surviveFaults()
    const file = configFile(io, options.config)
    // Registered early: a signal that comes too soon must not end the process.
    let restart: () => Promise<unknown> = () => Promise.resolve()
    process.on('SIGUSR2', () => void restart())
    const gateway = await start(io, file, count).catch((error: Error) => {
      throw new RefusedAsIs(error.message)
    })
    const manager = openServiceManager(io)
    process.on('SIGHUP', () => void manager.reloading(gateway.config.reload('signal')))
    restart = gateway.restart
    const addresses = gateway.addresses.join(', ')
    complain(
      io,
      `tidegate listens on ${addresses}, admin on ${gateway.adminAddress}, configuration ${file}${count === undefined ? '' : `, ${count} ${count === 1 ? 'worker' : 'workers'}`}`,
    )
    const warning = nodeWarning(process.versions.node)
    if (warning !== undefined) complain(io, `tidegate: ${warning}`)
    manager.ready(`serving on ${addresses}, admin on ${gateway.adminAddress}`)
    const signal = await Promise.race([stopped, gateway.exhausted])
    manager.stopping(drainMs(gateway.config.current()))
    await gateway.close(signal === 'SIGINT' ? 0 : undefined)
    // Exits even if something still holds the event loop after a drain. Without a signal, memory has run out.
    process.exit(signal === undefined ? 1 : 0)
  },
})

const MOST_WORKERS = 256

function countOf(text: string): number {
  if (text === 'auto') return availableParallelism()
  const count = Number(text)
  if (/^\d+$/.test(text) && count >= 1 && count <= MOST_WORKERS) return count
  throw new WrongUse(`--workers needs a number from 1 to ${MOST_WORKERS}, or auto, not ${text}`)
}

async function start(io: CommandIo, configFile: string, count: number | undefined) {
  // Imported here and not at the top: wrong use and --help do not need a server.
  if (count === undefined) {
    const { startGateway } = await import('../../main.js')
    const restart = async () =>
      complain(io, 'tidegate: SIGUSR2 replaces workers, but there are none; start with --workers')
    return { ...(await startGateway({ configFile })), restart }
  }
  const { startPrimary } = await import('../../workers/primary.js')
  const primary = await startPrimary({ configFile, workers: count })
  // The operator's second signal is for all processes. After a crash the workers drain by themselves.
  process.on('exit', (code) => {
    if (code > 128) primary.kill()
  })
  // Each worker handles a full heap itself.
  return { ...primary, exhausted: new Promise<void>(() => {}) }
}

/** Returns how long the drain may take, in ms. */
function drainMs({ config: { server } }: Snapshot): number {
  return server.shutdown_delay + server.shutdown_grace
}
