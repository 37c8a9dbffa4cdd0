import {
  type Alias,
  Document,
  isAlias,
  isCollection,
  isMap,
  isScalar,
  isSeq,
  type Node,
  type Pair,
  type YAMLMap,
} from 'yaml'
import {
  below,
  exampleOf,
  formsOf,
  isMapping,
  kindOf,
  offsetOf,
  quote,
  type SchemaNode,
} from '../schema/node.js'
import { nearest, suggest } from '../values/nearest-name.js'
import { substitute } from './environment.js'
import { type FailAt, inBounds, readScalar } from './read-scalar.js'

/**
 * Reads a YAML document by the schema. It checks and converts in one walk, reports everything that is wrong, and
 * returns what it could read, so that later checks can go on from there. A key whose value could not be read is present
 * with the value undefined: the user must not be told that it is missing, too.
 */

export interface Reading {
  /** Returns the node that an alias refers to. */
  target(alias: Alias): Node | undefined
  readonly env: NodeJS.ProcessEnv
  /** Returns the folder at which relative paths begin: that of the file with this offset. */
  folder(offset: number): string
  /** Variables that were substituted, with their values. */
  readonly used: Map<string, string>
  report(offset: number, message: string): void
  /** Names the place of an offset for a message at another one: `on line 3`. */
  place(offset: number, from: number): string
  /** Returns the index of a list item in its own file. */
  indexOf(item: unknown, index: number): number
}

/** Unsupported keys that users are likely to try, with the remedy. */
const NOT_HERE: ReadonlyMap<string, string> = new Map([
  ['<<', 'merge keys are not part of YAML 1.2; write the keys out, or give a whole value by *alias'],
])
const NAME_FIX = 'use a-z, 0-9, "_" and "-", beginning with a letter or digit'

/** Reads one value. `offset` is reported if the value itself has no place. */
export function read(
  reading: Reading,
  part: SchemaNode,
  node: unknown,
  path: string,
  offset: number,
): unknown {
  const fail: FailAt = (wrong, fix, at = offsetOf(node) ?? offset) => {
    reading.report(at, `${path === '' ? '' : `${path}: `}${wrong}; ${fix}`)
    return undefined
  }
  if (isAlias(node)) {
    const target = reading.target(node)
    if (target === undefined) {
      return fail(
        `there is no &${node.source} above this`,
        'name an anchor, or quote a value that begins with "*"',
      )
    }
    return read(reading, part, target, path, offset)
  }
  if ((isScalar(node) || isCollection(node)) && node.tag !== undefined) {
    return fail('tags are not supported here', 'remove it, or quote a value that begins with "!"')
  }
  if (node === null || node === undefined || (isScalar(node) && node.value === null)) {
    return fail('has no value', 'give it one, or remove the key')
  }
  if (part.raw) return node
  if (part.anyOf !== undefined) return readEither(reading, part, node, path, offset, fail)
  if (isMapping(part)) {
    if (isMap(node)) return readMapping(reading, part, node, path)
    return fail(`must be a mapping, not ${kindOf(node)}`, waysToMap(part, path))
  }
  if (part.items !== undefined) {
    const { items, minItems = 0, maxItems = Number.POSITIVE_INFINITY } = part
    if (!isSeq(node)) {
      return fail(`must be a list, not ${kindOf(node)}`, 'write [a, b], or a line with "- " for each')
    }
    const count = node.items.length
    if (count === 0 && minItems > 0) fail('is an empty list', 'name at least one, or remove the key')
    else if (count < minItems)
      fail(`has ${count} of at least ${minItems} items`, 'name more, or remove the key')
    if (count > maxItems) fail(`has ${count} items`, `name ${maxItems} at most`)
    return node.items.map((item, i) =>
      read(reading, items, item, `${path}[${reading.indexOf(item, i)}]`, offsetOf(node) ?? offset),
    )
  }
  if (isScalar(node)) return readScalar(part, node, reading.env, reading.used, reading.folder, fail)
  return fail(`must be a single value, not ${kindOf(node)}`, `write ${exampleOf(part) ?? 'one value'}`)
}

