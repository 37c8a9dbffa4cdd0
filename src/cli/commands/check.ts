import { type ConfigError, formatError } from '../../config/load/load.js'
import { compileSnapshot } from '../../config/snapshot/snapshot.js'
import { JSON_OPTION, WrongUse } from '../command.js'
import { CONFIG_OPTION, configFile, readWithExtensions } from '../config-file.js'
import { defineCommand } from '../define-command.js'
import { describeConfig, summarizeConfig } from '../print/describe-config.js'
import { complain, printJson } from '../print/terminal.js'
import { checkCertificates } from './check-certificates.js'

export const command = defineCommand({
  name: 'check',
  usage: ['[--config FILE] [--hash | --json]'],
  about: `Reads a configuration as the gateway does, without starting anything. The command prints each error as
file:line:column, or a summary of a good configuration. It also checks the certificates
that the configuration names, and creates its extensions.`,
  notes: 'Exit code 0: the configuration is good. 1: it is not.',
  options: {
    config: CONFIG_OPTION,
    hash: { help: 'print only the hash of a good configuration, for tidegate fleet --wait' },
    json: JSON_OPTION,
  },
  async run({ config, hash, json }, _, io) {
    if (hash && json) throw new WrongUse('--hash and --json exclude each other')
    const file = configFile(io, config)
    const loaded = await readWithExtensions(io, file)
    const { warnings, errors } = loaded.ok ? await checkCertificates(loaded, Date.now()) : loaded
    if (!loaded.ok || errors.length > 0) {
      if (json) printJson(io, { ok: false, file, errors, warnings })
      // Without the warnings: in an invalid file, something may only seem to be missing.
      else complain(io, errors.map(formatError).join('\n'))
      return 1
    }
    const snapshot = compileSnapshot(loaded.config, Date.now(), undefined, loaded.prepared.hooks)
    return {
      data: { ok: true, file, ...summarizeConfig(snapshot), warnings },
      text: hash ? snapshot.hash : (columns) => describeConfig(file, snapshot, columns),
      aside: warnings.map(formatWarning).join('\n'),
    }
  },
})

function formatWarning(warning: ConfigError): string {
  return formatError({ ...warning, message: `warning: ${warning.message}` })
}
