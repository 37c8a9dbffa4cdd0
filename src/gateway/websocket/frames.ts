/** Opcode of a Close frame (RFC 6455 §5.5.1). */
const CLOSE = 8

/**
 * Follows the frames (RFC 6455 §5.2) of one direction of a tunnel without looking into them. It tells where a frame can be
 * inserted: anywhere else its bytes would be read as part of a message.
 */
export class FrameBoundary {
  /** Bytes of the current frame's header that have arrived. */
  #have = 0
  /** Length of that header, as far as it is known. */
  #size = 2
  #length = 0
  #lengthEnd = 2
  /** Bytes of the payload still to come. */
  #payload = 0
  #opcode = 0
  #closed = false

  /** Returns whether the bytes read so far end with a frame, or there are none. */
  get clean(): boolean {
    return this.#have === 0 && this.#payload === 0
  }

  /** Returns whether a Close frame has passed: nothing may follow it. */
  get closed(): boolean {
    return this.#closed
  }

  /**
   * Reads a chunk. Looks at 14 bytes of each frame at most.
   *
   * @param stop stop behind the first frame that ends
   * @returns how many bytes of the chunk were read
   */
  read(chunk: Buffer, stop = false): number {
    let i = 0
    while (i < chunk.length) {
      if (this.#payload > 0) {
        const some = Math.min(this.#payload, chunk.length - i)
        this.#payload -= some
        i += some
      } else this.#header(chunk[i++]!)
      if (stop && this.clean) break
    }
    return i
  }

  #header(byte: number): void {
    const at = this.#have++
    if (at === 0) {
      this.#opcode = byte & 0x0f
    } else if (at === 1) {
      const short = byte & 0x7f
      this.#lengthEnd = short === 126 ? 4 : short === 127 ? 10 : 2
      this.#length = short < 126 ? short : 0
      this.#size = this.#lengthEnd + (byte >= 0x80 ? 4 : 0)
    } else if (at < this.#lengthEnd) {
      // Past 2^53 the number is no longer exact, but no such frame can ever end.
      this.#length = this.#length * 256 + byte
    }
    if (this.#have < this.#size) return
    this.#have = 0
    this.#size = 2
    this.#payload = this.#length
    if (this.#opcode === CLOSE) this.#closed = true
  }
}

/**
 * Builds a Close frame from a server: unmasked.
 *
 * @param reason for the developer of the client: at most 123 bytes
 */
export function closeFrame(code: number, reason = ''): Buffer {
  const text = Buffer.from(reason)
  return Buffer.concat([Buffer.from([0x80 | CLOSE, 2 + text.length, code >> 8, code & 0xff]), text])
}