function readMapping(reading: Reading, part: SchemaNode, map: YAMLMap, path: string): unknown {
  const own = part.properties
  const [pattern = '', values = {}] = Object.entries(part.patternProperties ?? {})[0] ?? []
  const seen = new Map<string, number>()
  const meant = new Set<string | undefined>()
  // Names that users choose must not collide with those that every object inherits.
  const result: Record<string, unknown> = Object.create(own === undefined ? null : Object.prototype)
  const take = (key: string, child: SchemaNode, pair: Pair, at: number) => {
    result[child.becomes ?? key] = read(reading, child, pair.value, below(path, key), at)
  }
  for (const pair of map.items) {
    const key = keyOf(pair)
    const at = offsetOf(pair.key) ?? offsetOf(map) ?? 0
    const say = (message: string) => reading.report(at, `${path === '' ? '' : `${path}: `}${message}`)
    const before = seen.get(key ?? '')
    if (key === undefined) say('a key must be plain text; write "key: value"')
    else if (before !== undefined) {
      say(`duplicate key ${quote(key)}; it is ${reading.place(before, at)} already, keep one of the two`)
    } else {
      seen.set(key, at)
      if (own === undefined) {
        if (!new RegExp(pattern).test(key))
          say(`${quote(key)} cannot be a name here; ${part.keyFix ?? NAME_FIX}`)
        take(key, values, pair, at)
      } else if (Object.hasOwn(own, key)) take(key, own[key]!, pair, at)
      else {
        meant.add(key === '<<' ? undefined : nearest(key, Object.keys(own)))
        say(unknownKey(key, Object.keys(own)))
      }
    }
  }
  for (const [key, child] of Object.entries(own ?? {})) {
    if (seen.has(key)) continue
    if (child.default !== undefined) result[child.becomes ?? key] = defaultOf(child)
    else if (part.required?.includes(key) && !meant.has(key) && !seen.has('<<')) {
      const example = exampleOf(child)
      const message = `"${key}" is missing; add it${example === undefined ? '' : `, ${example}`}`
      reading.report(offsetOf(map) ?? 0, `${path === '' ? '' : `${path}: `}${message}`)
    }
  }
  return result
}

function readEither(
  reading: Reading,
  part: SchemaNode,
  node: unknown,
  path: string,
  offset: number,
  fail: FailAt,
): unknown {
  const forms = formsOf(part)
  let form: SchemaNode | undefined
  if (isScalar(node)) {
    const text = substitute(String(node.value), reading.env).text
    const literal = forms.find((candidate) => candidate.const !== undefined && candidate.const === text)
    if (literal !== undefined) return literal.const
    form = forms.find(
      (candidate) => candidate.const === undefined && !isMapping(candidate) && !candidate.items,
    )
  } else if (isSeq(node)) form = forms.find((candidate) => candidate.items !== undefined)
  else if (isMap(node)) {
    const mappings = forms.filter(isMapping)
    if (mappings.length > 1) {
      form = chooseMapping(reading, mappings, node, path)
      if (form === undefined) return undefined
    } else form = mappings[0]
  }
  if (form === undefined) {
    const mappings =
      forms.every(isMapping) && forms.map((one) => `{ ${Object.keys(one.properties ?? {})[0]}: … }`)
    const fix = mappings ? `one of ${mappings.join(', ')}` : inSentence(part.description ?? 'another value')
    return fail(`must not be ${kindOf(node)}`, `write ${fix}`)
  }
  let value = read(reading, form, node, path, offset)
  if (value !== undefined && form.shorthand) value = expand(forms.find(isMapping)!, value, fail)
  if (value === undefined) return undefined
  return part.wrap && form.items === undefined ? [value] : value
}

function inSentence(description: string): string {
  return description.slice(0, 1).toLowerCase() + description.slice(1)
}

