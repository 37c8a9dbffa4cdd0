import { withTimeout } from '../../common/wait.js'
import { A_MINUTE, createThrottle } from '../../log-throttle.js'
import type { Output } from './output.js'

/**
 * Writes lines to a file or an output of the process, buffered and without ever waiting: a destination that is stuck,
 * full or gone costs lines, which are counted, and neither time nor memory. Does not use sonic-boom, which pino brings.
 * sonic-boom keeps what a full disk or a closed pipe has refused and writes it again, so that later lines wait behind it;
 * its way to open a pipe waits for a reader; and it does not tell how many lines an error has cut.
 */
export type LineSink = ReturnType<typeof createLineSink>

export interface LineSinkOptions {
  /** Called for a failed write, at most once a minute, and for a failed reopen. */
  readonly onProblem?: ((error: Error) => void) | undefined
  /** Longest time that a line waits for others, in ms. */
  readonly flushMs?: number
  /** Bytes that are collected for one write. */
  readonly chunkSize?: number
  /** Most bytes that may wait for a slow output. */
  readonly maxBytes?: number
}

interface Chunk {
  /** Bytes to write: all of a buffer, or its front. */
  readonly bytes: Buffer
  /** Buffer that can take another chunk once this one is written. */
  readonly buffer: Buffer | undefined
  readonly lines: number
}

const BUSY_RETRY_MS = 50
const NEWLINE = 10
const NOTHING: Buffer = Buffer.alloc(0)

export function createLineSink(output: Output, options: LineSinkOptions = {}) {
  const { onProblem, flushMs = 100, chunkSize = 65_536, maxBytes = 8 * 1024 * 1024 } = options

  // Lines become bytes at once: collected as strings, they would be thousands of small objects for the garbage
  // collector.
  let gathering = NOTHING
  let gathered = 0
  let gatheredLines = 0
  /** A buffer that has been written, for the next chunk. */
  let spare: Buffer | undefined
  let timer: NodeJS.Timeout | undefined
  const queue: Chunk[] = []
  let queuedBytes = 0
  /** Bytes of the first chunk that have been written. */
  let offset = 0
  let writing = false
  let retry: NodeJS.Timeout | undefined
  /** True if an error has cut the last line in two: the next line must not continue it. */
  let torn = false
  let lost = 0
  let closed = false
  let reopenWanted = false
  const throttle = createThrottle(A_MINUTE)
  const waiting: (() => void)[] = []

  function seal(): void {
    clearTimeout(timer)
    timer = undefined
    if (gatheredLines > 0) {
      queue.push({ bytes: gathering.subarray(0, gathered), buffer: gathering, lines: gatheredLines })
      queuedBytes += gathered
      gathering = NOTHING
      gathered = 0
      gatheredLines = 0
    }
    pump()
  }

  function pump(): void {
    if (writing || retry !== undefined || closed) return
    if (reopenWanted) tryReopen()
    let chunk = queue[0]
    if (chunk === undefined) {
      for (const resolve of waiting.splice(0)) resolve()
      return
    }
    if (torn && offset === 0) {
      torn = false
      chunk = {
        bytes: Buffer.concat([Buffer.of(NEWLINE), chunk.bytes]),
        buffer: undefined,
        lines: chunk.lines,
      }
      queue[0] = chunk
      queuedBytes += 1
    }
    writing = true
    output.write(chunk.bytes, offset, wrote)
  }

  function wrote(error: NodeJS.ErrnoException | null, written: number): void {
    writing = false
    const chunk = queue[0]
    if (chunk === undefined || closed) return
    offset += written
    if (error?.code === 'EAGAIN') {
      retry = setTimeout(() => {
        retry = undefined
        pump()
      }, BUSY_RETRY_MS).unref()
      return
    }
    if (error !== null) {
      giveUp(chunk)
      if (throttle() >= 0) onProblem?.(error)
    }
    if (error !== null || offset >= chunk.bytes.length) {
      queue.shift()
      queuedBytes -= chunk.bytes.length
      offset = 0
      if (chunk.buffer?.length === chunkSize) spare = chunk.buffer
    }
    pump()
  }

  /** Counts the lines of the first chunk that were not written whole. */
  function giveUp({ bytes }: Chunk): void {
    // the chunk begins with the newline that ends a torn line
    const mended = bytes[0] === NEWLINE
    torn = offset > 0 ? bytes[offset - 1] !== NEWLINE : mended
    // a line that lacks only its newline gets it with the next chunk
    const from = offset > 0 && torn && bytes[offset] === NEWLINE ? offset + 1 : offset
    let at = bytes.indexOf(NEWLINE, Math.max(from, mended ? 1 : 0))
    for (; at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) lost++
  }

  function tryReopen(): void {
    reopenWanted = false
    try {
      output.reopen()
    } catch (error) {
      onProblem?.(error as Error)
    }
  }

  function drained(): Promise<void> {
    seal()
    if (closed || queue.length === 0) return Promise.resolve()
    return new Promise((resolve) => waiting.push(resolve))
  }

  async function flush(timeoutMs = 2000): Promise<void> {
    await withTimeout(drained(), timeoutMs, () => undefined)
  }

  return {
    /** Takes whole lines, each with one newline at its end. Bytes are copied. */
    write(line: string | Uint8Array): void {
      const length = typeof line === 'string' ? Buffer.byteLength(line) : line.length
      if (closed || queuedBytes + gathered + length > maxBytes) {
        lost++
        return
      }
      if (gathered + length > gathering.length) {
        if (gathered > 0) seal()
        gathering =
          length <= chunkSize && spare !== undefined
            ? spare
            : Buffer.allocUnsafeSlow(Math.max(length, chunkSize))
        spare = undefined
      }
      if (typeof line === 'string') gathering.write(line, gathered)
      else gathering.set(line, gathered)
      gathered += length
      gatheredLines++
      timer ??= setTimeout(seal, flushMs).unref()
    },
    /** Resolves when all lines so far are written or dropped, or after `timeoutMs` (2,000). */
    flush,
    /** Writes as much as possible at once, without waiting for a reader. For the last lines before the process ends. */
    flushSync(): void {
      if (closed) return
      if (gatheredLines > 0) {
        queue.push({ bytes: gathering.subarray(0, gathered), buffer: undefined, lines: gatheredLines })
      }
      gathering = NOTHING
      gathered = 0
      gatheredLines = 0
      // the kernel has the chunk that is being written, or it is stuck for good
      const chunks = queue.splice(writing ? 1 : 0)
      let at = writing ? 0 : offset
      if (!writing) offset = 0
      for (const { bytes, lines } of chunks) {
        try {
          while (at < bytes.length) at += output.writeSync(bytes, at)
        } catch {
          lost += lines
        }
        at = 0
      }
      queuedBytes = queue[0]?.bytes.length ?? 0
    },
    /** Returns the lines lost since the start. */
    dropped: (): number => lost,
    /** Reopens the path after a log rotation has moved the file away. Does nothing for stdout and stderr. */
    reopen(): void {
      reopenWanted = true
      pump()
    },
    async close(): Promise<void> {
      if (closed) return
      await flush()
      closed = true
      clearTimeout(timer)
      clearTimeout(retry)
      await output.close()
    },
  }
}
