import type { Fail } from './parse-url.js'

/**
 * Kind of a scalar beyond JSON's types: how its text is parsed, described to editors, and shown when it has changed.
 */
export interface Kind<T> {
  /** Name in the reference. */
  readonly label: string
  /** YAML types that are accepted; `integer` stands for any number. */
  readonly types: readonly ('string' | 'integer' | 'boolean')[]
  /** Pattern for editors. Looser than `read` where a pattern cannot express it. */
  readonly pattern: string
  read(text: string, fail: Fail, bounds: Bounds): T | undefined
  show(value: T): string
}

/** Inclusive bounds, in the unit that the kind is parsed into. */
export interface Bounds {
  readonly least?: number
  readonly most?: number
}

/** Formats a value as it was written. */
export const asText = (value: string) => value
