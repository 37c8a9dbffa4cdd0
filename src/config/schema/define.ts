import { OptionalKind, type Static, type TProperties, type TSchema, Type } from '@sinclair/typebox'
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

export function integer(description: string, marks: Marks & { minimum: number; maximum: number }) {
  return Type.Integer({ description, ...marks })
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

/** Defines a mapping with fixed keys. Keys with a default, and optional ones, may be left out of the file. */
export function object<P extends TProperties>(properties: P, description: string, marks: Marks = {}) {
  const made = Type.Object(properties, { additionalProperties: false, description, ...marks })
  const required = Object.keys(properties).filter(
    (key) => properties[key]!.default === undefined && !(OptionalKind in properties[key]!),
  )
  return Object.assign(made, { required })
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
