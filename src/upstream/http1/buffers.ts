/** How much one call to the system reads. */
const READ_BYTES = 65_536
/** A piece that is as long is handed on as it lies; a shorter one is copied, so that it does not hold all of a buffer. */
const LONG_PIECE = 16_384

const shared = Buffer.allocUnsafeSlow(READ_BYTES)
/** Windows writes into the memory for a read before it says that there is something to read. */
const SHARES = process.platform !== 'win32'

/**
 * What one connection reads into. All of them share a buffer: whoever reads is through with it before the next one does. A
 * connection on which long bodies come has one of its own, which goes on with the body, and then another.
 */
export class ReadBuffers {
  #current = SHARES ? shared : Buffer.allocUnsafeSlow(READ_BYTES)
  /** It has been handed on. */
  #spent = false
  /** The latest piece was. */
  #long = false

  /** What the next read goes to, where that is to be another than before. Asked after each read, and before the first. */
  next(first: boolean): Buffer | undefined {
    if (first) return this.#current
    const own = this.#current !== shared
    if (this.#spent || (this.#long && !own)) {
      this.#spent = false
      this.#current = Buffer.allocUnsafeSlow(READ_BYTES)
    } else if (own && !this.#long && SHARES) this.#current = shared
    else return undefined
    return this.#current
  }

  /**
   * A part of what was read, for somebody to keep.
   *
   * @param text whether a short one may be Latin-1 text
   */
  piece(from: number, to: number, text: boolean): Buffer | string {
    const bytes = this.#current
    this.#long = to - from >= LONG_PIECE
    if (text && !this.#long) return bytes.toString('latin1', from, to)
    if (this.#long && bytes !== shared) {
      this.#spent = true
      return bytes.subarray(from, to)
    }
    const piece = Buffer.allocUnsafe(to - from)
    bytes.copy(piece, 0, from, to)
    return piece
  }
}
