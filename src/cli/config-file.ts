import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { formatError, loadConfig } from '../config/load/load.js'
import { type CommandIo, Refused } from './command.js'

/** Where a configuration is looked for when `--config` is not given, in this order. */
const IN_THIS_FOLDER = ['tidegate.yaml', 'config/tidegate.yaml']
/** Where the systemd unit, the image and the Kubernetes manifests have it. */
const OF_THE_MACHINE = '/etc/tidegate/tidegate.yaml'

/** The option that every command which reads a configuration has. */
export const CONFIG_OPTION = { type: 'string', short: 'c' } as const

export const CONFIG_HELP = `  -c, --config FILE   the configuration; by default ${IN_THIS_FOLDER[0]} or
                      ${IN_THIS_FOLDER[1]} in this folder, or else
                      ${OF_THE_MACHINE}`

/** The file that a command is to read. Throws Refused when none is named and none is in its usual place. */
export function configFile({ cwd }: CommandIo, command: string, option: string | undefined): string {
  if (option !== undefined) return option
  const found = [...IN_THIS_FOLDER, OF_THE_MACHINE].find((place) => existsSync(resolve(cwd, place)))
  if (found === undefined) {
    throw new Refused(
      `tidegate ${command}: no ${IN_THIS_FOLDER.join(' and no ')} in this folder, and no ${OF_THE_MACHINE}; name one with --config FILE`,
    )
  }
  return found
}

/** Reads and checks the file with the gateway's own loader. Throws Refused when it cannot be read. */
export function readConfig({ cwd, env }: CommandIo, command: string, file: string) {
  let text: string
  try {
    text = readFileSync(resolve(cwd, file), 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const why =
      code === 'ENOENT' ? 'there is no such file' : code === 'EISDIR' ? 'it is a folder' : String(code)
    throw new Refused(
      `tidegate ${command}: cannot read ${file}: ${why}; name the configuration with --config FILE`,
    )
  }
  return loadConfig(text, { file, env })
}

/**
 * For commands that need a good configuration. Throws Refused with every error of a bad one, a line each.
 *
 * @param otherwise a last line for who has a bad one: what can be done without it
 */
export function readGoodConfig(io: CommandIo, command: string, file: string, otherwise?: string) {
  const loaded = readConfig(io, command, file)
  if (!loaded.ok) {
    const lines = loaded.errors.map(formatError)
    throw new Refused([...lines, ...(otherwise === undefined ? [] : [otherwise])].join('\n'))
  }
  return loaded.config
}
