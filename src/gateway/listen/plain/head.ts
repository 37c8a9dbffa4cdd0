import type { Config } from '../../../config/schema/schema.js'

/** The head of an unambiguous request, and its body, if that came with it. */
export interface PlainHead {
  readonly method: string
  readonly target: string
  /** Name, value, … as they came. */
  readonly fields: string[]
  readonly body: Buffer | undefined
}

/** Longest head and longest body that are read here, in bytes. */
const MAX_HEAD = 8_192
const MAX_BODY = 16_384

/**
 * Longest text that header values are cut out of, in characters. A substring keeps the whole text alive, and the gateway
 * may remember a caller's name for long.
 */
const MAX_KEPT = 1_024

const METHODS: ReadonlyMap<string, string> = new Map(
  ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'].map((name) => [name, name]),
)

/** Bits of `KINDS`: where a byte is allowed. */
const TOKEN = 1
const VALUE = 2
const TARGET = 4
const KINDS = new Uint8Array(256)
for (let code = 0x20; code < 0x7f; code++) KINDS[code] = VALUE
KINDS[0x09] = VALUE
const ALPHANUMERIC = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'
for (const char of `${ALPHANUMERIC}!#$%&'*+-.^_\`|~`) KINDS[char.charCodeAt(0)]! |= TOKEN
// RFC 3986: exactly the characters that a path and a query may hold.
for (const char of `${ALPHANUMERIC}-._~!$&'()*+,;=:@/?%`) KINDS[char.charCodeAt(0)]! |= TARGET

const CR = 0x0d
const LF = 0x0a
const TAB = 0x09
const SPACE = 0x20
const COLON = 0x3a
const SLASH = 0x2f
const VERSION = ' HTTP/1.1\r\n'
const END = Buffer.from('\r\n\r\n', 'latin1')
const LENGTH = /^(?:0|[1-9][0-9]{0,5})$/

/**
 * Reads a request that any two readers understand the same way: complete, nothing behind it, usual characters, one Host, no
 * transfer coding, nothing to negotiate about the connection. Node's parser judges everything else, which may be as good or
 * an attack: this one never has to refuse anything.
 *
 * @param chunk all bytes that have come
 * @returns undefined if Node's parser has to read it
 */
export function readPlainHead(
  chunk: Buffer,
  { max_headers, max_header_size }: Pick<Config['server'], 'max_headers' | 'max_header_size'>,
): PlainHead | undefined {
  const { length } = chunk
  const bare =
    chunk[length - 1] === LF &&
    chunk[length - 2] === CR &&
    chunk[length - 3] === LF &&
    chunk[length - 4] === CR
  // From here on, an empty line stops every loop.
  if (!bare && chunk.indexOf(END) < 0) return undefined
  let i = 0
  while ((KINDS[chunk[i]!]! & TOKEN) !== 0) i++
  const methodEnd = i
  if (chunk[i++] !== SPACE || chunk[i] !== SLASH) return undefined
  const targetStart = i
  while ((KINDS[chunk[i]!]! & TARGET) !== 0) i++
  const targetEnd = i
  if (i > MAX_HEAD) return undefined
  const text = chunk.toString('latin1', 0, MAX_HEAD)
  const method = METHODS.get(text.slice(0, methodEnd))
  if (method === undefined || !text.startsWith(VERSION, targetEnd)) return undefined
  i += VERSION.length
  const short = text.length <= MAX_KEPT
  const fields: string[] = []
  let hosts = 0
  let contentLength = -1
  while (chunk[i] !== CR) {
    const nameStart = i
    while ((KINDS[chunk[i]!]! & TOKEN) !== 0) i++
    const nameEnd = i
    if (nameEnd === nameStart || chunk[i++] !== COLON) return undefined
    if (chunk[i] === SPACE) i++
    const start = i
    while ((KINDS[chunk[i]!]! & VALUE) !== 0) i++
    if (chunk[i] !== CR || chunk[i + 1] !== LF || i > MAX_HEAD) return undefined
    // Readers differ in which blanks they strip.
    if (i > start && (isBlank(chunk[start]!) || isBlank(chunk[i - 1]!))) return undefined
    const name = text.slice(nameStart, nameEnd)
    const value = short ? text.slice(start, i) : chunk.toString('latin1', start, i)
    switch (nameEnd - nameStart) {
      case 4:
        if (name.toLowerCase() === 'host' && ++hosts > 1) return undefined
        break
      case 6:
        if (name.toLowerCase() === 'expect') return undefined
        break
      case 7:
        if (name.toLowerCase() === 'upgrade') return undefined
        break
      case 10:
        if (name.toLowerCase() === 'connection' && value !== 'keep-alive' && value !== 'Keep-Alive')
          return undefined
        break
      case 14:
        if (name.toLowerCase() === 'content-length') {
          if (contentLength >= 0 || !LENGTH.test(value)) return undefined
          contentLength = Number(value)
        }
        break
      case 16:
        if (name.toLowerCase() === 'proxy-connection') return undefined
        break
      case 17:
        if (name.toLowerCase() === 'transfer-encoding') return undefined
        break
    }
    fields.push(name, value)
    i += 2
  }
  const head = i + 2
  if (hosts !== 1 || chunk[i + 1] !== LF || head > MAX_HEAD || head >= max_header_size) return undefined
  const body = Math.max(contentLength, 0)
  if (length !== head + body || body > MAX_BODY || fields.length > max_headers * 2) return undefined
  return {
    method,
    target: short ? text.slice(targetStart, targetEnd) : chunk.toString('latin1', targetStart, targetEnd),
    fields,
    body: body === 0 ? undefined : chunk.subarray(head),
  }
}

function isBlank(byte: number): boolean {
  return byte === SPACE || byte === TAB
}
