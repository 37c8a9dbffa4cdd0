import type { WholeReader } from '../sender.js'
import { idleSecondsOf } from './head.js'

/** Longest response that is read here, in bytes: a longer one costs more to copy than to read. */
const MAX_WHOLE = 16_384
const MAX_FIELDS = 100

const TOKEN = 1
const VALUE = 2
const KINDS = new Uint8Array(256)
for (let code = 0x20; code < 0x7f; code++) KINDS[code] = VALUE
for (const char of "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
  KINDS[char.charCodeAt(0)]! |= TOKEN

const CR = 0x0d
const LF = 0x0a
const SPACE = 0x20
const COLON = 0x3a
const ZERO = 0x30
const START = 'HTTP/1.1 '
/** Offset behind `HTTP/1.1 200 `. */
const REASON = 13
const LENGTH = /^(?:0|[1-9][0-9]{0,4})$/

/** Fields that this reader itself understands. */
const OWN = ['content-length', 'transfer-encoding', 'date', 'connection', 'keep-alive']
/** Other fields that belong to the hop (RFC 9110 §7.6.1). */
const HOP = ['trailer', 'te', 'upgrade', 'proxy-connection', 'proxy-authenticate']

const SLOTS = 1_024

/** Returns the next value of the hash over a lower-case name, by which it is looked up without making text of it. */
function hashed(hash: number, byte: number): number {
  return (hash * 31 + (byte | SPACE)) & (SLOTS - 1)
}

/**
 * Creates a reader for the ordinary response: one Content-Length or chunks without extensions and trailers, all of the body
 * there and nothing behind it, usual characters, a connection that stays open. It never refuses anything: whatever else comes, the other reader judges.
 *
 * @param others lower-case names of fields that the caller has to see one by one: a response with one of them is not
 *   read here
 */
export function wholeReader(others: Iterable<string>): WholeReader {
  const special = new Set([...HOP, ...others])
  const slots = new Uint8Array(SLOTS)
  for (const name of [...OWN, ...special]) {
    let hash = 0
    for (let i = 0; i < name.length; i++) hash = hashed(hash, name.charCodeAt(i))
    slots[hash] = 1
  }

  return function readWhole(bytes, size) {
    if (size > MAX_WHOLE) return undefined
    const text = bytes.toString('latin1', 0, size)
    const status = text.startsWith(START) ? statusAt(bytes) : 0
    // A 1xx is not the response, and a 204 or 304 ends with its head, whatever that says.
    if (status < 200 || status > 599 || status === 204 || status === 304) return undefined
    let i = REASON
    while ((KINDS[bytes[i]!]! & VALUE) !== 0) i++
    if (i === REASON || bytes[i] !== CR || bytes[i + 1] !== LF) return undefined
    i += 2
    let head = ''
    let from = 0
    let length = -1
    let chunked = false
    let dated = false
    let idleSeconds = -1
    // Bytes behind `size` are left from an earlier read. The loop may look at them: the check of the length at the end refuses.
    for (let fields = 0; bytes[i] !== CR; fields++) {
      const line = i
      let hash = 0
      let byte = bytes[i]!
      while ((KINDS[byte]! & TOKEN) !== 0) {
        hash = hashed(hash, byte)
        byte = bytes[++i]!
      }
      const nameEnd = i
      const start = i + 2
      if (byte !== COLON || nameEnd === line || bytes[i + 1] !== SPACE || bytes[start] === SPACE)
        return undefined
      i = start
      while ((KINDS[bytes[i]!]! & VALUE) !== 0) i++
      if (i === start || bytes[i - 1] === SPACE || bytes[i] !== CR || bytes[i + 1] !== LF) return undefined
      if (i > size || fields === MAX_FIELDS) return undefined
      i += 2
      if (slots[hash] === 0) continue
      const name = text.slice(line, nameEnd).toLowerCase()
      switch (name) {
        case 'content-length': {
          const value = text.slice(start, i - 2)
          if (length >= 0 || !LENGTH.test(value)) return undefined
          length = Number(value)
          break
        }
        case 'transfer-encoding':
          if (chunked || text.slice(start, i - 2) !== 'chunked') return undefined
          chunked = true
          head += text.slice(from, line)
          from = i
          break
        case 'date':
          dated = true
          break
        case 'connection': {
          const value = text.slice(start, i - 2)
          if (value !== 'keep-alive' && value !== 'Keep-Alive') return undefined
          head += text.slice(from, line)
          from = i
          break
        }
        case 'keep-alive':
          idleSeconds = idleSecondsOf(text.slice(start, i - 2)) ?? idleSeconds
          head += text.slice(from, line)
          from = i
          break
        default:
          if (special.has(name)) return undefined
      }
    }
    if (bytes[i + 1] !== LF || chunked === length >= 0) return undefined
    const body = chunked ? unchunked(text, i + 2) : i + 2 + length === size ? text.slice(i + 2) : undefined
    if (body === undefined) return undefined
    return { status, head: head + text.slice(from, i), dated, chunked, body, idleSeconds }
  }
}

const CHUNK_SIZE = /^[0-9A-Fa-f]{1,4}$/

/** Returns the data of chunks that fill the text to its end (RFC 9112 §7.1); undefined if anything else is in it. */
function unchunked(text: string, from: number): string | undefined {
  let data = ''
  let at = from
  for (;;) {
    const lineEnd = text.indexOf('\r\n', at)
    const digits = text.slice(at, lineEnd)
    if (lineEnd < 0 || !CHUNK_SIZE.test(digits)) return undefined
    const size = Number.parseInt(digits, 16)
    at = lineEnd + 2
    if (!text.startsWith('\r\n', at + size)) return undefined
    if (size === 0) return at + 2 === text.length ? data : undefined
    data += text.slice(at, at + size)
    at += size + 2
  }
}

/** Returns the status, or 0 when there is none at its place. */
function statusAt(bytes: Buffer): number {
  const hundreds = bytes[9]! - ZERO
  const tens = bytes[10]! - ZERO
  const ones = bytes[11]! - ZERO
  if (hundreds < 0 || hundreds > 9 || tens < 0 || tens > 9 || ones < 0 || ones > 9) return 0
  return bytes[12] === SPACE ? hundreds * 100 + tens * 10 + ones : 0
}
