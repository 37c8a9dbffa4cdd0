import {
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
import type { Marks } from './define.js'
import { substitute } from './environment.js'
import { KINDS } from './kinds.js'
import { suggest } from './nearest.js'
import { MAX_DEPTH } from './yaml.js'

/**
 * Reads a YAML document by the schema: checks and converts in one walk, says everything that is wrong, and gives
 * back as much as could be read, so that the checks that follow can go on from there.
 */

/** The part of JSON Schema that `define.ts` writes. */
export interface Part extends Marks {
  readonly type?: string
  readonly properties?: Readonly<Record<string, Part>>
  readonly required?: readonly string[]
  readonly patternProperties?: Readonly<Record<string, Part>>
  readonly items?: Part
  readonly anyOf?: readonly Part[]
  readonly enum?: readonly string[]
  readonly const?: string
  readonly minimum?: number
  readonly maximum?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly minItems?: number
  readonly maxItems?: number
}

export interface Reading {
  readonly document: Document
  readonly env: NodeJS.ProcessEnv
  /** Nodes that may still be visited: aliases can make a few lines stand for billions. */
  budget: number
  report(offset: number, message: string): void
}

/** No sane file comes near; an alias bomb is past it at once. */
export const MAX_NODES = 100_000

/** Keys that are known to be coming. */
const LATER: ReadonlyMap<string, string> = new Map([
  ['jwt', '"jwt" is not supported yet; use api_key, header or ip'],
  ['<<', 'merge keys are not part of YAML 1.2; write the keys out, or give a whole value by *alias'],
])

const defaults = new WeakMap<Part, unknown>()

/** Reads one value. `offset` is where to point when the value itself has no place. */
export function read(
  reading: Reading,
  part: Part,
  node: unknown,
  path: string,
  offset: number,
  depth = 0,
): unknown {
  const fail = (wrong: string, fix: string, at = offsetOf(node) ?? offset): undefined => {
    reading.report(at, `${path === '' ? '' : `${path}: `}${wrong}; ${fix}`)
  }
  if (reading.budget <= 0) return undefined
  if (--reading.budget === 0) {
    return fail(
      `aliases make this more than ${MAX_NODES.toLocaleString('en')} values`,
      'write out what is needed',
    )
  }
  if (depth > MAX_DEPTH)
    return fail(`aliases nest more than ${MAX_DEPTH} levels deep`, 'write out what is needed')
  if (isAlias(node)) {
    const target = node.resolve(reading.document)
    if (target === undefined)
      return fail(`there is no &${node.source} before this`, 'name an anchor that is set above')
    return read(reading, part, target, path, offset, depth + 1)
  }
  if (isScalar(node) || isCollection(node)) {
    if (node.tag !== undefined) return fail('tags have no meaning here', 'remove it')
  }
  if (node === null || node === undefined || (isScalar(node) && node.value === null)) {
    return fail('has no value', 'give it one, or remove the key')
  }
  if (part.anyOf !== undefined) return readEither(reading, part, node, path, offset, depth, fail)
  if (isMapping(part)) {
    if (!isMap(node))
      return fail(`must be a mapping, not ${kindOf(node)}`, 'write its keys below it, indented')
    return readMapping(reading, part, node, path, depth)
  }
  if (part.items !== undefined) {
    if (!isSeq(node))
      return fail(`must be a list, not ${kindOf(node)}`, 'write [a, b], or a line with "- " for each')
    const { items } = part
    const count = node.items.length
    const { minItems = 0, maxItems = Number.POSITIVE_INFINITY } = part
    if (count < minItems) fail('is an empty list', 'name at least one, or remove the key')
    if (count > maxItems) fail(`has ${count} items`, `name ${maxItems} at most`)
    return node.items.map((item, i) =>
      read(reading, items, item, `${path}[${i}]`, offsetOf(node) ?? offset, depth + 1),
    )
  }
  if (!isScalar(node))
    return fail(`must be a single value, not ${kindOf(node)}`, exampleOf(part) ?? 'write one value')
  return readScalar(reading, part, node, fail)
}

type Fail = (wrong: string, fix: string, at?: number) => undefined

function readMapping(reading: Reading, part: Part, map: YAMLMap, path: string, depth: number): unknown {
  const at = offsetOf(map) ?? 0
  const prefix = path === '' ? '' : `${path}.`
  const own = part.properties
  const [pattern, values] = Object.entries(part.patternProperties ?? {})[0] ?? []
  const seen = new Map<string, number>()
  const result: Record<string, unknown> = Object.create(own === undefined ? null : Object.prototype)
  for (const pair of map.items) {
    const key = keyOf(pair)
    const keyAt = offsetOf(pair.key) ?? at
    const say = (message: string) => reading.report(keyAt, `${path === '' ? '' : `${path}: `}${message}`)
    if (key === undefined) {
      say('a key must be plain text; write "key: value"')
      continue
    }
    if (seen.has(key)) {
      say(`duplicate key ${quote(key)}; it is given above already, keep one of the two`)
      continue
    }
    seen.set(key, keyAt)
    const child =
      own === undefined ? matching(key, pattern, values) : Object.hasOwn(own, key) ? own[key] : undefined
    if (child !== undefined) {
      const value = read(reading, child, pair.value, prefix + key, keyAt, depth + 1)
      if (value !== undefined) result[child.becomes ?? key] = value
    } else if (own === undefined) {
      say(`${quote(key)} cannot be a name here; use a-z, 0-9, "_" and "-", beginning with a letter or digit`)
    } else {
      say(LATER.get(key) ?? `unknown key ${quote(key)}; ${suggest(key, Object.keys(own), 'known keys')}`)
    }
  }
  for (const [key, child] of Object.entries(own ?? {})) {
    if (seen.has(key)) continue
    if (child.default !== undefined) result[child.becomes ?? key] = defaultOf(child)
    else if (part.required?.includes(key)) {
      const example = exampleOf(child)
      reading.report(
        at,
        `${path === '' ? '' : `${path}: `}"${key}" is missing; add it${example ? `: ${example}` : ''}`,
      )
    }
  }
  return result
}

function readEither(
  reading: Reading,
  part: Part,
  node: unknown,
  path: string,
  offset: number,
  depth: number,
  fail: Fail,
) {
  const forms = flatten(part)
  let form: Part | undefined
  if (isScalar(node)) {
    const literal = forms.find((candidate) => candidate.const !== undefined && candidate.const === node.value)
    if (literal !== undefined) return literal.const
    form = forms.find(
      (candidate) => candidate.const === undefined && !isMapping(candidate) && !candidate.items,
    )
  } else if (isSeq(node)) form = forms.find((candidate) => candidate.items !== undefined)
  else if (isMap(node)) {
    const mappings = forms.filter(isMapping)
    form = mappings.length < 2 ? mappings[0] : chooseMapping(reading, mappings, node, path)
    if (form === undefined && mappings.length > 1) return undefined
  }
  if (form === undefined) return fail(`must not be ${kindOf(node)}`, `write ${part.description}`)
  let value = read(reading, form, node, path, offset, depth)
  if (value === undefined) return undefined
  if (form.shorthand) value = expand(forms.find(isMapping)!, value, fail)
  return part.wrap && form.items === undefined ? [value] : value
}

/** Of several mappings the one that the keys speak for. */
function chooseMapping(
  reading: Reading,
  mappings: readonly Part[],
  map: YAMLMap,
  path: string,
): Part | undefined {
  const telling = mappings.map((mapping) => Object.keys(mapping.properties ?? {}))
  const keys = map.items.map(keyOf)
  const index = mappings.findIndex((mapping) =>
    mapping.required?.some((key) => keys.includes(key) && !inAll(key, telling)),
  )
  if (index >= 0) {
    const others = telling.flat().filter((key) => !telling[index]!.includes(key))
    const stray = map.items.find((pair) => others.includes(keyOf(pair) ?? ''))
    if (stray === undefined) return mappings[index]
    const first = keys.find((key) => telling[index]!.includes(key ?? '') && !inAll(key ?? '', telling))
    const message = `"${keyOf(stray)}" does not go with "${first}"; give each an item of its own, beginning with "- "`
    reading.report(offsetOf(stray.key) ?? 0, `${path}: ${message}`)
    return undefined
  }
  const known = [...new Set(telling.flat())]
  const distinct = known.filter((key) => !inAll(key, telling))
  for (const pair of map.items) {
    const key = keyOf(pair)
    if (key !== undefined && known.includes(key)) continue
    const message =
      LATER.get(key ?? '') ?? `unknown key ${quote(key ?? '')}; ${suggest(key ?? '', known, 'known keys')}`
    reading.report(offsetOf(pair.key) ?? 0, `${path}: ${message}`)
  }
  if (keys.every((key) => known.includes(key ?? ''))) {
    const either = distinct.map((key) => `"${key}"`).join(' or ')
    reading.report(offsetOf(map) ?? 0, `${path}: ${either} is missing; add one of them`)
  }
  return undefined
}

function readScalar(reading: Reading, part: Part, node: Node & { value: unknown }, fail: Fail): unknown {
  const scalar = node as Node & { value: unknown; source?: string; type?: string }
  const source = typeof scalar.value === 'string' ? scalar.value : (scalar.source ?? String(scalar.value))
  const { text, replaced, problems } = substitute(source, reading.env)
  for (const { offset, wrong, fix } of problems) {
    const quoted = scalar.type === 'PLAIN' ? 0 : 1
    fail(wrong, fix, (offsetOf(node) ?? 0) + (scalar.type?.startsWith('BLOCK') ? 0 : offset + quoted))
  }
  if (problems.length > 0) return undefined
  // What the environment put in is never shown; what stands in the file is, unless it is a secret by its nature.
  const shown = part.secret ? 'the value' : quote(source)
  const wrong = (what: string, fix: string) => fail(`${shown} ${what}`, fix)
  if (part.kind !== undefined) return KINDS[part.kind].read(text, wrong, part)
  if (part.enum !== undefined) {
    return part.enum.includes(text) ? text : wrong('is not known here', suggest(text, part.enum, 'choices'))
  }
  if (part.type === 'boolean') {
    if (text === 'true' || text === 'false') return text === 'true'
    return wrong('is neither true nor false', 'write true or false')
  }
  if (part.type === 'integer') {
    const value =
      typeof scalar.value === 'number'
        ? scalar.value
        : replaced && /^-?[0-9]+$/.test(text)
          ? Number(text)
          : Number.NaN
    return Number.isSafeInteger(value)
      ? inBounds(part, value, wrong)
      : wrong('is not a whole number', 'write digits alone')
  }
  if (typeof scalar.value !== 'string')
    return wrong(`is read as ${typeof scalar.value}`, `put it in quotes: "${part.secret ? '…' : source}"`)
  if (text.length < (part.minLength ?? 0)) {
    return part.minLength === 1
      ? wrong('is empty', 'give a value')
      : wrong('is too short', `give ${part.minLength} characters or more`)
  }
  if (text.length > (part.maxLength ?? Number.POSITIVE_INFINITY)) {
    return wrong('is too long', `give ${part.maxLength} characters or less`)
  }
  return text
}

/** What a shorthand says, with the defaults of the form that it is short for. */
function expand(full: Part, value: unknown, fail: Fail): unknown {
  const said = value as Record<string, unknown>
  const result: Record<string, unknown> = {}
  for (const [key, part] of Object.entries(full.properties ?? {})) {
    const own = said[key]
    if (own === undefined) {
      if (part.default !== undefined) result[key] = defaultOf(part)
      continue
    }
    if (typeof own === 'number') {
      const { least = part.minimum, most = part.maximum } = part
      if (
        inBounds({ minimum: least!, maximum: most! }, own, (what, fix) => fail(`its ${key} ${what}`, fix)) ===
        undefined
      )
        return
    }
    result[key] = own
  }
  return result
}

function inBounds({ minimum, maximum }: Part, value: number, fail: Fail): number | undefined {
  if (minimum !== undefined && value < minimum)
    return fail(`is less than ${minimum}`, `write ${minimum} or more`)
  if (maximum !== undefined && value > maximum)
    return fail(`is more than ${maximum}`, `write ${maximum} or less`)
  return value
}

/** A default is written as it would stand in the file, and read the same way. */
function defaultOf(part: Part): unknown {
  if (!defaults.has(part)) {
    const document = new Document(part.default)
    const report = (_: number, message: string) => {
      throw new Error(`a default of the schema is not valid: ${message}`)
    }
    defaults.set(part, read({ document, env: {}, budget: MAX_NODES, report }, part, document.contents, '', 0))
  }
  return defaults.get(part)
}

function isMapping(part: Part): boolean {
  return part.properties !== undefined || part.patternProperties !== undefined
}

function flatten(part: Part): readonly Part[] {
  return part.anyOf === undefined ? [part] : part.anyOf.flatMap(flatten)
}

function inAll(key: string, lists: readonly (readonly string[])[]): boolean {
  return lists.every((list) => list.includes(key))
}

function matching(key: string, pattern: string | undefined, values: Part | undefined): Part | undefined {
  return pattern !== undefined && new RegExp(pattern).test(key) ? values : undefined
}

function keyOf(pair: Pair): string | undefined {
  const { key } = pair
  if (!isScalar(key)) return undefined
  return typeof key.value === 'string' ? key.value : (key.source ?? String(key.value))
}

/** Where a node begins in the text; undefined for what has no place in it. */
export function offsetOf(node: unknown): number | undefined {
  return (node as Node | null | undefined)?.range?.[0]
}

function kindOf(node: unknown): string {
  return isMap(node) ? 'a mapping' : isSeq(node) ? 'a list' : 'a single value'
}

function exampleOf(part: Part): string | undefined {
  const example = part.examples?.[0]
  return example === undefined
    ? undefined
    : `such as ${typeof example === 'string' ? example : JSON.stringify(example)}`
}

function quote(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text)
}
