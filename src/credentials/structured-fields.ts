/**
 * Reads those structured fields (RFC 9651) that signatures need: dictionaries of inner lists of strings, and of byte
 * sequences. Strict: refuses anything else, and a key that occurs twice. RFC 9651 has parsers take the last of two, as
 * the package structured-headers does: two readers of one signature would then see two signatures.
 */

export interface Parameter {
  readonly name: string
  readonly value: string | number | boolean | Buffer
  /** Serialized form: `;created=1618884473`. */
  readonly text: string
}

export interface ListItem {
  readonly value: string
  readonly parameters: readonly Parameter[]
  /** Serialized form with its parameters: `"@path"`. */
  readonly text: string
}

export interface InnerList {
  readonly items: readonly ListItem[]
  readonly parameters: readonly Parameter[]
  /** Serialized form (RFC 9651 §4.1.1.1), whatever blanks the input had. */
  readonly text: string
}

/** Thrown at the first unexpected character, and caught by the functions that read a header. */
class Unfit extends Error {}

interface Cursor {
  readonly text: string
  at: number
}

/** Reads a dictionary whose members are inner lists of strings; returns undefined for anything else. */
export function readInnerLists(text: string): ReadonlyMap<string, InnerList> | undefined {
  return readDictionary(text, innerList)
}

/** Reads a dictionary whose members are byte sequences without parameters; returns undefined for anything else. */
export function readByteSequences(text: string): ReadonlyMap<string, Buffer> | undefined {
  return readDictionary(text, bytes)
}

function readDictionary<T>(text: string, member: (from: Cursor) => T): ReadonlyMap<string, T> | undefined {
  const from: Cursor = { text, at: 0 }
  const found = new Map<string, T>()
  try {
    skip(from, SP)
    while (true) {
      const name = key(from)
      expect(from, '=')
      if (found.has(name)) return undefined
      found.set(name, member(from))
      skip(from, OWS)
      if (from.at === text.length) return found
      expect(from, ',')
      skip(from, OWS)
    }
  } catch (error) {
    if (error instanceof Unfit) return undefined
    throw error
  }
}

const SP = / */y
const OWS = /[ \t]*/y
const KEY = /[a-z*][a-z0-9_.*-]*/y
const STRING = /"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"/y
const INTEGER = /-?[0-9]{1,15}(?![0-9.])/y
const TOKEN = /[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*/y
const BYTES = /:[A-Za-z0-9+/]*={0,2}:/y
const BOOLEAN = /\?[01]/y

/** Reads the text that matches a form at the cursor and moves past it; returns undefined when nothing matches. */
function taken(from: Cursor, form: RegExp): string | undefined {
  form.lastIndex = from.at
  const [found] = form.exec(from.text) ?? []
  if (found !== undefined) from.at += found.length
  return found
}

function skip(from: Cursor, form: RegExp): void {
  taken(from, form)
}

function expect(from: Cursor, character: string): void {
  if (from.text[from.at] !== character) throw new Unfit()
  from.at++
}

function key(from: Cursor): string {
  const found = taken(from, KEY)
  if (found === undefined) throw new Unfit()
  return found
}

function innerList(from: Cursor): InnerList {
  expect(from, '(')
  const items: ListItem[] = []
  while (true) {
    skip(from, SP)
    if (from.text[from.at] === ')') break
    if (items.length > 0 && from.text[from.at - 1] !== ' ') throw new Unfit()
    items.push(item(from))
  }
  from.at++
  const own = parameters(from)
  return { items, parameters: own, text: `(${items.map(({ text }) => text).join(' ')})${textOf(own)}` }
}

function item(from: Cursor): ListItem {
  const quoted = taken(from, STRING)
  if (quoted === undefined) throw new Unfit()
  const own = parameters(from)
  return { value: unquoted(quoted), parameters: own, text: quoted + textOf(own) }
}

const textOf = (list: readonly Parameter[]) => list.map(({ text }) => text).join('')

function parameters(from: Cursor): readonly Parameter[] {
  const list: Parameter[] = []
  while (from.text[from.at] === ';') {
    from.at++
    skip(from, SP)
    const name = key(from)
    if (list.some((other) => other.name === name)) throw new Unfit()
    if (from.text[from.at] === '=') {
      from.at++
      list.push({ name, ...bareItem(from, name) })
    } else list.push({ name, value: true, text: `;${name}` })
  }
  return list
}

function bareItem(from: Cursor, name: string): { value: Parameter['value']; text: string } {
  const quoted = taken(from, STRING)
  if (quoted !== undefined) return { value: unquoted(quoted), text: `;${name}=${quoted}` }
  const digits = taken(from, INTEGER)
  // -0 is 0.
  if (digits !== undefined) return { value: Number(digits) || 0, text: `;${name}=${Number(digits) || 0}` }
  const token = taken(from, TOKEN)
  if (token !== undefined) return { value: token, text: `;${name}=${token}` }
  const boolean = taken(from, BOOLEAN)
  if (boolean !== undefined) {
    const value = boolean === '?1'
    return { value, text: value ? `;${name}` : `;${name}=?0` }
  }
  const value = bytes(from)
  return { value, text: `;${name}=:${value.toString('base64')}:` }
}

function bytes(from: Cursor): Buffer {
  const found = taken(from, BYTES)
  if (found === undefined) throw new Unfit()
  const text = found.slice(1, -1)
  const value = Buffer.from(text, 'base64')
  // Unused bits at the end would allow two texts of one signature.
  if (value.toString('base64') !== text) throw new Unfit()
  return value
}

function unquoted(text: string): string {
  return text.slice(1, -1).replace(/\\(["\\])/g, '$1')
}
