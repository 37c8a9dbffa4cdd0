/** Header fields as a flat list: name, value, … Names to look for are in lower case. */

/** Where a name stands in a list whose names are in lower case; -1 when it is not there. */
export function placeOf(list: readonly string[], name: string): number {
  for (let i = 0; i < list.length; i += 2) if (list[i] === name) return i
  return -1
}

/** The first of that name in a list whose names are in lower case. */
export function fieldOf(list: readonly string[], name: string): string | undefined {
  const place = placeOf(list, name)
  return place < 0 ? undefined : list[place + 1]
}

/** The same in a list whose names are written as they came. */
export function sentField(list: readonly string[], name: string): string | undefined {
  for (let i = 0; i < list.length; i += 2) if (isNamed(list[i]!, name)) return list[i + 1]
  return undefined
}

/** The same where there has to be one alone: undefined also when there are two, of which nobody knows who reads which. */
export function onlyField(list: readonly string[], name: string): string | undefined {
  let found: string | undefined
  for (let i = 0; i < list.length; i += 2) {
    if (!isNamed(list[i]!, name)) continue
    if (found !== undefined) return undefined
    found = list[i + 1]!
  }
  return found
}

/** All of that name as one value (RFC 9110 §5.3; so does RFC 9421 §2.1). */
export function joinedField(list: readonly string[], name: string): string | undefined {
  let value: string | undefined
  for (let i = 0; i < list.length; i += 2) {
    if (!isNamed(list[i]!, name)) continue
    const one = list[i + 1]!.trim()
    value = value === undefined ? one : `${value}, ${one}`
  }
  return value
}

/** Gives the first of that name another value. */
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

/** Most names differ in length already. */
function isNamed(written: string, name: string): boolean {
  return written.length === name.length && written.toLowerCase() === name
}
