/** The syntax that header and trailer sections of HTTP/1.1 share (RFC 9112 §5), read without leniency. */

const TOKEN = 1
const VALUE = 2

/** Allowed uses of each byte: in a name (RFC 9110 §5.6.2), in a value (§5.5: visible, space, tab, obs-text). */
const BYTES = new Uint8Array(256)
for (let byte = 0; byte < 256; byte++) {
  if (byte === 0x09 || (byte >= 0x20 && byte !== 0x7f)) BYTES[byte] = VALUE
}
for (const char of "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") {
  BYTES[char.charCodeAt(0)] = TOKEN | VALUE
}

const TAB = 0x09
const LF = 0x0a
const CR = 0x0d
const SPACE = 0x20
const COLON = 0x3a

/**
 * Reads header lines between two offsets, each of them ended by CR LF.
 *
 * @param text one character per byte
 * @param fields receives name, value, … as written, without the spaces around a value
 * @returns false when a line is invalid: folded, without a name, or with a byte that is not allowed
 */
export function readFields(text: string, from: number, to: number, fields: string[]): boolean {
  let at = from
  while (at < to) {
    const name = at
    while ((BYTES[text.charCodeAt(at)]! & TOKEN) !== 0) at++
    if (at === name || text.charCodeAt(at) !== COLON) return false
    const colon = at++
    while (isBlank(text.charCodeAt(at))) at++
    const value = at
    at = endOfValue(text, at)
    if (text.charCodeAt(at) !== CR || text.charCodeAt(at + 1) !== LF) return false
    let end = at
    while (end > value && isBlank(text.charCodeAt(end - 1))) end--
    fields.push(text.slice(name, colon), text.slice(value, end))
    at += 2
  }
  return at === to
}

/** Returns the next offset of a byte that no value may contain, such as the CR at its end. */
export function endOfValue(text: string, from: number): number {
  let at = from
  while ((BYTES[text.charCodeAt(at)]! & VALUE) !== 0) at++
  return at
}

function isBlank(byte: number): boolean {
  return byte === SPACE || byte === TAB
}

/** Returns true if a field says how the body is framed. */
export function isFraming(name: string): boolean {
  const lower = name.toLowerCase()
  return lower === 'content-length' || lower === 'transfer-encoding'
}

/** Returns true if incomplete lines already contain an invalid byte: a bare CR or LF, or another control. */
export function isBroken(text: string): boolean {
  return BROKEN.test(text)
}

const BROKEN = /(?:^|[^\r])\n|\r[^\n]|[\0-\x08\x0b\x0c\x0e-\x1f\x7f]/
