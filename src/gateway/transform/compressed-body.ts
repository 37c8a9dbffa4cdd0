import type { Transform } from 'node:stream'
import * as zlib from 'node:zlib'
import type { Coding } from '../../config/snapshot/compress.js'
import type { Breakable } from '../exchange/faults.js'

/**
 * Maximum number of responses compressed at once. Further ones are sent uncompressed. A gzip encoder takes 300 KiB, a
 * brotli encoder with this window 850 KiB.
 */
const MAX_AT_ONCE = 256
/** Longest time that data stays in the encoder, in ms, although more data would compress better. */
const FLUSH_MS = 10

const { constants } = zlib
/** `ZSTD_c_windowLog`. Like all of zstd, it is missing from the types of Node 20, and from that version itself. */
const ZSTD_WINDOW_LOG = 101
const { createZstdCompress } = zlib as unknown as { createZstdCompress?: (options: object) => Encoder }

interface Encoder extends Transform {
  flush(kind: number | undefined): void
}

/** Window of 256 KiB, which the encoder and the client must store. */
const WINDOW_LOG = 18
const OPTIONS = { highWaterMark: 65_536, chunkSize: 32_768 }
const MAKE: Record<Coding, () => Encoder> = {
  gzip: () => zlib.createGzip({ ...OPTIONS, level: 5 }),
  br: () =>
    zlib.createBrotliCompress({
      ...OPTIONS,
      // The default quality is 11, which is for files that are compressed once.
      params: { [constants.BROTLI_PARAM_QUALITY]: 4, [constants.BROTLI_PARAM_LGWIN]: WINDOW_LOG },
    }),
  zstd: () => createZstdCompress!({ ...OPTIONS, params: { [ZSTD_WINDOW_LOG]: WINDOW_LOG } }),
}

const ALL: readonly Coding[] = createZstdCompress === undefined ? ['br', 'gzip'] : ['zstd', 'br', 'gzip']
const NONE: readonly Coding[] = []
let atOnce = 0

/** Returns the codings that there is room for now. */
export function availableCodings(): readonly Coding[] {
  return atOnce < MAX_AT_ONCE ? ALL : NONE
}

interface CompressedEvents extends Breakable {
  /** Called before the first byte: now, or if none comes for a moment, the header must be sent. */
  begin(): void
  /**
   * Sends a compressed piece.
   *
   * @returns false if the next piece should wait for `drained`
   */
  compressed(chunk: Buffer): boolean
  /** Called when there is room for more data to compress. */
  room(): void
}

/** Response body that passes through an encoder, no faster than the client reads. */
export class CompressedBody {
  readonly #encoder: Encoder
  readonly #flushKind: number | undefined
  #begun = false
  #timer: NodeJS.Timeout | undefined
  /** True if data has come since the last flush. */
  #fresh = false
  #ended = false
  #over = false

  constructor(
    coding: Coding,
    private readonly events: CompressedEvents,
  ) {
    atOnce++
    this.#encoder = MAKE[coding]()
    // A full flush, which is zlib's default, would discard its history.
    this.#flushKind = coding === 'gzip' ? constants.Z_SYNC_FLUSH : undefined
    this.#encoder.on('data', this.#onData)
    this.#encoder.on('drain', () => {
      if (!this.#over) this.#try(() => events.room())
    })
    this.#encoder.on('error', (error) => {
      if (this.#over) return
      this.destroy()
      events.broken(error)
    })
    this.#flushSoon()
  }

  /**
   * Compresses a chunk.
   *
   * @returns false if more should wait for `room`
   */
  write(chunk: Buffer): boolean {
    this.#fresh = true
    this.#flushSoon()
    return this.#encoder.write(chunk)
  }

  /**
   * Ends the body.
   *
   * @param finished called once everything is sent
   */
  end(finished: () => void): void {
    this.#ended = true
    clearTimeout(this.#timer)
    this.#encoder.once('end', () => {
      if (this.#over) return
      this.#release()
      this.#try(() => {
        if (!this.#begun) this.events.begin()
        finished()
      })
    })
    this.#encoder.end()
  }

  /** Continues after the client has read what it was sent. */
  drained(): void {
    this.#encoder.resume()
  }

  /** Stops the output. In particular, nothing is sent that looks like a proper end. */
  destroy(): void {
    if (this.#over) return
    this.#release()
    this.#encoder.destroy()
  }

  #release(): void {
    this.#over = true
    atOnce--
    clearTimeout(this.#timer)
  }

  #onData = (chunk: Buffer): void => {
    if (this.#over) return
    this.#try(() => {
      this.#begin()
      if (!this.events.compressed(chunk)) this.#encoder.pause()
    })
  }

  #begin(): void {
    if (this.#begun) return
    this.#begun = true
    this.events.begin()
  }

  /** Runs a callback of the encoder or a timer. An error in it ends the exchange. */
  #try(step: () => void): void {
    try {
      step()
    } catch (error) {
      this.events.broken(error)
    }
  }

  #flushSoon(): void {
    this.#timer ??= setTimeout(this.#flush, FLUSH_MS)
  }

  #flush = (): void => {
    this.#timer = undefined
    if (this.#over || this.#ended) return
    this.#try(() => this.#begin())
    if (!this.#fresh || this.#over) return
    if (this.#encoder.writableNeedDrain) {
      this.#flushSoon()
      return
    }
    this.#fresh = false
    this.#encoder.flush(this.#flushKind)
  }
}
