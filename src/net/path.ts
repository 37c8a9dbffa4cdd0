/**
 * The canonical path decides the route, the cost and the path for the upstream. No other spelling of a path can reach a
 * backend past the limit of the route.
 */

export interface CanonicalPath {
  /** Path that is forwarded. */
  readonly path: string
  /**
   * Key for the route lookup: `path` with those further escapes undone that most backends undo before they look at a
   * path (`%40`, `%3A`, `%2B`), so that `/users/%40me` finds the route of `/users/@me`. The forwarded path keeps the
   * escapes: RFC 3986 §2.2 does not call the two equal, and some clients sign paths.
   */
  readonly key: string
  /**
   * True if the path holds something that some backends would read as a separator or decode again: `%2F`, `%5C`, `;`,
   * `%3B`, or an encoded percent sign in front of two hex digits. Refused unless the route allows it.
   */
  readonly encoded: boolean
}

const SLASH = 0x2f
const PERCENT = 0x25
const DOT = 0x2e
const SEMICOLON = 0x3b

/** Matches an unreserved character. RFC 3986 §2.3: escaped or not, it means the same, so it is written unescaped. */
const UNRESERVED = /[\w.~-]/

const HEX = /^[0-9a-f]{2}$/i

/** Byte that needs no work. Bytes that are in no class need the slow path or are refused. */
const PLAIN_BYTE = 1
/** Byte that is not allowed in a path (RFC 3986 §3.3) but that browsers send: it is forwarded escaped. */
const ESCAPED_BYTE = 2
const BYTES = new Uint8Array(128).fill(PLAIN_BYTE, 0x21, 0x7f)
for (const char of '%;\\#?') BYTES[char.charCodeAt(0)] = 0
for (const char of '"<>^`{|}') BYTES[char.charCodeAt(0)] = ESCAPED_BYTE

/** Returns true if no byte of the path needs work: the common case, checked without allocating. */
function isPlain(raw: string): boolean {
  let previous = 0
  for (let i = 0; i < raw.length; i++) {
    const code = raw.charCodeAt(i)
    if (BYTES[code] !== PLAIN_BYTE) return false
    // Two slashes, or a dot that begins a segment (perhaps a dot segment), take the slow path.
    if (previous === SLASH && (code === SLASH || code === DOT)) return false
    previous = code
  }
  return true
}

/**
 * Returns the canonical form of the path of a request target (without its query) and the key for the route lookup.
 * Unreserved characters are unescaped, escapes are in upper case (RFC 3986 §6.2.2), repeated slashes are merged, and
 * `"<>^`{|}` are escaped.
 *
 * @returns undefined for a path that must be refused: one that does not start with `/`, or has a dot segment in any
 *   spelling (`..`, `%2e.`, `..;x`, `%252e%252e`), a backslash, `#`, a control or non-ASCII character, `%00` or a
 *   malformed escape
 */
export function canonicalPath(raw: string): CanonicalPath | undefined {
  if (raw.charCodeAt(0) !== SLASH) return undefined
  if (isPlain(raw)) return { path: raw, key: raw, encoded: false }
  let path = ''
  let encoded = false
  for (let i = 0; i < raw.length; i++) {
    const code = raw.charCodeAt(i)
    if (code <= 0x20 || code >= 0x7f || code === 0x5c || code === 0x23 || code === 0x3f) return undefined
    if (code === SLASH) {
      if (path.charCodeAt(path.length - 1) !== SLASH) path += '/'
      continue
    }
    if (code !== PERCENT) {
      if (code === SEMICOLON) encoded = true
      path += BYTES[code] === ESCAPED_BYTE ? `%${code.toString(16).toUpperCase()}` : raw[i]
      continue
    }
    const digits = raw.slice(i + 1, i + 3)
    if (!HEX.test(digits)) return undefined
    const value = Number.parseInt(digits, 16)
    // Controls are refused even when escaped: a program downstream that decodes them would put them into a header or a
    // log.
    if (value < 0x20 || value === 0x7f) return undefined
    i += 2
    const character = String.fromCharCode(value)
    if (UNRESERVED.test(character)) {
      path += character
      continue
    }
    if (value === SLASH || value === 0x5c || value === SEMICOLON) encoded = true
    path += `%${digits.toUpperCase()}`
  }
  if (hasDotSegment(path)) return undefined
  // Searched in the result, where `%25%34%30` has become `%2540`.
  if (/%25[0-9a-f]{2}/i.test(path)) encoded = true
  return { path, key: path.includes('%') ? path.replace(INERT_ESCAPE, unescaped) : path, encoded }
}

/** Matches escapes of printable ASCII, except unreserved characters and separators: `/ \ ; % ? #`. */
const INERT_ESCAPE = /%(?:2[1246-9A-C]|3[AC-E]|40|5[BDE]|60|7[B-D])/g

function unescaped(text: string): string {
  return String.fromCharCode(Number.parseInt(text.slice(1), 16))
}

const NO_READINGS: readonly string[] = Object.freeze([])
/** Rounds of decoding. A path that still changes after them is refused (`hasDotSegment`). */
const ROUNDS = 4

/**
 * Returns other paths that a backend might read: with escapes undone once or more, up to an escaped `?` or `#`, without
 * `;parameters` and trailing blanks in segments, and with a backslash as a slash.
 *
 * @param key key of a canonical path
 * @returns an empty list for most paths: their only reading is the key itself
 */
export function otherReadings(key: string): readonly string[] {
  if (!key.includes('%') && !key.includes(';')) return NO_READINGS
  const readings = new Set<string>()
  let text = key
  for (let round = 0; round <= ROUNDS; round++) {
    readings.add(text)
    readings.add(bareSegments(text))
    readings.add(bareSegments(text.split(/[?#]/, 1)[0]!))
    const decoded = text.replace(/%[0-9a-f]{2}/gi, unescaped)
    if (decoded === text) break
    text = decoded
  }
  readings.delete(key)
  return [...readings]
}

function bareSegments(path: string): string {
  return path
    .split(/[/\\]/)
    .map((segment) => segment.split(';', 1)[0]!.trimEnd())
    .join('/')
    .replace(/\/{2,}/g, '/')
}

/** Matches a segment that is `.` or `..`, or is read as such by who cuts it at a `;`, at an escaped `?` or `#`, or drops blanks. */
const DOTS = /^\.{1,2}(?:$|[;?#]|%3b|%3f|%23|(?:%20|%09)+$)/i

/**
 * Returns true if any reader of this path could find `.` or `..` between separators: after more rounds of decoding,
 * with `%2F`, `%5C` or a backslash as a separator, or with the rest of a segment cut off (`DOTS`).
 */
function hasDotSegment(path: string): boolean {
  let text = path
  for (let round = 0; round < ROUNDS; round++) {
    for (const segment of text.split(/[/\\]|%2f|%5c/i)) {
      if (DOTS.test(segment)) return true
    }
    const decoded = text.replace(/%25/gi, '%').replace(/%2e/gi, '.')
    if (decoded === text) return false
    text = decoded
  }
  // Still changing after four rounds: no honest client sends such a path.
  return true
}
