import { dirname } from 'node:path'
import { isAlias, isMap, isScalar, isSeq } from 'yaml'
import { check } from '../check/checks.js'
import { below, offsetOf, type SchemaNode } from '../schema/node.js'
import type { Draft, Path } from '../schema/partial-config.js'
import { type Config, ConfigSchema } from '../schema/schema.js'
import { redact } from './environment.js'
import { type Reading, read } from './read.js'
import { type ParsedYaml, parseYaml } from './yaml.js'

export interface ConfigError {
  readonly file: string
  /** Line number, from 1. */
  readonly line: number
  /** Column, from 1, in UTF-16 units. */
  readonly column: number
  /** Problem and remedy. Never contains a secret. */
  readonly message: string
}

export type LoadResult =
  | {
      readonly ok: true
      readonly config: Config
      readonly warnings: readonly ConfigError[]
      /** Makes an error at the place of a key, for problems that are found later. */
      readonly at: (path: Path, message: string) => ConfigError
    }
  | { readonly ok: false; readonly errors: readonly ConfigError[]; readonly warnings: readonly ConfigError[] }

/**
 * Maximum number of errors reported. It is more than anybody fixes at once, and bounds what a broken file can write to
 * a log.
 */
const MAX_ERRORS = 100
const LATER = { line: Number.MAX_SAFE_INTEGER, column: 1 }

/**
 * Reads the text of a configuration file. Reports all errors at once, in the order of the file. Only a file that is not
 * YAML is not checked further.
 */
export function loadConfig(text: string, options: { file: string; env: NodeJS.ProcessEnv }): LoadResult {
  const { file, env } = options
  const parsed = parseYaml(text)
  if (!('document' in parsed)) return { ok: false, errors: [{ file, ...parsed }], warnings: [] }
  if (parsed.problems.length > 0) {
    return { ok: false, errors: parsed.problems.map((problem) => ({ file, ...problem })), warnings: [] }
  }
  const { document, position, target } = parsed
  const errors: ConfigError[] = []
  const warnings: ConfigError[] = []
  if (isEmpty(document.contents)) {
    const message = 'the file is empty; give at least tiers, services and routes'
    return { ok: false, errors: [{ file, line: 1, column: 1, message }], warnings }
  }
  const renamed = renameKeys(document.contents)
  for (const { offset, message, both } of renamed) {
    ;(both ? errors : warnings).push({ file, ...position(offset), message })
  }
  const reading: Reading = {
    target,
    env,
    folder: dirname(file),
    used: new Map(),
    report: (offset, message) => errors.push({ file, ...position(offset), message }),
    line: (offset) => position(offset).line,
  }
  const config = read(reading, ConfigSchema as unknown as SchemaNode, document.contents, '', 0) as
    | Draft<Config>
    | undefined
  const at = (path: Path, message: string, exact = true): ConfigError => {
    const { offset, shown } = placeOf(parsed, path)
    return { file, ...(exact ? position(offset) : LATER), message: `${shown}: ${message}` }
  }
  const say = (list: ConfigError[]) => (path: Path, message: string) => {
    // Finding the place takes a search, and nobody reads the thousandth error.
    list.push(at(path, message, list.length <= 10 * MAX_ERRORS))
  }
  if (config !== undefined) {
    check(config, say(errors), say(warnings), (path) => position(placeOf(parsed, path).offset).line)
  }
  if (errors.length > 0)
    return { ok: false, errors: inOrder(errors, reading.used), warnings: inOrder(warnings, reading.used) }
  return {
    ok: true,
    config: config as Config,
    warnings: inOrder(warnings, reading.used),
    at: (path, message) => inOrder([at(path, message)], reading.used)[0]!,
  }
}

/** Top-level keys by their former name. */
const FORMER: Readonly<Record<string, string>> = { explain: 'decisions' }

/** Renames former keys in place, and reports them. `both`: the present name is used as well. */
function renameKeys(contents: unknown): { offset: number; message: string; both: boolean }[] {
  if (!isMap(contents)) return []
  const found: { offset: number; message: string; both: boolean }[] = []
  for (const [former, name] of Object.entries(FORMER)) {
    const key = contents.items.find(({ key }) => isScalar(key) && key.value === former)?.key
    if (!isScalar(key)) continue
    const both = contents.has(name)
    const message = both
      ? `${former}: is the former name of ${name}, and the file has both; move everything to ${name}`
      : `${former}: is called ${name} now; rename it`
    found.push({ offset: offsetOf(key) ?? 0, message, both })
    if (both) contents.delete(former)
    else key.value = name
  }
  return found
}

/** `file:line:column: what is wrong; what to do` */
export function formatError({ file, line, column, message }: ConfigError): string {
  return `${file}:${line}:${column}: ${message}`
}

/** Sorts and bounds the errors, and redacts values from the environment. */
function inOrder(errors: readonly ConfigError[], used: ReadonlyMap<string, string>): readonly ConfigError[] {
  const sorted = errors
    .map((error) => ({ ...error, message: redact(error.message, used) }))
    .sort((a, b) => a.line - b.line || a.column - b.column)
  if (sorted.length <= MAX_ERRORS) return sorted
  const next = sorted[MAX_ERRORS]!
  const message = `and ${sorted.length - MAX_ERRORS} more from here on; correct those above first`
  return [...sorted.slice(0, MAX_ERRORS), { ...next, message }]
}

function isEmpty(contents: unknown): boolean {
  return contents === null || (isScalar(contents) && contents.value === null)
}

/**
 * Returns the offset of the value at a path, or of the nearest part around it that has one, and the path as the file
 * has it. A single value that stands for a list has no index there.
 */
function placeOf({ document, target }: ParsedYaml, path: Path): { offset: number; shown: string } {
  let node: unknown = document.contents
  let offset = offsetOf(node) ?? 0
  let shown = ''
  for (const step of path) {
    if (isAlias(node)) node = target(node)
    if (typeof step === 'number') {
      if (node !== undefined && !isSeq(node)) continue
      node = isSeq(node) ? node.items[step] : undefined
      offset = offsetOf(node) ?? offset
      shown = `${shown}[${step}]`
    } else {
      const pair = isMap(node)
        ? node.items.find(({ key }) => isScalar(key) && String(key.value) === step)
        : undefined
      node = pair?.value
      const own = isScalar(node) || isAlias(node) ? offsetOf(node) : offsetOf(pair?.key)
      offset = own ?? offset
      shown = below(shown, step)
    }
  }
  return { offset, shown }
}
