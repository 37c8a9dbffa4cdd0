/** Bytes that one read call takes. */
const READ_BYTES = 65_536
/**
 * A piece of this length is passed on without a copy; a shorter one is copied, so that it does not keep the whole
 * buffer in memory.
 */
const LONG_PIECE = 16_384

const shared = Buffer.allocUnsafeSlow(READ_BYTES)
/**
 * Windows writes into the memory for a read before it reports that there is something to read, so connections share no
 * buffer there.
 */
const SHARES = process.platform !== 'win32'

/**
 * The read buffers of one connection. All connections share one buffer: each reader is done with it before the next one
 * reads. A connection with long bodies has a buffer of its own, which is passed on with the body, and then another.
 */
export class ReadBuffers {
  #current = SHARES ? shared : Buffer.allocUnsafeSlow(READ_BYTES)
  /** True once the buffer has been passed on. */
  #spent = false
  /** True if the latest piece was long. */
  #long = false

  /**
   * Returns the buffer for the next read, if it differs from the one before. Called after each read, and before the
   * first.
   */
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
   * Returns a part of what was read, which the caller may keep.
   *
   * @param text true if a short part may be Latin-1 text
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
