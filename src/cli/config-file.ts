import { existsSync } from 'node:fs'
import { Refused } from './command.js'

/** Where a configuration is looked for when `--config` is not given, in this order. */
const USUAL_PLACES = ['tidegate.yaml', 'config/tidegate.yaml']

/** The option that every command which reads a configuration has. */
export const CONFIG_OPTION = { type: 'string', short: 'c' } as const

export const CONFIG_HELP = `  -c, --config FILE   the configuration; by default ${USUAL_PLACES.join(' or ')} in this folder`

/** The file that a command is to read. Rejects with Refused when none is named and none is in its usual place. */
export function configFile(name: string, option: string | undefined): string {
  if (option !== undefined) return option
  const found = USUAL_PLACES.find((place) => existsSync(place))
  if (found === undefined) {
    throw new Refused(
      `tidegate ${name}: no ${USUAL_PLACES.join(' and no ')} in this folder; name one with --config FILE`,
    )
  }
  return found
}
