import { type Static, type TSchema, Type } from '@sinclair/typebox'
import type { Bounds } from '../values/scalar-type.js'
import { KINDS, type KindName, type KindValue, NAME_PATTERN } from '../values/scalar-types.js'

/**
 * Vocabulary of the schema. Every part is a JSON schema of the text in the file, typed as the value it is read into, so
 * neither is written twice. The keys that JSON Schema does not know (`Marks`) instruct the reader. The generated
 * `config/schema.json` leaves them out.
 */
export interface Marks extends Bounds {
  description?: string
  /** Default, as it would be written in the file. */
  default?: unknown
  examples?: unknown[]
  /** Kind that parses the text. */
  kind?: KindName
  /** True if the value is never shown: not in an error, a log, a diff or the admin API. */
  secret?: boolean
  /** True if a change only takes effect at the next start; false: at once, within a part that waits for it. */
  restart?: boolean
  /** Set for the path of a file, relative to the folder of the configuration file. One of these words is allowed, too. */
  file?: readonly string[]
  /** True if a single value may stand for a list of one. */
  wrap?: boolean
  /** True if the scalar is short for the object next to it, whose defaults fill the rest. */
  shorthand?: boolean
  /** Remedy for an invalid key. */
  keyFix?: string
  /** True if the reader leaves the value as a YAML node: an extension has a schema of its own. */
  raw?: boolean
  /** Name of the value in the loaded configuration, if it differs from the key in the file. */
  becomes?: string
}

export function scalar<K extends KindName>(kind: K, description: string, marks: Marks = {}) {
  return Type.Unsafe<KindValue<K>>({
    type: 'string',
    pattern: KINDS[kind].pattern,
    kind,
    description,
    ...marks,
  })
}

export function string(description: string, marks: Marks & { minLength?: number; maxLength?: number } = {}) {
  return Type.String({ minLength: 1, description, ...marks })
}

/** Inclusive bounds. */
type Range = readonly [least: number, most: number]

export function integer(description: string, [minimum, maximum]: Range, marks: Marks = {}) {
  return Type.Integer({ description, ...marks, minimum, maximum })
}

/** @param range in ms */
export function duration(description: string, [least, most]: Range, marks: Marks = {}) {
  return scalar('duration', description, { ...marks, least, most })
}

/** @param range in bytes */
export function size(description: string, [least, most]: Range, marks: Marks = {}) {
  return scalar('size', description, { ...marks, least, most })
}

export function boolean(description: string, marks: Marks = {}) {
  return Type.Boolean({ description, ...marks })
}

export function choice<const T extends string>(values: readonly T[], description: string, marks: Marks = {}) {
  return Type.Unsafe<T>({ type: 'string', enum: values, description, ...marks })
}

export function list<T extends TSchema>(
  items: T,
  description: string,
  marks: Marks & { minItems?: number; maxItems?: number; uniqueItems?: boolean } = {},
) {
  return Type.Array(items, { description, ...marks })
}

/** Keys of a mapping. */
export type Properties = Readonly<Record<string, TSchema>>
type Mapping<P extends Properties> = {
  [K in keyof P as K extends `${string}?` ? never : K]: Static<P[K]>
} & {
  [K in keyof P as K extends `${infer Name}?` ? Name : never]?: Static<P[K]>
}
type Flat<T> = { [K in keyof T]: T[K] }

/**
 * Defines a mapping with fixed keys. `'name?'` may be left out of the file, and so may a key with a default, which then
 * has that value.
 */
export function object<P extends Properties>(keys: P, description: string, marks: Marks = {}) {
  const properties: Record<string, TSchema> = {}
  const required: string[] = []
  for (const [key, part] of Object.entries(keys)) {
    const name = key.endsWith('?') ? key.slice(0, -1) : key
    properties[name] = part
    if (name === key && part.default === undefined) required.push(name)
  }
  const shape = { type: 'object', required, properties }
  return Type.Unsafe<Flat<Mapping<P>>>({ additionalProperties: false, description, ...marks, ...shape })
}

/** Defines options whose schema is that of an extension's module. `load.ts` reads them. */
export function rawOptions(description: string) {
  return Type.Unsafe<object>({ type: 'object', raw: true, description })
}

/** Defines a mapping whose keys the user chooses, such as names of services. */
export function named<T extends TSchema>(
  values: T,
  description: string,
  marks: Marks & { keys?: string } = {},
) {
  const { keys = NAME_PATTERN, ...rest } = marks
  return Type.Unsafe<Record<string, Static<T>>>({
    type: 'object',
    patternProperties: { [keys]: values },
    additionalProperties: false,
    description,
    ...rest,
  })
}

/** Defines several forms of a value, all read into `T`. */
export function either<T>(forms: readonly TSchema[], description: string, marks: Marks = {}) {
  return Type.Unsafe<T>({ anyOf: forms, description, ...marks })
}

/** Defines a value that a list of several may stand for. It is read into a list in any case. */
export function oneOrMore<T extends TSchema>(
  item: T,
  maxItems: number,
  description: string,
  marks: Marks = {},
) {
  const several = list(item, 'Several', { minItems: 1, maxItems })
  return either<Static<T>[]>([item, several], description, { wrap: true, ...marks })
}

/** Defines settings that `true` or `false` may stand for. */
export function switchable<T extends TSchema>(
  what: string,
  settings: T,
  description: string,
  marks: Marks = {},
) {
  const short = scalar('switch', what, { shorthand: true })
  return either<Static<T>>([short, settings], description, marks)
}

/** Longest time that a timer of Node can wait, in ms: whole days. */
const LONGEST_TIMER = 24 * 86_400_000

/** Defines a duration that a timer waits. */
export function timer(description: string, fallback: string | undefined, least = 1, marks: Marks = {}) {
  const standard = fallback === undefined ? {} : { default: fallback }
  return duration(description, [least, LONGEST_TIMER], { ...standard, ...marks })
}

/** Defines the path of a file, relative to the folder of the configuration file. */
export function filePath(description: string, marks: Marks = {}) {
  return string(description, { file: [], maxLength: 4096, ...marks })
}

/** Defines headers that go along with requests of the gateway's own. Their values are secret. */
export function ownHeaders(description: string, marks: { maxLength?: number } = {}) {
  return named(string('Value of the header', { secret: true, ...marks }), description, {
    keys: '^[A-Za-z0-9-]{1,64}$',
    keyFix: 'a header name here has letters, digits and "-"',
  })
}
