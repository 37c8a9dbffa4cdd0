import { OptionalKind, type Static, type TProperties, type TSchema, Type } from '@sinclair/typebox'
import type { Bounds } from '../values/scalar-type.js'
import { KINDS, type KindName, type KindValue, NAME_PATTERN } from '../values/scalar-types.js'

/**
 * The words that the schema is written in. Every part is a JSON schema of what stands in the file, typed as what
 * it is read into, so neither is said twice. The keys that JSON Schema does not know (`Marks`) tell the reader what
 * to do; the generated `config/schema.json` leaves them out.
 */
export interface Marks extends Bounds {
  description?: string
  /** As it would stand in the file. */
  default?: unknown
  examples?: unknown[]
  /** How the text is read. */
  kind?: KindName
  /** Never shown: not in an error, a log, a diff or the admin API. */
  secret?: boolean
  /** A change takes effect at the next start only; false: at once, within something that waits for it. */
  restart?: boolean
  /** It is the path of a file, from the folder of the configuration file; or one of these words. */
  file?: readonly string[]
  /** One value may stand for a list of one. */
  wrap?: boolean
  /** The scalar stands for the object next to it, whose defaults fill the rest. */
  shorthand?: boolean
  /** What to do about a key that is no good. */
  keyFix?: string
  /** The name that the value is kept under, when it is not its key in the file. */
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

/** A mapping whose keys are ours. What has a default, or is optional, may be left out of the file. */
export function object<P extends TProperties>(properties: P, description: string, marks: Marks = {}) {
  const made = Type.Object(properties, { additionalProperties: false, description, ...marks })
  const required = Object.keys(properties).filter(
    (key) => properties[key]!.default === undefined && !(OptionalKind in properties[key]!),
  )
  return Object.assign(made, { required })
}

/** A mapping whose keys are the user's: names of services, say. */
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

/** One of several forms, all read into `T`. */
export function either<T>(forms: readonly TSchema[], description: string, marks: Marks = {}) {
  return Type.Unsafe<T>({ anyOf: forms, description, ...marks })
}
