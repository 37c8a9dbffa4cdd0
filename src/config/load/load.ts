import { resolve } from 'node:path'
import { isAlias, isMap, isScalar, isSeq, type Node, YAMLMap } from 'yaml'
import { check } from '../check/checks.js'
import { below, offsetOf, type SchemaNode } from '../schema/node.js'
import { type Draft, type Path, present } from '../schema/partial-config.js'
import { type Config, ConfigSchema } from '../schema/schema.js'
import type { NamedFile } from '../values/read-file.js'
import { redact, substitute } from './environment.js'
import type { ModuleFacts } from './extension-options.js'
import { createDocuments, type Documents, type Included, readIncluded } from './include.js'
import { type Reading, read } from './read.js'

export interface ConfigError {
  readonly file: string
  /** Line number, from 1. */
  readonly line: number
  /** Column, from 1, in UTF-16 units. */
  readonly column: number
  /** Problem and remedy. Never contains a secret. */
  readonly message: string
}

/** Place of a value in a file. */
export interface Origin extends Omit<ConfigError, 'message'> {
  /** Names of the variables of the environment in it. */
  readonly env: readonly string[]
}

export type LoadResult =
  | {
      readonly ok: true
      readonly config: Config
      readonly warnings: readonly ConfigError[]
      readonly included: Included
      /** Makes an error at the place of a key, for problems that are found later. */
      readonly at: (path: Path, message: string) => ConfigError
      /** Returns where a value comes from; undefined if it is a default. */
      readonly originOf: (path: Path) => Origin | undefined
      /** Replaces values of the environment in a text by the names of their variables. */
      readonly redacted: (text: string) => string
    }
  | {
      readonly ok: false
      readonly errors: readonly ConfigError[]
      readonly warnings: readonly ConfigError[]
      readonly included: Included
      /** Modules of extensions that are not known yet. The errors are not all there are then. */
      readonly missing?: readonly string[]
    }

/**
 * Maximum number of errors reported. It is more than anybody fixes at once, and bounds what a broken file can write to
 * a log.
 */
const MAX_ERRORS = 100
const LATER = { line: Number.MAX_SAFE_INTEGER, column: 1 }

export interface LoadOptions {
  readonly file: string
  readonly env: NodeJS.ProcessEnv
  /** The files that it includes. Default: they are read from disk. */
  readonly included?: readonly NamedFile[] | undefined
  /** Known modules of extensions. Left out: the options of extensions are not read. */
  readonly modules?: ModuleFacts
}

/**
 * Reads the text of a configuration file, and the files that it includes. Reports all errors at once, in the order of the
 * files. Only files that are not YAML are not checked further.
 */
export function loadConfig(text: string, options: LoadOptions): LoadResult {
  const { file, env, modules } = options
  const documents = createDocuments()
  const { problems, position, target } = documents
  const included: { patterns: readonly string[]; files: readonly NamedFile[] } = { patterns: [], files: [] }
  const main = documents.add(file, text)?.document.contents ?? null
  if (problems.length > 0) return { ok: false, errors: problems, warnings: [], included }
  const errors: ConfigError[] = []
  const warnings: ConfigError[] = []
  if (isEmpty(main)) {
    const message = 'the file is empty; give at least tiers, services and routes'
    return { ok: false, errors: [{ file, line: 1, column: 1, message }], warnings, included }
  }
  const renamed = renameKeys(main)
  for (const { offset, message, both } of renamed) {
    ;(both ? errors : warnings).push({ ...position(offset), message })
  }
  const report = (offset: number, message: string) => errors.push({ ...position(offset), message })
  const reading: Reading = {
    target,
    env,
    folder: documents.folder,
    used: new Map(),
    report,
    place: documents.place,
    indexOf: documents.indexOf,
  }
  const at = (path: Path, message: string, exact = true): ConfigError => {
    const { offset, shown } = placeOf(documents, main, path)
    const { file, ...place } = position(offset)
    return { file, ...(exact ? place : LATER), message: `${shown}: ${message}` }
  }
  const say = (list: ConfigError[]) => (path: Path, message: string) => {
    // Finding the place takes a search, and nobody reads the thousandth error.
    list.push(at(path, message, list.length <= 10 * MAX_ERRORS))
  }
  included.patterns = patternsOf(reading, main)
  const before = errors.length
  const missing = (i: number, message: string) => say(errors)(['include', i], message)
  included.files = options.included ?? readIncluded(included.patterns, { file, text }, missing)
  // Further errors may only follow from the missing file.
  if (errors.length > before)
    return { ok: false, errors: inOrder(errors, new Map(), reading.used), warnings: [], included }
  for (const { file, text } of included.files) {
    const parsed = documents.add(file, text)
    if (parsed !== undefined) documents.join(main, parsed, report)
  }
  if (problems.length > 0) return { ok: false, errors: problems.slice(0, MAX_ERRORS), warnings: [], included }
  const config = read(reading, ConfigSchema as unknown as SchemaNode, main, '', 0) as
    | Draft<Config>
    | undefined
  if (config !== undefined) {
    const place = (path: Path) => placeOf(documents, main, path)
    const missing = readOptions(reading, config, modules, place, say(errors))
    if (missing.length > 0) return { ok: false, errors, warnings: [], included, missing }
    check(config, say(errors), say(warnings), (path, from) => {
      const { offset, shown } = placeOf(documents, main, path)
      return `${shown} ${documents.place(offset, placeOf(documents, main, from).offset)}`
    })
  }
  const order = new Map([file, ...included.files.map(({ file }) => file)].map((file, i) => [file, i]))
  const sorted = (list: readonly ConfigError[]) => inOrder(list, order, reading.used)
  if (errors.length > 0) return { ok: false, errors: sorted(errors), warnings: sorted(warnings), included }
  return {
    ok: true,
    config: config as Config,
    warnings: sorted(warnings),
    included,
    at: (path, message) => sorted([at(path, message)])[0]!,
    originOf(path) {
      const { node, offset } = placeOf(documents, main, path)
      if (node === undefined) return undefined
      const used = isScalar(node) ? substitute(String(node.value), env).used : []
      return { ...position(offset), env: [...used].map(([name]) => name) }
    },
    redacted: (text) => redact(text, reading.used),
  }
}

