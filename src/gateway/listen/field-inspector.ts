import { createHuffmanTree } from './huffman.js'

const PREFACE_BYTES = 24
const FRAME_HEAD = 9
const HEADERS = 1
const CONTINUATION = 9
const END_HEADERS = 0x04
const PADDED = 0x08
const PRIORITY = 0x20
/** What this side allows: it announces neither larger frames nor a larger table. */
const MAX_FRAME = 16_384
const MAX_BLOCK = 65_536
const TABLE_BYTES = 4_096
/** Of an entry besides its name and value (RFC 7541 §4.1). */
const ENTRY_BYTES = 32

/** Lengths of the names of the static table, in its order (RFC 7541 Appendix A). */
const STATIC_NAMES = [
  10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13, 12,
  6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3, 16,
]

const IN_NAME = 1
const IN_VALUE = 2
/** What each byte may be part of (RFC 9113 §8.2.1). */
const BYTES = new Uint8Array(256)
for (let byte = 0; byte < 256; byte++)
  if (byte === 0x09 || (byte >= 0x20 && byte !== 0x7f)) BYTES[byte] = IN_VALUE
for (const char of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
  BYTES[char.charCodeAt(0)]! |= IN_NAME
const SPACE = 0x20
const TAB = 0x09
const COLON = 0x3a

const HUFFMAN = createHuffmanTree()
const END_OF_STRING = 256

/** Of the dynamic table: lengths, and whether the two are what they may be. */
interface Entry {
  readonly name: number
  readonly size: number
  readonly goodName: boolean
  readonly good: boolean
}

/** What has been read of a string. */
interface Text {
  length: number
  first: number
  last: number
  /** Of all bytes, what they may be part of. */
  kinds: number
}

/**
 * Looks at the header fields of one client's connection over HTTP/2, which Node reads itself. What breaks RFC 9113 §8.2.1 (CR, LF, NUL,
 * another control, a blank at an edge, a name that is none) Node leaves out without a word: the request would be another one than was
 * sent. Keeps no text, and stops at the first byte that ends the connection anyway.
 */
export class FieldInspector {
  readonly #illegal: (stream: number) => void
  /** Bytes that hold no fields. */
  #skip = PREFACE_BYTES
  readonly #head = Buffer.alloc(FRAME_HEAD)
  #headBytes = 0
  /** Of the payload of a frame with fields, and what has come of it. */
  #left = 0
  #pieces: Buffer[] = []
  #type = 0
  #flags = 0
  #stream = 0
  /** Of a header that several frames hold. */
  #block: Buffer[] = []
  #blockBytes = 0
  #over = false
  // The decoder
  readonly #entries: Entry[] = []
  #tableBytes = 0
  #tableMost = TABLE_BYTES
  #bytes: Buffer = this.#head
  #at = 0
  readonly #text: Text = { length: 0, first: 0, last: 0, kinds: 0 }

  /** @param illegal called with the stream of each header or trailer that holds such a field, before Node sees it */
  constructor(illegal: (stream: number) => void) {
    this.#illegal = illegal
  }

  /** Looks at what has come next, however it was cut. */
  look(chunk: Buffer): void {
    let at = 0
    while (at < chunk.length && !this.#over) {
      const here = chunk.length - at
      if (this.#skip > 0) {
        const size = Math.min(this.#skip, here)
        this.#skip -= size
        at += size
      } else if (this.#left > 0) {
        const size = Math.min(this.#left, here)
        const piece = chunk.subarray(at, at + size)
        this.#left -= size
        at += size
        if (this.#left > 0) this.#pieces.push(Buffer.from(piece))
        else
          this.#payload(this.#pieces.length === 0 ? piece : Buffer.concat([...this.#pieces.splice(0), piece]))
      } else {
        const size = Math.min(FRAME_HEAD - this.#headBytes, here)
        chunk.copy(this.#head, this.#headBytes, at, at + size)
        this.#headBytes += size
        at += size
        if (this.#headBytes === FRAME_HEAD) this.#frame()
      }
    }
  }

  #frame(): void {
    const head = this.#head
    this.#headBytes = 0
    const length = head.readUIntBE(0, 3)
    this.#type = head[3]!
    this.#flags = head[4]!
    this.#stream = head.readUInt32BE(5) & 0x7fffffff
    if (length > MAX_FRAME) this.#over = true
    else if (this.#type !== HEADERS && this.#type !== CONTINUATION) this.#skip = length
    else if (length > 0) this.#left = length
    else this.#payload(this.#head.subarray(0, 0))
  }

  /** All of a frame with fields. */
  #payload(payload: Buffer): void {
    let from = 0
    let to = payload.length
    if (this.#type === HEADERS) {
      if (this.#flags & PADDED) {
        to -= payload[0] ?? 0
        from++
      }
      if (this.#flags & PRIORITY) from += 5
      if (from > to) {
        this.#over = true
        return
      }
    }
    const piece = payload.subarray(from, to)
    const ended = (this.#flags & END_HEADERS) !== 0
    this.#blockBytes += piece.length
    if (this.#blockBytes > MAX_BLOCK) this.#over = true
    else if (!ended) this.#block.push(Buffer.from(piece))
    else {
      const block = this.#block.length === 0 ? piece : Buffer.concat([...this.#block.splice(0), piece])
      this.#blockBytes = 0
      const good = this.#readBlock(block)
      if (good === undefined) this.#over = true
      else if (!good) this.#illegal(this.#stream)
    }
  }

  /** @returns whether all of its fields are what they may be; undefined: it cannot be decoded */
  #readBlock(block: Buffer): boolean | undefined {
    this.#bytes = block
    this.#at = 0
    let good = true
    while (this.#at < block.length) {
      const byte = block[this.#at]!
      if (byte >= 0x80) {
        const index = this.#integer(7)
        if (index > STATIC_NAMES.length) {
          const entry = this.#entry(index)
          if (entry === undefined) return undefined
          good &&= entry.good
        } else if (index < 1) return undefined
      } else if (byte >= 0x20 && byte < 0x40) {
        const most = this.#integer(5)
        if (most < 0 || most > TABLE_BYTES) return undefined
        this.#tableMost = most
        this.#evict(0)
      } else {
        const entry = this.#literal(byte >= 0x40 ? 6 : 4)
        if (entry === undefined) return undefined
        good &&= entry.good
        if (byte >= 0x40) this.#insert(entry)
      }
    }
    return good
  }

  /** A field whose value is here, and perhaps its name. */
  #literal(prefix: number): Entry | undefined {
    const index = this.#integer(prefix)
    let name: number
    let goodName = true
    if (index < 0) return undefined
    if (index > STATIC_NAMES.length) {
      const entry = this.#entry(index)
      if (entry === undefined) return undefined
      name = entry.name
      goodName = entry.goodName
    } else if (index > 0) name = STATIC_NAMES[index - 1]!
    else {
      // A colon in front is a pseudo-header field, of which Node knows each.
      if (!this.#string(COLON)) return undefined
      name = this.#text.length
      goodName = name > 0 && (this.#text.kinds & IN_NAME) !== 0
    }
    if (!this.#string(-1)) return undefined
    const { length, first, last, kinds } = this.#text
    const goodValue = length === 0 || ((kinds & IN_VALUE) !== 0 && !isBlank(first) && !isBlank(last))
    return { name, size: name + length + ENTRY_BYTES, goodName, good: goodName && goodValue }
  }

  #entry(index: number): Entry | undefined {
    return this.#entries[this.#entries.length - (index - STATIC_NAMES.length)]
  }

  #insert(entry: Entry): void {
    this.#evict(entry.size)
    if (entry.size > this.#tableMost) return
    this.#entries.push(entry)
    this.#tableBytes += entry.size
  }

  /** Makes room for so many bytes. */
  #evict(size: number): void {
    while (this.#entries.length > 0 && this.#tableBytes + size > this.#tableMost)
      this.#tableBytes -= this.#entries.shift()!.size
  }

  /** RFC 7541 §5.1. @returns -1 for one that is cut or too large */
  #integer(prefix: number): number {
    const most = 2 ** prefix - 1
    let value = this.#bytes[this.#at++]! & most
    if (value < most) return value
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.#bytes[this.#at++]
      if (byte === undefined) return -1
      value += (byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
    return -1
  }

  /** RFC 7541 §5.2. @param opening a byte that may stand in front of a name. @returns false where it cannot be decoded */
  #string(opening: number): boolean {
    const encoded = (this.#bytes[this.#at]! & 0x80) !== 0
    const length = this.#at < this.#bytes.length ? this.#integer(7) : -1
    const end = this.#at + length
    if (length < 0 || end > this.#bytes.length) return false
    const text = this.#text
    text.length = 0
    text.kinds = IN_NAME | IN_VALUE
    if (encoded) {
      if (!this.#huffman(end, opening)) return false
    } else for (let at = this.#at; at < end; at++) take(text, this.#bytes[at]!, opening)
    this.#at = end
    return true
  }

  #huffman(end: number, opening: number): boolean {
    let node = 0
    for (let at = this.#at; at < end; at++) {
      const byte = this.#bytes[at]!
      for (let bit = 7; bit >= 0; bit--) {
        node = HUFFMAN[node * 2 + ((byte >> bit) & 1)]!
        if (node >= 0) continue
        const symbol = -node - 1
        if (symbol === END_OF_STRING) return false
        take(this.#text, symbol, opening)
        node = 0
      }
    }
    return true
  }
}

function take(text: Text, byte: number, opening: number): void {
  if (text.length === 0) {
    text.first = byte
    if (byte === opening) {
      text.length = 1
      text.last = byte
      return
    }
  }
  text.length++
  text.last = byte
  text.kinds &= BYTES[byte]!
}

function isBlank(byte: number): boolean {
  return byte === SPACE || byte === TAB
}
