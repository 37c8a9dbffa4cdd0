import { defineCommand, Refused } from './command.js'
import { CONFIG_HELP, CONFIG_OPTION, configFile } from './config-file.js'
import { surviveFaults } from './faults.js'
import { nodeWarning } from './node-version.js'
import { stopSignal } from './stop-signal.js'
import { complain } from './terminal.js'

export const command = defineCommand({
  name: 'start',
  help: `Usage: tidegate start [--config FILE]

Runs the gateway until SIGTERM or SIGINT (Ctrl-C), then finishes the requests in flight and exits with 0; a second
signal exits at once. SIGHUP reads the configuration again, as does a change of the file, and opens the access log anew.

Options:
${CONFIG_HELP}

Access lines go where log.access says (by default stdout), everything else to stderr. A start that fails, because of
a bad configuration or a taken port, says why and exits with 1.`,
  options: { config: CONFIG_OPTION },
  async run(options) {
    const stopped = stopSignal()
    surviveFaults()
    const file = configFile('start', options.config)
    // Here, and not on top: wrong use and --help have no need of a server.
    const { startGateway } = await import('../main.js')
    const gateway = await startGateway({ configFile: file }).catch((error: Error) => {
      throw new Refused(error.message)
    })
    process.on('SIGHUP', () => void gateway.config.reload('signal'))
    complain(
      `tidegate listens on ${gateway.address}, admin on ${gateway.adminAddress}, configuration ${file}`,
    )
    const warning = nodeWarning(process.versions.node)
    if (warning !== undefined) complain(`tidegate: ${warning}`)
    const signal = await stopped
    await gateway.close(signal === 'SIGINT' ? 0 : undefined)
    // Whatever may still hold the event loop after a drain must not hold the exit.
    process.exit(0)
  },
})
