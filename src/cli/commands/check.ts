import { type ConfigError, formatError } from '../../config/load/load.js'
import { compileSnapshot } from '../../config/snapshot/snapshot.js'
import { defineCommand } from '../command.js'
import { CONFIG_HELP, CONFIG_OPTION, configFile, readConfig } from '../config-file.js'
import { describeConfig, summarizeConfig } from '../print/describe-config.js'
import { columnsOf, complain, print, printJson } from '../print/terminal.js'
import { checkCertificates } from './check-certificates.js'

export const command = defineCommand({
  name: 'check',
  help: `Usage: tidegate check [--config FILE] [--json]

Reads a configuration as the gateway would, without starting anything, and says
what is wrong with it, as file:line:column, or what it holds. The certificates
that it names are looked at, too.

Options:
${CONFIG_HELP}
  --json              print JSON

Exits with 0 when the configuration is good, with 1 when it is not.`,
  options: { config: CONFIG_OPTION, json: { type: 'boolean' } },
  async run({ config, json }, io) {
    const file = configFile(io, 'check', config)
    const loaded = readConfig(io, 'check', file)
    const { warnings, errors } = loaded.ok ? await checkCertificates(loaded, Date.now()) : loaded
    if (!loaded.ok || errors.length > 0) {
      if (json) printJson(io, { ok: false, file, errors, warnings })
      // Without the warnings: in an invalid file, something may only seem to be missing.
      else complain(io, errors.map(formatError).join('\n'))
      return 1
    }
    const snapshot = compileSnapshot(loaded.config, Date.now())
    if (json) printJson(io, { ok: true, file, ...summarizeConfig(snapshot), warnings })
    else {
      print(io, describeConfig(file, snapshot, columnsOf(io.stdout)))
      for (const warning of warnings) complain(io, formatWarning(warning))
    }
    return 0
  },
})

function formatWarning(warning: ConfigError): string {
  return formatError({ ...warning, message: `warning: ${warning.message}` })
}
