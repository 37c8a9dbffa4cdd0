/** Functions for headers as a flat list: name, value, … Names to look for are in lower case. */

/** Returns the index of a name in a list with lower-case names; -1 if it is missing. */
export function placeOf(list: readonly string[], name: string): number {
  for (let i = 0; i < list.length; i += 2) if (list[i] === name) return i
  return -1
}

/** Returns the first value of that name in a list with lower-case names. */
export function fieldOf(list: readonly string[], name: string): string | undefined {
  const place = placeOf(list, name)
  return place < 0 ? undefined : list[place + 1]
}

/** Returns the same in a list with names as received. */
export function sentField(list: readonly string[], name: string): string | undefined {
  for (let i = 0; i < list.length; i += 2) if (isNamed(list[i]!, name)) return list[i + 1]
  return undefined
}

/** Returns the value if there is exactly one. Undefined for two, because readers may use different ones. */
export function onlyField(list: readonly string[], name: string): string | undefined {
  let found: string | undefined
  for (let i = 0; i < list.length; i += 2) {
    if (!isNamed(list[i]!, name)) continue
    if (found !== undefined) return undefined
    found = list[i + 1]!
  }
  return found
}

/** Joins all values of that name (RFC 9110 §5.3; so does RFC 9421 §2.1). */
export function joinedField(list: readonly string[], name: string): string | undefined {
  let value: string | undefined
  for (let i = 0; i < list.length; i += 2) {
    if (!isNamed(list[i]!, name)) continue
    const one = list[i + 1]!.trim()
    value = value === undefined ? one : `${value}, ${one}`
  }
  return value
}

/** Replaces the first value of that name. */
export function replaceField(list: string[], name: string, value: string): void {
  for (let i = 0; i < list.length; i += 2) {
    if (!isNamed(list[i]!, name)) continue
    list[i + 1] = value
    return
  }
}

export function removeField(list: string[], name: string): void {
  for (let i = list.length - 2; i >= 0; i -= 2) if (isNamed(list[i]!, name)) list.splice(i, 2)
}

/** Compares lengths first, because most names differ in length. */
function isNamed(written: string, name: string): boolean {
  return written.length === name.length && written.toLowerCase() === name
}

/**
 * Percent-encodes text for a header, as UTF-8: everything but printable ASCII, and the percent sign, so that two texts never
 * look the same.
 *
 * @param first lowest byte that stays: 0x20 keeps spaces, 0x21 encodes them
 */
export function percentEncoded(text: string, first: 0x20 | 0x21): string {
  let out = ''
  for (const byte of Buffer.from(text, 'utf8')) {
    const plain = byte >= first && byte < 0x7f && byte !== 0x25
    out += plain ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
  }
  return out
}
