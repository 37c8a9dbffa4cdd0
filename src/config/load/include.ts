import { readdirSync, statSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { basename, dirname, join, normalize } from 'node:path'
import { type Alias, isCollection, isMap, isScalar, isSeq, type Node, type Pair } from 'yaml'
import { kindOf, offsetOf, quote } from '../schema/node.js'
import { type NamedFile, readWholeFile, unreadable } from '../values/read-file.js'
import { signatureOf } from './watch.js'
import { MAX_BYTES, MAX_VALUES, type ParsedYaml, type Position, parseYaml } from './yaml.js'

/** Finds, reads and joins the files that `include` names. */

/** The files of a configuration besides the main one. */
export interface Included {
  /** Paths with `*`, as `include` names them. */
  readonly patterns: readonly string[]
  readonly files: readonly NamedFile[]
}

/** Keys that an included file may hold. All others stay in the main file: they concern every team. */
const SHARED: readonly string[] = ['services', 'routes', 'tier_sources', 'extensions']
const MAX_FILES = 1000
const TOO_LARGE = 'with this file, the configuration is larger than 1 MiB; remove what does not belong in it'

/** Returns the files of a folder that a pattern names, in the order of their names. `*` does not match hidden files. */
function matching(pattern: string, names: readonly string[]): string[] {
  const name = basename(pattern)
  return names
    .filter((one) => matches(name, one) && (one.startsWith('.') ? name.startsWith('.') : true))
    .sort()
    .map((one) => join(dirname(pattern), one))
}

/** Returns whether a name has the form of a pattern. Takes linear time, which a RegExp with several `.*` does not. */
function matches(pattern: string, name: string): boolean {
  const [first = '', ...parts] = pattern.split('*')
  const last = parts.pop()
  if (last === undefined) return name === pattern
  let at = first.length
  for (const part of parts) {
    const found = name.indexOf(part, at)
    if (found < 0) return false
    at = found + part.length
  }
  return name.startsWith(first) && name.endsWith(last) && name.length - last.length >= at
}

const isPattern = (path: string) => basename(path).includes('*')

/**
 * Reads the files of all patterns, each file once, without the main file.
 *
 * @param fail is called with the index of a pattern that cannot be read
 */
export function readIncluded(
  patterns: readonly string[],
  main: NamedFile,
  fail: (index: number, message: string) => void,
): NamedFile[] {
  const files = new Map<string, string>()
  let left = MAX_BYTES - main.text.length
  for (const [i, pattern] of patterns.entries()) {
    let shown = pattern
    try {
      if (dirname(pattern).includes('*')) {
        fail(i, `${pattern} has a "*" in a folder; write it in the file name alone, such as teams/*.yaml`)
        continue
      }
      const found = isPattern(pattern) ? matching(pattern, namesOf(dirname(pattern))) : [pattern]
      if (found.length === 0) fail(i, `${pattern} matches no file; create one, or remove this`)
      for (const file of found) {
        if (files.has(file) || file === normalize(main.file)) continue
        if (files.size === MAX_FILES) return fail(i, `more than ${MAX_FILES} files; join some`) ?? []
        shown = file
        const text = readWholeFile(file, left)
        left -= text.length
        // A pipe or a device has no size.
        if (text === '' && !statSync(file).isFile()) fail(i, `${file} is not a file; name one`)
        if (text.includes('\ufffd')) fail(i, `${file} is not UTF-8 text; save it as UTF-8`)
        files.set(file, text)
      }
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'EFBIG') fail(i, `${shown}: ${TOO_LARGE}`)
      else fail(i, `${shown} ${unreadable(error)}; create it, or let this user read it`)
    }
  }
  return [...files].map(([file, text]) => ({ file, text }))
}

function namesOf(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((one) => (one.isDirectory() ? [] : one.name))
}

/** Returns a text that differs between two states of the files of a pattern, for `watchFile`. */
export async function signatureOfPattern(pattern: string): Promise<string> {
  const names = isPattern(pattern)
    ? matching(pattern, await readdir(dirname(pattern)).catch(() => []))
    : [pattern]
  const all = names.map(async (file) => `${encodeURIComponent(file)} ${await signatureOf(file)}`)
  return (await Promise.all(all)).join('\n')
}

