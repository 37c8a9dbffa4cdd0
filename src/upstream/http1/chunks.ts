import { isBroken, isFraming, readFields } from './fields.js'

enum At {
  /** At the first digit of a size. */
  Size,
  Digits,
  /** Between a size and an extension. */
  Blank,
  Extension,
  SizeLf,
  Data,
  DataCr,
  DataLf,
  Trailers,
}

const LF = 0x0a
const CR = 0x0d
const SEMICOLON = 0x3b
const SPACE = 0x20
const TAB = 0x09
const DELETE = 0x7f
/** Most digits of a size: 2^48 is more than any real body. */
const MAX_DIGITS = 12
/** Longest chunk extension that is accepted, in bytes. Extensions are ignored (RFC 9112 §7.1.1). */
const MAX_EXTENSION = 4_096
const MAX_TRAILERS = 16_384

/** Value of each byte as a hexadecimal digit. */
const DIGITS = new Int8Array(256).fill(-1)
for (const digit of '0123456789abcdefABCDEF') DIGITS[digit.charCodeAt(0)] = Number.parseInt(digit, 16)

/** Removes the chunk framing from a body (RFC 9112 §7.1), however the network has split it. */
export class Chunks {
  /** True once the last chunk and the trailers have arrived. */
  ended = false
  /** Offset of the body's end in the bytes of the latest `read`. */
  end = 0
  /** The fault in the framing, if any. */
  wrong: string | undefined
  /** Name, value, … */
  trailers: string[] | null = null
  #at = At.Size
  #left = 0
  #digits = 0
  #extension = 0
  #text = ''

  /**
   * Moves the data of the chunks to the front of the bytes.
   *
   * @returns where the data ends
   */
  read(bytes: Buffer, from: number, to: number): number {
    let at = from
    let out = from
    while (at < to) {
      switch (this.#at) {
        case At.Data: {
          const size = Math.min(this.#left, to - at)
          if (out !== at) bytes.copyWithin(out, at, at + size)
          out += size
          at += size
          this.#left -= size
          if (this.#left === 0) this.#at = At.DataCr
          break
        }
        case At.Trailers:
          at = this.#readTrailers(bytes, at, to)
          this.end = at
          if (this.ended || this.wrong !== undefined) return out
          break
        default:
          if (!this.#framing(bytes[at++]!)) {
            this.wrong ??= 'a chunk is malformed'
            return out
          }
      }
    }
    this.end = at
    return out
  }

  /** Reads a byte between the data. */
  #framing(byte: number): boolean {
    switch (this.#at) {
      case At.Size:
      case At.Digits: {
        const digit = DIGITS[byte]!
        if (digit >= 0) {
          this.#at = At.Digits
          this.#left = this.#left * 16 + digit
          return ++this.#digits <= MAX_DIGITS
        }
        if (this.#at === At.Size) return false
        if (byte === CR) this.#at = At.SizeLf
        else if (byte === SEMICOLON) this.#at = At.Extension
        else if (byte === SPACE || byte === TAB) this.#at = At.Blank
        else return false
        return true
      }
      case At.Blank:
        if (byte === SEMICOLON) this.#at = At.Extension
        else if (byte !== SPACE && byte !== TAB) return false
        return ++this.#extension <= MAX_EXTENSION
      case At.Extension:
        if (byte === CR) this.#at = At.SizeLf
        else if ((byte < SPACE && byte !== TAB) || byte === DELETE) return false
        return ++this.#extension <= MAX_EXTENSION
      case At.SizeLf:
        this.#extension = 0
        this.#digits = 0
        this.#at = this.#left === 0 ? At.Trailers : At.Data
        return byte === LF
      case At.DataCr:
        this.#at = At.DataLf
        return byte === CR
      default:
        this.#at = At.Size
        return byte === LF
    }
  }

  /**
   * Reads the trailers.
   *
   * @returns where they end, or the end of the bytes
   */
  #readTrailers(bytes: Buffer, from: number, to: number): number {
    const before = this.#text.length
    const text = this.#text + bytes.toString('latin1', from, Math.min(to, from + MAX_TRAILERS))
    const none = text.startsWith('\r\n')
    const end = none ? 0 : text.indexOf('\r\n\r\n')
    if (end + 4 > MAX_TRAILERS || (end < 0 && text.length >= MAX_TRAILERS)) {
      this.wrong = 'the trailers are larger than 16 KiB'
      return to
    }
    if (end < 0) {
      this.#text = text
      if (isBroken(text)) this.wrong = 'a trailer is malformed'
      return to
    }
    if (none) {
      this.ended = true
      return from + 2 - before
    }
    const fields: string[] = []
    // Framing comes too late in a trailer: two readers that treat it differently would disagree (RFC 9110 §6.5.1).
    if (readFields(text, 0, end + 2, fields) && !fields.some((name, i) => i % 2 === 0 && isFraming(name))) {
      this.trailers = fields
      this.ended = true
    } else this.wrong = 'a trailer is malformed'
    return from + end + 4 - before
  }
}
