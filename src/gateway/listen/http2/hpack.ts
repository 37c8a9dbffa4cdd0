import { SINGLE_VALUE_FIELDS } from '../../../upstream/http2/fields.js'
import { ConnectionError, ErrorCode } from './frames.js'
import { decodeHuffman } from './huffman.js'

/** Bytes of the dynamic table of each connection: the default, which no SETTINGS of the gateway changes. */
export const TABLE_BYTES = 4_096
/** Overhead of a field, in bytes (RFC 7541 §4.1). */
const FIELD_BYTES = 32

interface Entry {
  readonly name: string
  readonly value: string
  readonly size: number
  readonly validName: boolean
  readonly valid: boolean
}

/** A field name (RFC 9113 §8.2.1), or the name of a pseudo-header field. */
const NAME = /^:?[!#$%&'*+.^_`|~0-9a-z-]+$/
/** A value that RFC 9113 §8.2.1 forbids: with a control character, or a blank at an edge. */
const NOT_VALUE = /[\x00-\x08\x0a-\x1f\x7f]|^[\t ]|[\t ]$/

/** RFC 7541 Appendix A. */
const STATIC: readonly Entry[] = (
  ':authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|:status 200|:status 204|:status 206|' +
  ':status 304|:status 400|:status 404|:status 500|accept-charset|accept-encoding gzip, deflate|accept-language|accept-ranges|accept|' +
  'access-control-allow-origin|age|allow|authorization|cache-control|content-disposition|content-encoding|content-language|' +
  'content-length|content-location|content-range|content-type|cookie|date|etag|expect|expires|from|host|if-match|' +
  'if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|link|location|max-forwards|proxy-authenticate|' +
  'proxy-authorization|range|referer|refresh|retry-after|server|set-cookie|strict-transport-security|transfer-encoding|' +
  'user-agent|vary|via|www-authenticate'
)
  .split('|')
  .map((text) => {
    const [name = '', ...value] = text.split(' ')
    return entryOf(name, true, value.join(' '))
  })

function entryOf(name: string, validName: boolean, value: string): Entry {
  const size = name.length + value.length + FIELD_BYTES
  return { name, value, size, validName, valid: validName && !NOT_VALUE.test(value) }
}

/** Decodes the header blocks of one connection, in their order: each may refer to fields of those before. */
export class HpackDecoder {
  /** The fields of the latest block: name, value, …; empty if there are too many. */
  fields: string[] = []
  /** The latest block holds a field that RFC 9113 §8.2.1 forbids. */
  malformed = false
  /** The latest block has more or longer fields than are allowed. They were not kept. */
  tooLarge = false
  readonly #maxFields: number
  readonly #maxBytes: number
  /** The dynamic table, the newest entry last. */
  readonly #entries: Entry[] = []
  #tableBytes = 0
  #tableMost = TABLE_BYTES
  #size = 0
  #cookies = 0
  #bytes: Buffer = EMPTY
  #at = 0
  #end = 0

  /** @param maxBytes bytes of all fields of a block, with 32 for each */
  constructor(maxFields: number, maxBytes: number) {
    this.#maxFields = maxFields
    this.#maxBytes = maxBytes
  }

  /** @throws ConnectionError COMPRESSION_ERROR if the block is not well-formed. The connection has to end then */
  decode(block: Buffer, from: number, to: number): void {
    this.fields = []
    this.malformed = false
    this.tooLarge = false
    this.#size = 0
    this.#cookies = 0
    this.#bytes = block
    this.#at = from
    this.#end = to
    while (this.#at < to) {
      const byte = block[this.#at]!
      if (byte >= 0x80) this.#keep(this.#entry(this.#integer(7)))
      else if (byte >= 0x40) {
        const entry = this.#literal(6)
        this.#keep(entry)
        this.#insert(entry)
      } else if (byte >= 0x20) this.#resize()
      else this.#keep(this.#literal(4))
    }
    this.#bytes = EMPTY
  }

  #keep(entry: Entry): void {
    this.#size += entry.size
    if (!entry.valid) this.malformed = true
    // Browsers make a field of each cookie (RFC 9113 §8.2.3). Together they are one.
    if (entry.name === 'cookie') this.#cookies++
    if (this.#size > this.#maxBytes || this.fields.length >= (this.#maxFields + this.#cookies) * 2) {
      this.tooLarge = true
      this.fields.length = 0
    } else if (!this.tooLarge) this.fields.push(entry.name, entry.value)
  }

  #literal(prefix: number): Entry {
    const index = this.#integer(prefix)
    if (index > 0) {
      const { name, validName } = this.#entry(index)
      return entryOf(name, validName, this.#string())
    }
    const name = this.#string()
    return entryOf(name, NAME.test(name), this.#string())
  }

  #entry(index: number): Entry {
    const entry =
      index <= STATIC.length ? STATIC[index - 1] : this.#entries[this.#entries.length + STATIC.length - index]
    if (entry === undefined) throw new ConnectionError(ErrorCode.Compression)
    return entry
  }

  #insert(entry: Entry): void {
    this.#evict(entry.size)
    if (entry.size > this.#tableMost) return
    this.#entries.push(entry)
    this.#tableBytes += entry.size
  }

  /** Makes room for that many bytes. */
  #evict(bytes: number): void {
    while (this.#entries.length > 0 && this.#tableBytes + bytes > this.#tableMost)
      this.#tableBytes -= this.#entries.shift()!.size
  }

  /** Changes the size of the table, which only the beginning of a block may do (RFC 7541 §4.2). */
  #resize(): void {
    const most = this.#integer(5)
    if (this.#size > 0 || most > TABLE_BYTES) throw new ConnectionError(ErrorCode.Compression)
    this.#tableMost = most
    this.#evict(0)
  }

  /** Reads an integer (RFC 7541 §5.1). Any that is larger than a block could use is an error. */
  #integer(prefix: number): number {
    const most = (1 << prefix) - 1
    let value = this.#bytes[this.#at++]! & most
    if (value < most) return value
    for (let shift = 0; shift <= 21; shift += 7) {
      if (this.#at >= this.#end) break
      const byte = this.#bytes[this.#at++]!
      value += (byte & 127) << shift
      if (byte < 128) return value
    }
    throw new ConnectionError(ErrorCode.Compression)
  }

  #string(): string {
    if (this.#at >= this.#end) throw new ConnectionError(ErrorCode.Compression)
    const isHuffman = this.#bytes[this.#at]! >= 0x80
    const length = this.#integer(7)
    const from = this.#at
    const to = from + length
    if (to > this.#end) throw new ConnectionError(ErrorCode.Compression)
    this.#at = to
    return isHuffman ? decodeHuffman(this.#bytes, from, to) : this.#bytes.toString('latin1', from, to)
  }
}

const EMPTY = Buffer.alloc(0)

/** Returns an integer as Latin-1 text (RFC 7541 §5.1). */
function integer(prefix: number, first: number, value: number): string {
  const most = (1 << prefix) - 1
  if (value < most) return String.fromCharCode(first | value)
  let text = String.fromCharCode(first | most)
  let rest = value - most
  for (; rest >= 128; rest >>= 7) text += String.fromCharCode((rest & 127) | 128)
  return text + String.fromCharCode(rest)
}

/** How a field name is sent. */
interface SentName {
  /** The beginning of a literal field that enters no table (RFC 7541 §6.2.2); undefined: the field is not sent. */
  readonly prefix: string | undefined
  /** Clients get the first of several. */
  readonly single: boolean
}

/** Names that were sent before. Upstreams choose them, so their number is bounded. */
const names = new Map<string, SentName>()
const MAX_NAMES = 1_000
/** Lengths up to 126 as Latin-1 text: one byte each. */
const LENGTHS = Array.from({ length: 127 }, (_, length) => String.fromCharCode(length))
const STATUSES = new Map<number, string>()
for (const [i, { name, value }] of STATIC.entries())
  if (name === ':status') STATUSES.set(Number(value), integer(7, 0x80, i + 1))
const STATUS_PREFIX = integer(4, 0, 8)

/** Connection-specific fields of HTTP/1.1, which HTTP/2 does not have (RFC 9113 §8.2.2). */
const HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'te',
  'upgrade',
  'http2-settings',
])
const SENDABLE_NAME = /^[\w!#$%&'*+.^`|~-]+$/
const UNSENDABLE_VALUE = /[^\t\x20-\x7e\x80-\xff]/

function sentName(given: string): SentName {
  const known = names.get(given)
  if (known !== undefined) return known
  if (!SENDABLE_NAME.test(given)) throw new TypeError(`the field ${JSON.stringify(given)} cannot be sent`)
  const name = given.toLowerCase()
  const index = STATIC.findIndex((entry) => entry.name === name) + 1
  const prefix = index > 0 ? integer(4, 0, index) : `\0${integer(7, 0, name.length)}${name}`
  const sent = { prefix: HOP.has(name) ? undefined : prefix, single: SINGLE_VALUE_FIELDS.has(name) }
  if (names.size < MAX_NAMES) names.set(given, sent)
  return sent
}

/**
 * Encodes fields as Latin-1 text, each by itself: no dynamic table, no Huffman code. Leaves out connection-specific fields.
 *
 * @param list name, value, …
 * @throws TypeError when a field cannot be sent
 */
export function encodeFields(list: readonly string[]): string {
  let text = ''
  let singles: string[] | undefined
  for (let i = 0; i < list.length; i += 2) {
    const { prefix, single } = sentName(list[i]!)
    const value = list[i + 1]!
    if (UNSENDABLE_VALUE.test(value))
      throw new TypeError(`the field ${JSON.stringify(list[i])} cannot be sent`)
    if (prefix === undefined) continue
    if (single) {
      // Two that differ have no meaning in HTTP/1.1 either.
      if (singles === undefined) singles = [prefix]
      else if (singles.includes(prefix)) continue
      else singles.push(prefix)
    }
    const { length } = value
    text += prefix + (length < 127 ? LENGTHS[length]! : integer(7, 0, length)) + value
  }
  return text
}

/** The beginning of a block that makes the dynamic table empty (RFC 7541 §6.3). */
export const NO_TABLE = integer(5, 0x20, 0)

export function encodeStatus(status: number): string {
  return STATUSES.get(status) ?? `${STATUS_PREFIX}\x03${status}`
}