export type FilePosition = Position & { readonly file: string }

/** The documents of one configuration. An offset counts from the first of them, so it says which file it is in. */
export type Documents = ReturnType<typeof createDocuments>

export function createDocuments() {
  const files: { readonly file: string; readonly parsed: ParsedYaml }[] = []
  const problems: (FilePosition & { readonly message: string })[] = []
  const indexes = new WeakMap<object, number>()
  let [end, values] = [0, 0]

  const fileAt = (offset: number) => files.findLast(({ parsed }) => parsed.start <= offset) ?? files[0]!
  function position(offset: number): FilePosition {
    const { file, parsed } = fileAt(offset)
    return { file, ...parsed.position(offset) }
  }

  function joinPair(main: Pair[], pair: Pair, report: (message: string) => void): void {
    const key = String(pair.key)
    if (!SHARED.includes(key)) {
      report(
        `${quote(key)} cannot be in an included file, only ${SHARED.join(', ')}; move it to the main file`,
      )
      return
    }
    const { value } = pair
    const fits = (node: unknown) => isCollection(node) && isMap(node) === (key === 'services')
    if (!isCollection(value) || !fits(value)) {
      report(`${key}: must be a ${key === 'services' ? 'mapping' : 'list'}, not ${kindOf(value)}; correct it`)
      return
    }
    if (isSeq(value)) for (const [i, item] of value.items.entries()) indexes.set(item as object, i)
    const before = main.find((one) => isScalar(one.key) && one.key.value === key)
    if (before === undefined) main.push(pair)
    // Otherwise the main file is wrong there, which its reader reports.
    else if (isCollection(before.value) && fits(before.value))
      before.value.items.push(...(value.items as never[]))
  }

  return {
    /** Syntax errors of all files. */
    problems,
    /** Parses one more file; undefined if it is not YAML. */
    add(file: string, text: string): ParsedYaml | undefined {
      const parsed = parseYaml(text, end)
      end += text.length + 1
      if (!('document' in parsed)) {
        problems.push({ file, ...parsed })
        return undefined
      }
      files.push({ file, parsed })
      problems.push(...parsed.problems.map((problem) => ({ file, ...problem })))
      values += parsed.values
      if (values > MAX_VALUES && parsed.problems.length === 0) {
        const message = `with this file, the configuration holds more than ${MAX_VALUES.toLocaleString('en')} values; keep what is needed`
        problems.push({ file, line: 1, column: 1, message })
      }
      return parsed
    },
    position,
    /** Returns the folder of the file that an offset is in. */
    folder: (offset: number): string => dirname(fileAt(offset).file),
    /** Names the place of one offset for a message at another: `on line 3`, with the file if that is another one. */
    place(offset: number, from: number): string {
      const { file, line } = position(offset)
      return file === position(from).file ? `on line ${line}` : `on line ${line} of ${file}`
    },
    target(alias: Alias): Node | undefined {
      for (const { parsed } of files) {
        const found = parsed.target(alias)
        if (found !== undefined) return found
      }
      return undefined
    },
    /** Returns the index of a list item in its own file; `index` if it was not included. */
    indexOf: (item: unknown, index: number): number => indexes.get(item as object) ?? index,
    /** Moves the content of an included file to the end of the main one. */
    join(
      main: Node | null,
      { document, start }: ParsedYaml,
      report: (offset: number, message: string) => void,
    ): void {
      const { contents } = document
      if (!isMap(main) || contents === null || (isScalar(contents) && contents.value === null)) return
      if (!isMap(contents)) {
        report(
          offsetOf(contents) ?? start,
          `must be a mapping, not ${kindOf(contents)}; write services or routes`,
        )
        return
      }
      for (const pair of contents.items) {
        joinPair(main.items, pair, (message) => report(offsetOf(pair.key) ?? start, message))
      }
    },
  }
}
