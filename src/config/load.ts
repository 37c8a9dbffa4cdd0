import { isAlias, isMap, isScalar, isSeq, type Node } from 'yaml'
import { check, type Draft, type Path } from './checks.js'
import { MAX_NODES, offsetOf, type Part, type Reading, read } from './read.js'
import { type Config, ConfigSchema } from './schema.js'
import { type ParsedYaml, parseYaml } from './yaml.js'

export interface ConfigError {
  readonly file: string
  /** From 1. */
  readonly line: number
  /** From 1, in UTF-16 units. */
  readonly column: number
  /** What is wrong; what to do. Never a secret. */
  readonly message: string
}

export type LoadResult =
  | { readonly ok: true; readonly config: Config; readonly warnings: readonly ConfigError[] }
  | { readonly ok: false; readonly errors: readonly ConfigError[]; readonly warnings: readonly ConfigError[] }

/** More than anybody fixes in one go, and a bound on what a broken file can put into a log. */
const MAX_ERRORS = 100

/**
 * Reads the text of a configuration file. Reports everything that is wrong at once, in the order of the file;
 * only a file that is no YAML is not looked at further.
 */
export function loadConfig(text: string, options: { file: string; env: NodeJS.ProcessEnv }): LoadResult {
  const { file, env } = options
  const parsed = parseYaml(text)
  if (!('document' in parsed)) return { ok: false, errors: [{ file, ...parsed }], warnings: [] }
  if (parsed.problems.length > 0) {
    return { ok: false, errors: parsed.problems.map((problem) => ({ file, ...problem })), warnings: [] }
  }
  const { document, position } = parsed
  const errors: ConfigError[] = []
  const warnings: ConfigError[] = []
  if (isEmpty(document.contents)) {
    const message = 'the file is empty; give at least tiers, services and routes'
    return { ok: false, errors: [{ file, line: 1, column: 1, message }], warnings }
  }
  const reading: Reading = {
    document,
    env,
    budget: MAX_NODES,
    report: (offset, message) => errors.push({ file, ...position(offset), message }),
  }
  const config = read(reading, ConfigSchema as unknown as Part, document.contents, '', 0) as
    | Draft<Config>
    | undefined
  const say = (list: ConfigError[]) => (path: Path, message: string) => {
    list.push({ file, ...position(offsetAt(parsed, path)), message: `${display(path)}: ${message}` })
  }
  if (reading.budget > 0 && config !== undefined) {
    check(config, say(errors), say(warnings), (path) => position(offsetAt(parsed, path)).line)
  }
  if (errors.length > 0) return { ok: false, errors: inOrder(errors), warnings: inOrder(warnings) }
  return { ok: true, config: config as Config, warnings: inOrder(warnings) }
}

/** `file:line:column: what is wrong; what to do` */
export function formatError({ file, line, column, message }: ConfigError): string {
  return `${file}:${line}:${column}: ${message}`
}

function inOrder(errors: readonly ConfigError[]): readonly ConfigError[] {
  const sorted = [...errors].sort((a, b) => a.line - b.line || a.column - b.column)
  if (sorted.length <= MAX_ERRORS) return sorted
  const next = sorted[MAX_ERRORS]!
  const message = `and ${sorted.length - MAX_ERRORS} more from here on; correct those above first`
  return [...sorted.slice(0, MAX_ERRORS), { ...next, message }]
}

function isEmpty(contents: unknown): boolean {
  return contents === null || (isScalar(contents) && contents.value === null)
}

/** Where the value at a path begins; the nearest thing around it that has a place, when it has none. */
function offsetAt({ document }: ParsedYaml, path: Path): number {
  let node: unknown = document.contents
  let offset = offsetOf(node) ?? 0
  for (const step of path) {
    if (isAlias(node)) node = (node as { resolve(from: typeof document): Node | undefined }).resolve(document)
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === step)
      if (pair === undefined) return offset
      node = pair.value
      offset = isScalar(node) || isAlias(node) ? (offsetOf(node) ?? offset) : (offsetOf(pair.key) ?? offset)
    } else if (isSeq(node) && typeof step === 'number') {
      node = node.items[step]
      offset = offsetOf(node) ?? offset
    } else return offset
  }
  return offset
}

function display(path: Path): string {
  return path
    .map((step, i) => (typeof step === 'number' ? `[${step}]` : i === 0 ? step : `.${step}`))
    .join('')
}
