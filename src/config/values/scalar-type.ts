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

/** Makes a kind. Its texts are YAML strings unless `types` says otherwise. */
export function kindOf<T>(
  label: string,
  pattern: string,
  read: Kind<T>['read'],
  show: Kind<T>['show'],
  types: Kind<T>['types'] = ['string'],
): Kind<T> {
  return { label, types, pattern, read, show }
}

/** Makes a kind whose value is text, written as it was read. */
export function textKind(
  label: string,
  pattern: string,
  read: Kind<string>['read'],
  types?: Kind<string>['types'],
): Kind<string> {
  return kindOf(label, pattern, read, (value) => value, types)
}

/**
 * Makes a kind of text that only has to match its pattern.
 *
 * @param most maximum length, in characters
 */
export function patternKind(
  label: string,
  pattern: string,
  [wrong, fix]: readonly [wrong: string, fix: string],
  most = Number.POSITIVE_INFINITY,
  types?: Kind<string>['types'],
): Kind<string> {
  const whole = new RegExp(pattern)
  const fits = (value: string) => whole.test(value) && value.length <= most
  return textKind(label, pattern, (value, fail) => (fits(value) ? value : fail(wrong, fix)), types)
}