/** Chooses the form of a mapping that its keys match. Reports what is wrong if none does. */
function chooseMapping(
  reading: Reading,
  mappings: readonly SchemaNode[],
  map: YAMLMap,
  path: string,
): SchemaNode | undefined {
  const owns = mappings.map((mapping) => Object.keys(mapping.properties ?? {}))
  const known = [...new Set(owns.flat())]
  const telling = known.filter((key) => !owns.every((keys) => keys.includes(key)))
  const keys = map.items.map((pair) => keyOf(pair) ?? '')
  const [first, ...others] = keys.filter((key) => telling.includes(key))
  const index = owns.findIndex((own) => first !== undefined && own.includes(first))
  const stray = others.find((key) => !owns[index]?.includes(key))
  const report = (key: string | undefined, message: string) => {
    const pair = map.items[keys.indexOf(key ?? '')]
    reading.report(offsetOf(pair?.key) ?? offsetOf(map) ?? 0, `${path}: ${message}`)
    return undefined
  }
  if (stray !== undefined) {
    return report(
      stray,
      `"${stray}" does not go with "${first}"; give each an item of its own, beginning with "- "`,
    )
  }
  if (index >= 0) return mappings[index]
  const unknown = keys.filter((key) => !known.includes(key))
  for (const key of unknown) report(key, unknownKey(key, known))
  if (unknown.length > 0) return undefined
  return report(undefined, `${telling.map((key) => `"${key}"`).join(' or ')} is missing; add one of them`)
}

/** Expands a shorthand with the defaults of its full form. */
function expand(full: SchemaNode, value: unknown, fail: FailAt): unknown {
  const said = value as Readonly<Record<string, unknown>>
  const result: Record<string, unknown> = {}
  for (const [key, part] of Object.entries(full.properties ?? {})) {
    const own = said[key]
    if (own !== undefined) result[key] = own
    else if (part.default !== undefined) result[key] = defaultOf(part)
    if (typeof own !== 'number') continue
    if (inBounds(part, own, (wrong, fix) => fail(`its ${key} ${wrong}`, fix)) === undefined) return undefined
  }
  return result
}

const defaults = new WeakMap<SchemaNode, unknown>()

/** Returns a default, read in the same way as if it was written in the file. */
export function defaultOf(part: SchemaNode): unknown {
  if (!defaults.has(part)) {
    const report = (_: number, message: string) => {
      throw new Error(`a default of the schema is not valid: ${message}`)
    }
    defaults.set(part, readValue(part, part.default, '', report))
  }
  return defaults.get(part)
}

/** Reads a value that is in no file. */
export function readValue(
  part: SchemaNode,
  value: unknown,
  path: string,
  report: Reading['report'],
): unknown {
  const place = { folder: () => '.', place: () => '', indexOf: (_: unknown, index: number) => index }
  const reading = { target: () => undefined, env: {}, used: new Map(), report, ...place }
  return read(reading, part, new Document(value).contents, path, 0)
}

function unknownKey(key: string, known: readonly string[]): string {
  return NOT_HERE.get(key) ?? `unknown key ${quote(key)}; ${suggest(key, known, 'known keys')}`
}

function keyOf({ key }: Pair): string | undefined {
  if (!isScalar(key)) return undefined
  return typeof key.value === 'string' ? key.value : (key.source ?? String(key.value))
}

/** Describes what to write where a mapping is missing: its keys, by name if the schema defines them. */
function waysToMap({ properties, required = [] }: SchemaNode, path: string): string {
  const names = Object.keys(properties ?? {})
  if (names.length === 0) return 'write its keys below it, indented'
  const some = names.slice(0, 3).join(', ')
  const keys = `its keys (${some}${names.length > 3 ? ', …' : ''}) below it, indented`
  const key = /[^.\]]+$/.exec(path)?.[0]
  return required.length > 0 || key === undefined
    ? `write ${keys}`
    : `write ${key}: {} for its defaults, or ${keys}`
}
