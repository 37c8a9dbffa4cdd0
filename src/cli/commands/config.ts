import type { Origin } from '../../config/load/load.js'
import { formatError } from '../../config/load/load.js'
import { valuesOf } from '../../config/load/values-in-force.js'
import { configHashes } from '../../config/snapshot/hash.js'
import { ADMIN_OPTION } from '../client/admin-option.js'
import { withControl } from '../client/with-control.js'
import { JSON_OPTION, Refused, RefusedAsIs, Unavailable } from '../command.js'
import { CONFIG_OPTION, configFile, readWithExtensions } from '../config-file.js'
import { defineCommand } from '../define-command.js'
import { rowsOf } from '../print/terminal.js'

export const command = defineCommand({
  name: 'config',
  usage: ['[KEY] [--config FILE] [--admin HOST:PORT] [--json]'],
  about: `Shows every value of the configuration, defaults included, and where each comes from: file and line, a variable of the
environment, or a default. KEY shows a part, such as services.payments. Secrets and values of the environment are not shown.
The command asks the running gateway whether it has this configuration, and warns if it has another one.`,
  options: { config: CONFIG_OPTION, admin: ADMIN_OPTION, json: JSON_OPTION },
  positionals: ['[KEY]'],
  async run({ config, admin }, [part], io) {
    const file = configFile(io, config)
    const loaded = await readWithExtensions(io, file)
    if (!loaded.ok) throw new RefusedAsIs(loaded.errors.map(formatError).join('\n'))
    const values = valuesOf(loaded.config)
      .filter(({ key }) => part === undefined || isWithin(key, part))
      .map(({ key, value, paths }) => {
        const from = paths.map(loaded.originOf).find((one) => one !== undefined) ?? null
        const names = from?.env.map((name) => `\${${name}}`) ?? []
        return {
          key,
          value: names.length > 0 && value !== '***' ? names.join('') : loaded.redacted(value),
          from,
        }
      })
    if (values.length === 0)
      throw new Refused(`the configuration has no key ${part}; see all of them: tidegate config`)
    const hash = configHashes(loaded.config).hash
    return {
      data: { file, hash, values },
      text: (columns) =>
        rowsOf(
          values.map(({ key, value, from }) => [key, value, sourceOf(from)]),
          columns,
        ),
      warning: await differs(hash),
    }

    /** Returns a warning if the gateway has another configuration, or does not say. */
    async function differs(own: string): Promise<string | undefined> {
      try {
        return await withControl(io, { config: file, admin, whose: 'gateway' }, async (control) => {
          const running = await control.call<{ hash: string; loadedAt: string }>('GET', '/config')
          if (running.hash === own) return undefined
          return `the running gateway has another configuration, ${running.hash} since ${running.loadedAt}; this is ${own}`
        })
      } catch (error) {
        if (!(error instanceof Refused)) throw error
        const why = error instanceof Unavailable ? 'no gateway answers' : 'the gateway does not answer'
        return `${why}, so it is not known whether this configuration is in force`
      }
    }
  },
})

/** Returns true for a key, and for the keys below it. */
function isWithin(key: string, part: string): boolean {
  return key === part || key.startsWith(`${part}.`) || key.startsWith(`${part}[`)
}

function sourceOf(from: Origin | null): string {
  return from === null ? 'default' : `${from.file}:${from.line}`
}
