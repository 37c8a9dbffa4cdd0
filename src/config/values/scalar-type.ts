import type { Fail } from './parse-url.js'

/**
 * What a scalar of the file can be beyond JSON's types: how its text is read, what editors are told, and how it is
 * shown when it has changed.
 */
export interface Kind<T> {
  /** What it is called in the reference. */
  readonly label: string
  /** What YAML may take it for; `integer` is any number. */
  readonly types: readonly ('string' | 'integer' | 'boolean')[]
  /** For editors. Looser than `read` where a pattern cannot say it. */
  readonly pattern: string
  read(text: string, fail: Fail, bounds: Bounds): T | undefined
  show(value: T): string
}

/** Both ends included, in the unit that the kind is read into. */
export interface Bounds {
  readonly least?: number
  readonly most?: number
}

/** Shown as it was written. */
export const asText = (value: string) => value
