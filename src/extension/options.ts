/** Options of extensions: the words of JSON Schema that the configuration reader knows, and the type of what they describe. */

/** Value of the options. The words that go with each type are those of docs/extensions.md; others are an error at load time. */
export interface OptionSchema {
  readonly type: 'string' | 'integer' | 'number' | 'boolean' | 'array' | 'object'
  readonly title?: string
  readonly description?: string
  readonly examples?: readonly unknown[]
  /** Value of an option that is left out, as the file would write it. */
  readonly default?: unknown
  /** True if the value is never shown: not in an error, a log line, a diff or the admin API. */
  readonly secret?: boolean
  /** Kind of text, which is read into another value: a duration in ms, a size in bytes, a URL. */
  readonly format?: 'duration' | 'size' | 'url'
  readonly enum?: readonly string[]
  readonly minLength?: number
  readonly maxLength?: number
  readonly minimum?: number
  readonly maximum?: number
  readonly items?: OptionSchema
  readonly minItems?: number
  readonly maxItems?: number
  /** Keys of a mapping. Any other key is an error. */
  readonly properties?: Readonly<Record<string, OptionSchema>>
  readonly required?: readonly string[]
  /** Schema of the values of a mapping whose keys the user chooses. */
  readonly additionalProperties?: false | OptionSchema
}

/** Options: a mapping with fixed keys. */
export interface OptionsSchema extends OptionSchema {
  readonly type: 'object'
  readonly properties: Readonly<Record<string, OptionSchema>>
}

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
