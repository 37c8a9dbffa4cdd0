import type { Transform } from 'node:stream'
import * as zlib from 'node:zlib'
import type { Coding } from '../../config/snapshot/compress.js'
import type { Breakable } from '../exchange/faults.js'

/**
 * Responses that are compressed at once; further ones go out as they are. A gzip holds 300 KiB, a brotli of this
 * window 850 KiB.
 */
const MAX_AT_ONCE = 256
/** How long what has come may stay inside before it is sent, although more would compress better. */
const FLUSH_MS = 10

const { constants } = zlib
/** `ZSTD_c_windowLog`. Like all of zstd not in the types of Node 20, nor in that version itself. */
const ZSTD_WINDOW_LOG = 101
const { createZstdCompress } = zlib as unknown as { createZstdCompress?: (options: object) => Encoder }

interface Encoder extends Transform {
  flush(kind: number | undefined): void
}

/** 256 KiB: what the encoder remembers, and the client, too. */
const WINDOW_LOG = 18
const OPTIONS = { highWaterMark: 65_536, chunkSize: 32_768 }
const MAKE: Record<Coding, () => Encoder> = {
  gzip: () => zlib.createGzip({ ...OPTIONS, level: 5 }),
  br: () =>
    zlib.createBrotliCompress({
      ...OPTIONS,
      // The usual quality is 11, made for files that are compressed once.
      params: { [constants.BROTLI_PARAM_QUALITY]: 4, [constants.BROTLI_PARAM_LGWIN]: WINDOW_LOG },
    }),
  zstd: () => createZstdCompress!({ ...OPTIONS, params: { [ZSTD_WINDOW_LOG]: WINDOW_LOG } }),
}

const ALL: readonly Coding[] = createZstdCompress === undefined ? ['br', 'gzip'] : ['zstd', 'br', 'gzip']
const NONE: readonly Coding[] = []
let atOnce = 0

/** The codings that there is room for now. */
export function availableCodings(): readonly Coding[] {
  return atOnce < MAX_AT_ONCE ? ALL : NONE
}

export interface CompressedEvents extends Breakable {
  /** Before the first byte: now, or when none comes for a moment, the header has to go. */
  begin(): void
  /** @returns false when the next piece should wait for `drained` */
  compressed(chunk: Buffer): boolean
  /** There is room for more to compress. */
  room(): void
}

/** The body of a response on its way through an encoder, no faster than the client takes it. */
export class CompressedBody {
  readonly #encoder: Encoder
  readonly #flushKind: number | undefined
  readonly #events: CompressedEvents
  #begun = false
  #timer: NodeJS.Timeout | undefined
  /** Something has come since the last flush. */
  #fresh = false
  #ended = false
  #over = false

  constructor(coding: Coding, events: CompressedEvents) {
    atOnce++
    this.#events = events
    this.#encoder = MAKE[coding]()
    // A full flush, which is what zlib does by itself, would forget what it has seen.
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

  /** @returns false when more should wait for `room` */
  write(chunk: Buffer): boolean {
    this.#fresh = true
    this.#flushSoon()
    return this.#encoder.write(chunk)
  }

  /** @param finished called once all is out */
  end(finished: () => void): void {
    this.#ended = true
    clearTimeout(this.#timer)
    this.#encoder.once('end', () => {
      if (this.#over) return
      this.#release()
      this.#try(() => {
        if (!this.#begun) this.#events.begin()
        finished()
      })
    })
    this.#encoder.end()
  }

  /** The client has taken what it was given. */
  drained(): void {
    this.#encoder.resume()
  }

  /** Nothing more comes out, and least of all an end that looks like one. */
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
      if (!this.#events.compressed(chunk)) this.#encoder.pause()
    })
  }

  #begin(): void {
    if (this.#begun) return
    this.#begun = true
    this.#events.begin()
  }

  /** What is called from here on by the encoder or a timer ends the exchange when it throws. */
  #try(step: () => void): void {
    try {
      step()
    } catch (error) {
      this.#events.broken(error)
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
