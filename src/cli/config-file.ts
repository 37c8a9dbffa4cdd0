import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { createExtensions } from '../config/load/extension-instances.js'
import { type ConfigError, formatError, loadConfig } from '../config/load/load.js'
import { loadWithExtensions } from '../config/load/load-with-extensions.js'
import { type CommandIo, Refused, RefusedAsIs, whyUnreadable } from './command.js'

/** Places that are searched without `--config`, in this order. */
const IN_THIS_FOLDER = ['tidegate.yaml', 'config/tidegate.yaml']
/** Location in the systemd unit, the image and the Kubernetes manifests. */
const OF_THE_MACHINE = '/etc/tidegate/tidegate.yaml'

/** Option of every command that reads a configuration. */
export const CONFIG_OPTION = {
  value: 'FILE',
  short: 'c',
  help: `the configuration; by default ${IN_THIS_FOLDER.join(' or ')} in this folder, or else ${OF_THE_MACHINE}`,
} as const

/** Returns the file to read. Throws Refused if none is named and none is in its usual place. */
export function configFile({ cwd }: CommandIo, option: string | undefined): string {
  if (option !== undefined) return option
  const found = [...IN_THIS_FOLDER, OF_THE_MACHINE].find((place) => existsSync(resolve(cwd, place)))
  if (found === undefined) {
    throw new Refused(
      `no ${IN_THIS_FOLDER.join(' and no ')} in this folder, and no ${OF_THE_MACHINE}; name one with --config FILE`,
    )
  }
  return found
}

/**
 * Reads and checks the file with the gateway's own loader, without loading the modules of extensions. Throws Refused if it
 * cannot be read.
 */
export function readConfig({ cwd, env }: CommandIo, file: string) {
  return loadConfig(readText(cwd, file), { file, env })
}

/** Reads and checks the file as `readConfig` does, and creates its extensions, which end at once. */
export function readWithExtensions({ cwd, env }: CommandIo, file: string) {
  const extensions = createExtensions({ runs: false })
  return loadWithExtensions(readText(cwd, file), { file, env }, extensions, loadConfig)
}

function readText(cwd: string, file: string): string {
  try {
    return readFileSync(resolve(cwd, file), 'utf8')
  } catch (error) {
    throw new Refused(
      `cannot read ${file}: ${whyUnreadable(error as Error)}; name the configuration with --config FILE`,
    )
  }
}

/**
 * Reads the file for commands that need a valid configuration. Throws RefusedAsIs with every error of an invalid one, a
 * line each.
 *
 * @param otherwise a last line: what the user can do without a valid file
 */
export function readGoodConfig(io: CommandIo, file: string, otherwise?: string) {
  return goodOf(readConfig(io, file), otherwise).config
}

/** Returns a configuration that was read. Throws as `readGoodConfig` does if it is invalid. */
export function goodOf<T extends { readonly ok: boolean }>(
  loaded: T | { readonly ok: false; readonly errors: readonly ConfigError[] },
  otherwise?: string,
): Extract<T, { readonly ok: true }> {
  if (loaded.ok) return loaded as Extract<T, { readonly ok: true }>
  const { errors } = loaded as { readonly errors: readonly ConfigError[] }
  throw new RefusedAsIs([...errors.map(formatError), otherwise ?? []].flat().join('\n'))
}
