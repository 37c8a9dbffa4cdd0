import { NEWER } from '../../config/load/extension-instances.js'
import { type ConfigError, formatError } from '../../config/load/load.js'
import type { Config } from '../../config/schema/schema.js'
import { compileSnapshot } from '../../config/snapshot/snapshot.js'
import { withControl } from '../client/with-control.js'
import { type CommandIo, JSON_OPTION, Refused, WrongUse } from '../command.js'
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
      aside: [...warnings.map(formatWarning), ...(await outdated(io, file, loaded.config))].join('\n'),
    }
  },
})

/**
 * Returns the running gateway's warnings about modules of extensions that are newer on disk: only the gateway knows what it
 * has loaded. None if no gateway answers.
 */
async function outdated(io: CommandIo, file: string, { extensions }: Config): Promise<string[]> {
  if (extensions === undefined) return []
  try {
    return await withControl(io, { config: file, admin: undefined, whose: 'gateway' }, async (control) => {
      const running = await control.call<{ warnings: readonly string[] }>('GET', '/config', undefined, 500)
      return running.warnings.filter((one) => one.includes(NEWER)).map((one) => `the running gateway: ${one}`)
    })
  } catch (error) {
    if (error instanceof Refused) return []
    throw error
  }
}

function formatWarning(warning: ConfigError): string {
  return formatError({ ...warning, message: `warning: ${warning.message}` })
}
