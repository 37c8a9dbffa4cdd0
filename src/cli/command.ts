import type { Readable, Writable } from 'node:stream'
import { parseArgs } from 'node:util'
import { closest, distance } from 'fastest-levenshtein'
import { parseDuration } from '../config/values/quantities.js'
import { parseListen } from '../net/addresses.js'

/** Wrong use of the command line: exit code 2. The message says what is wrong; `runCli` adds the command and its help. */
export class WrongUse extends Error {}

/** Negative result: exit code 1. The message says why and what to do; `runCli` adds the command in front. */
export class Refused extends Error {}

/** The same, for what may pass: the gateway or its store is away at present. */
export class Unavailable extends Refused {}

/** The same as `Refused`, with lines that stand by themselves, such as `tidegate.yaml:3:1: …`. */
export class RefusedAsIs extends Refused {}

/**
 * Checks an option with a duration, before any request is made.
 *
 * @throws WrongUse on a text that is not a duration with its unit
 */
export function checkTime(option: string, text: string | undefined): void {
  if (text === undefined || parseDuration(text) !== undefined) return
  const such = /^[1-9][0-9]*$/.test(text) ? `${text}d or ${text}m` : '90d, 12h or 30m'
  throw new WrongUse(`${option} needs a duration with its unit, such as ${such}, not ${JSON.stringify(text)}`)
}

/** Parses the value of an option. Throws WrongUse, with an `example`, if it is not an address with a port. */
export function hostAndPort(option: string, text: string, example: string) {
  const at = parseListen(text)
  if (at === undefined) throw new WrongUse(`${option} needs HOST:PORT, such as ${example}, not ${text}`)
  return at
}

/** An option, as the parser and the help take it. */
export interface OptionSpec {
  /** Name of the value in the help, such as `TIME`. An option without one takes no value. */
  readonly value?: string
  readonly short?: string
  /** True if the option may be given several times. */
  readonly multiple?: boolean
  readonly help: string
}

export type OptionSpecs = Readonly<Record<string, OptionSpec>>

export type OptionValues<O extends OptionSpecs> = {
  readonly [K in keyof O]:
    | (O[K] extends { multiple: true }
        ? readonly string[]
        : O[K] extends { value: string }
          ? string
          : boolean)
    | undefined
}

export const JSON_OPTION = { help: 'print JSON' } as const

const WHY: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EISDIR: 'it is a folder',
  EACCES: 'there is no permission to read it',
  Z_BUF_ERROR: 'it ends in the middle of its compressed data',
  Z_DATA_ERROR: 'its compressed data is damaged',
}

/** Explains why a file cannot be read, without its name. */
export function whyUnreadable({ code, message }: NodeJS.ErrnoException): string {
  return WHY[code ?? ''] ?? message
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

export interface ArgumentSpec<O extends OptionSpecs> {
  readonly options: O
  /** Names of the positionals for messages, in order. Optional ones are in brackets: `[TIER]`. */
  readonly positionals?: readonly string[]
}

/**
 * Parses the tokens itself, without `strict`: the messages of `strict` change between Node versions, and suggest no
 * similar option.
 */
export function readArguments<O extends OptionSpecs>(spec: ArgumentSpec<O>, argv: readonly string[]) {
  const options = Object.fromEntries(
    Object.entries(spec.options).map(([name, option]) => [
      name,
      { ...option, type: option.value === undefined ? ('boolean' as const) : ('string' as const) },
    ]),
  )
  const { tokens } = parseArgs({ args: [...argv], options, strict: false, tokens: true })
  const values: Record<string, string | boolean | string[]> = {}
  const positionals: string[] = []
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value)
    if (token.kind !== 'option') continue
    const option = Object.hasOwn(spec.options, token.name) ? spec.options[token.name] : undefined
    if (option === undefined) {
      throw new WrongUse(
        `unknown option ${token.rawName}${didYouMean(token.name, Object.keys(spec.options), '--')}`,
      )
    }
    if (option.value === undefined) {
      if (token.value !== undefined) throw new WrongUse(`${token.rawName} takes no value`)
      values[token.name] = true
    } else {
      // In `--config --json` the value is missing. A value that begins with a dash is written --config=-x. A single
      // dash is a value.
      if (!token.value || (/^-./.test(token.value) && !token.inlineValue)) {
        throw new WrongUse(`${token.rawName} needs a value`)
      }
      if (option.multiple) values[token.name] = [...((values[token.name] as string[]) ?? []), token.value]
      else values[token.name] = token.value
    }
  }
  const names = spec.positionals ?? []
  const missing = names.slice(positionals.length).filter((name) => !name.startsWith('['))
  if (missing.length > 0) throw new WrongUse(missingText(missing))
  if (positionals.length > names.length) {
    throw new WrongUse(`${JSON.stringify(positionals[names.length])} is one argument too many`)
  }
  if (positionals.includes(''))
    throw new WrongUse(`${names[positionals.indexOf('')]!.replace(/[[\]]/g, '')} is empty`)
  return { values: values as OptionValues<O>, positionals }
}

/** Names what is missing: `--by and --for are missing`. */
export function missingText(names: readonly string[]): string {
  const all = names.length === 1 ? names[0] : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`
  return `${all} ${names.length === 1 ? 'is' : 'are'} missing`
}

/**
 * Returns a hint for a misspelt word: `, did you mean check?`, or nothing if no candidate is at most two letters off,
 * which is one swap.
 *
 * @param dashes what stands in front of a candidate
 */
export function didYouMean(word: string, candidates: readonly string[], dashes = ''): string {
  if (candidates.length === 0) return ''
  const best = closest(word, [...candidates])
  const isNear = distance(word, best) <= Math.min(2, word.length - 1)
  return isNear ? `, did you mean ${dashes}${best}?` : ''
}
