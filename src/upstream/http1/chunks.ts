import { isBroken, readFields } from './fields.js'

enum At {
  /** The first digit of a size. */
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
/** Digits of a size: 2^48 is as much as anybody sends. */
const MAX_DIGITS = 12
/** Longest chunk extension that is accepted, in bytes. Extensions are ignored (RFC 9112 §7.1.1). */
const MAX_EXTENSION = 4_096
const MAX_TRAILERS = 16_384

/** Of bytes and of what they are worth as hexadecimal digits. */
const DIGITS = new Int8Array(256).fill(-1)
for (const digit of '0123456789abcdefABCDEF') DIGITS[digit.charCodeAt(0)] = Number.parseInt(digit, 16)

/** Takes the chunks off a body (RFC 9112 §7.1), however they were cut on their way. */
export class Chunks {
  /** The last one, and what follows it, have come. */
  ended = false
  /** Where in the bytes of the latest `read` its own end. */
  end = 0
  /** What is wrong. */
  wrong: string | undefined
  /** Name, value, … */
  trailers: string[] | null = null
  #at = At.Size
  #left = 0
  #digits = 0
  #extension = 0
  #text = ''

  /**
   * Moves what the chunks hold to the front of those bytes.
   *
   * @returns where it ends
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

  /** A byte between the data. */
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

  /** @returns where they end, or all that there is */
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
    if (readFields(text, 0, end + 2, fields) && !hasFraming(fields)) {
      this.trailers = fields
      this.ended = true
    } else this.wrong = 'a trailer is malformed'
    return from + end + 4 - before
  }
}

/** It comes too late, and to take it for anything is how two readers come to disagree (RFC 9110 §6.5.1). */
function hasFraming(trailers: readonly string[]): boolean {
  for (let i = 0; i < trailers.length; i += 2) {
    const name = trailers[i]!.toLowerCase()
    if (name === 'content-length' || name === 'transfer-encoding') return true
  }
  return false
}
