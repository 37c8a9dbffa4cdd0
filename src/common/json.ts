/** Reads what may come from anybody: texts of the store, messages, answers of other processes. */

/** Members of an object that came from outside. */
export type Fields = Readonly<Record<string, unknown>>

/** Parses JSON; undefined if it is none. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Returns the members of a value; none if it is no object. */
export function fieldsOf(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? (value as Fields) : {}
}

/** Returns true for a whole number from 0, exact in a double. */
export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

/** Latest time that a Date can hold, in ms (ECMA-262, 21.4.1.1). A later time cannot be displayed. */
const LATEST = 8.64e15

/** Returns true for a time: unix ms, a whole number. */
export function isTime(value: unknown): value is number {
  return isCount(value) && value <= LATEST
}
