/** Options of extensions: the words of JSON Schema that the configuration reader knows, and the type of what they describe. */

interface Words<T> {
  readonly description?: string
  readonly examples?: readonly unknown[]
  /** Value of an option that is left out, as the file would write it. */
  readonly default?: T
  /** True if the value is never shown: not in an error, a log line, a diff or the admin API. */
  readonly secret?: boolean
}

/** Text. With a `format`, it is read into another value: a duration in ms, a size in bytes, a URL. */
interface TextOption extends Words<string | number> {
  readonly type: 'string'
  readonly format?: 'duration' | 'size' | 'url'
  readonly enum?: readonly string[]
  readonly minLength?: number
  readonly maxLength?: number
}

interface NumberOption extends Words<number> {
  readonly type: 'integer' | 'number'
  readonly minimum?: number
  readonly maximum?: number
}

interface BooleanOption extends Words<boolean> {
  readonly type: 'boolean'
}

interface ListOption extends Words<readonly unknown[]> {
  readonly type: 'array'
  readonly items: OptionSchema
  readonly minItems?: number
  readonly maxItems?: number
}

/** Mapping whose keys the user chooses. */
interface MapOption extends Words<object> {
  readonly type: 'object'
  readonly additionalProperties: OptionSchema
}

/** Options: a mapping with fixed keys. Any other key is an error. */
export interface OptionsSchema extends Words<object> {
  readonly type: 'object'
  readonly properties: Readonly<Record<string, OptionSchema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: false
}

export type OptionSchema = TextOption | NumberOption | BooleanOption | ListOption | MapOption | OptionsSchema

type Flat<T> = { readonly [K in keyof T]: T[K] }

/** Keys that always have a value: required ones, and those with a default. */
type Present<S extends OptionsSchema> = {
  [K in keyof S['properties']]: S['properties'][K] extends { default: unknown }
    ? K
    : S extends { required: readonly (infer R)[] }
      ? K extends R
        ? K
        : never
      : never
}[keyof S['properties']]

/** Type of the options that a schema describes. */
export type OptionsOf<S> = S extends { enum: readonly (infer E)[] }
  ? E
  : S extends { type: 'integer' | 'number' } | { format: 'duration' | 'size' }
    ? number
    : S extends { type: 'string' }
      ? string
      : S extends { type: 'boolean' }
        ? boolean
        : S extends { items: infer I }
          ? readonly OptionsOf<I>[]
          : S extends OptionsSchema
            ? Flat<
                { [K in Present<S>]: OptionsOf<S['properties'][K]> } & {
                  [K in Exclude<keyof S['properties'], Present<S>>]?: OptionsOf<S['properties'][K]>
                }
              >
            : S extends { additionalProperties: infer V }
              ? Readonly<Record<string, OptionsOf<V>>>
              : never
