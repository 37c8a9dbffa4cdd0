import type { Readable, Writable } from 'node:stream'
import { parseArgs } from 'node:util'
import { closest, distance } from 'fastest-levenshtein'
import { parseDuration } from '../config/values/quantities.js'

/** Wrong use of the command line: exit code 2. The message is one line that says what to do instead. */
export class WrongUse extends Error {}

/**
 * Checks an option with a duration, before any request is made.
 *
 * @throws WrongUse on a text that is not a duration with its unit
 */
export function checkTime(command: string, option: string, value: unknown): void {
  if (typeof value !== 'string' || parseDuration(value) !== undefined) return
  const meant = /^[1-9][0-9]*$/.test(value)
    ? `did you mean ${value}d, or ${value}m?`
    : 'write 90d, 12h or 30m'
  throw new WrongUse(
    `tidegate ${command}: ${option} ${JSON.stringify(value)} is no time with its unit; ${meant}`,
  )
}

/** Negative result: exit code 1. The message says why and what to do, one line each. */
export class Refused extends Error {}

type OptionSpecs = Readonly<
  Record<
    string,
    { readonly type: 'string' | 'boolean'; readonly short?: string; readonly multiple?: boolean }
  >
>

type OptionValues<O extends OptionSpecs> = {
  readonly [K in keyof O]:
    | (O[K] extends { multiple: true } ? readonly string[] : O[K]['type'] extends 'string' ? string : boolean)
    | undefined
}

/**
 * Streams, environment and folder of a command. `tidegate.ts` passes those of the process, and a test passes its own.
 * Commands that run until a signal still need their own process.
 */
export interface CommandIo {
  readonly stdin: Readable & { readonly isTTY?: boolean }
  readonly stdout: Writable & { readonly isTTY?: boolean; readonly columns?: number }
  readonly stderr: Writable
  readonly env: NodeJS.ProcessEnv
  /**
   * Absolute path of the folder that file names on the command line are relative to. File names in a configuration are
   * relative to the folder of the configuration file.
   */
  readonly cwd: string
}

export interface Command {
  readonly help: string
  /** Resolves with the exit code. Rejects with WrongUse or Refused. */
  run(argv: readonly string[], io: CommandIo): Promise<number>
}

export interface CommandSpec<O extends OptionSpecs> {
  readonly name: string
  readonly help: string
  readonly options: O
  /** Names of the positionals for messages, in order. */
  readonly positionals?: readonly string[]
  /** Number of positionals that are required. */
  readonly required?: number
  run(values: OptionValues<O>, io: CommandIo, positionals: readonly string[]): Promise<number>
}

/** Makes a command that parses its arguments before it runs. */
export function defineCommand<const O extends OptionSpecs>(spec: CommandSpec<O>): Command {
  return {
    help: spec.help,
    async run(argv, io) {
      const { values, positionals } = readArguments(spec, argv)
      return spec.run(values, io, positionals)
    },
  }
}

/**
 * Parses the tokens itself, without `strict`: the messages of `strict` change between Node versions, and suggest no
 * similar option.
 */
function readArguments<O extends OptionSpecs>(
  spec: CommandSpec<O>,
  argv: readonly string[],
): { values: OptionValues<O>; positionals: string[] } {
  const wrong = (what: string) =>
    new WrongUse(`tidegate ${spec.name}: ${what}; see: tidegate ${spec.name} --help`)
  const options = Object.fromEntries(
    Object.entries(spec.options).map(([name, { type, short }]) => [
      name,
      { type, ...(short === undefined ? {} : { short }) },
    ]),
  )
  const { tokens } = parseArgs({
    args: [...argv],
    options,
    allowPositionals: true,
    strict: false,
    tokens: true,
  })
  const values: Record<string, string | boolean | string[]> = {}
  const positionals: string[] = []
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value)
    if (token.kind !== 'option') continue
    const option = Object.hasOwn(spec.options, token.name) ? spec.options[token.name] : undefined
    if (option === undefined) {
      const near = nearest(token.name, Object.keys(spec.options))
      throw wrong(`unknown option ${token.rawName}${near === undefined ? '' : `, did you mean --${near}?`}`)
    }
    if (option.type === 'boolean') {
      if (token.value !== undefined) throw wrong(`${token.rawName} takes no value`)
      values[token.name] = true
    } else {
      // In `--config --json` the value is missing. A value that begins with a dash is written --config=-x. A single
      // dash is a value.
      if (!token.value || (/^-./.test(token.value) && !token.inlineValue)) {
        throw wrong(`${token.rawName} needs a value`)
      }
      if (option.multiple) values[token.name] = [...((values[token.name] as string[]) ?? []), token.value]
      else values[token.name] = token.value
    }
  }
  const names = spec.positionals ?? []
  const missing = names.slice(positionals.length, spec.required ?? 0)
  if (missing.length > 0)
    throw wrong(`${missing.join(' and ')} ${missing.length === 1 ? 'is' : 'are'} missing`)
  if (positionals.length > names.length) {
    throw wrong(`${JSON.stringify(positionals[names.length])} is one argument too many`)
  }
  if (positionals.includes('')) throw wrong(`${names[positionals.indexOf('')]} is empty`)
  return { values: values as OptionValues<O>, positionals }
}

/** Returns the candidate that a misspelt word most likely means: at most two letters off, which is one swap. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  if (candidates.length === 0) return undefined
  const best = closest(word, [...candidates])
  return distance(word, best) <= Math.min(2, word.length - 1) ? best : undefined
}