/** Returns what `include` names. Whatever is wrong with it is reported when the whole is read. */
function patternsOf(reading: Reading, contents: Node | null): readonly string[] {
  const node = isMap(contents) ? contents.get('include', true) : undefined
  if (node === undefined) return []
  const quiet = { ...reading, report: () => {} }
  const patterns = read(quiet, ConfigSchema.properties.include as SchemaNode, node, '', 0)
  return Array.isArray(patterns) ? patterns.filter((one) => typeof one === 'string') : []
}

/**
 * Reads the options of extensions by the schemas of their modules.
 *
 * @param modules known modules; undefined to leave the options out
 * @returns the modules that are not known
 */
function readOptions(
  reading: Reading,
  { extensions }: Draft<Config>,
  modules: ModuleFacts | undefined,
  placeOf: (path: Path) => { offset: number; shown: string },
  error: (path: Path, message: string) => void,
): string[] {
  const missing = new Set<string>()
  for (const [i, extension] of present(extensions)) {
    if (extension.module === undefined) continue
    if (modules === undefined) {
      Object.assign(extension, { options: {} })
      continue
    }
    const file = resolve(extension.module)
    const known = modules.get(file)
    if (known === undefined) missing.add(file)
    else if ('problem' in known) error(['extensions', i, 'module'], known.problem)
    else {
      const { offset, shown } = placeOf(['extensions', i, 'options'])
      const none = new YAMLMap()
      none.range = [offset, offset, offset]
      const options = read(reading, known.options, extension.options ?? none, shown, offset)
      Object.assign(extension, { options })
    }
  }
  return [...missing]
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
function inOrder(
  errors: readonly ConfigError[],
  order: ReadonlyMap<string, number>,
  used: ReadonlyMap<string, string>,
): readonly ConfigError[] {
  const orderOf = ({ file }: ConfigError) => order.get(file) ?? 0
  const sorted = errors
    .map((error) => ({ ...error, message: redact(error.message, used) }))
    .sort((a, b) => orderOf(a) - orderOf(b) || a.line - b.line || a.column - b.column)
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
function placeOf(
  { target, indexOf }: Documents,
  contents: Node | null,
  path: Path,
): { offset: number; shown: string; node: unknown } {
  let node: unknown = contents
  let offset = offsetOf(node) ?? 0
  let shown = ''
  for (const step of path) {
    if (isAlias(node)) node = target(node)
    if (typeof step === 'number') {
      if (node !== undefined && !isSeq(node)) continue
      node = isSeq(node) ? node.items[step] : undefined
      offset = offsetOf(node) ?? offset
      shown = `${shown}[${indexOf(node, step)}]`
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
  return { offset, shown, node }
}
