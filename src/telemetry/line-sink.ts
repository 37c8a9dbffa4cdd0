import { close, closeSync, constants, fstatSync, openSync, write, writeSync } from 'node:fs'
import { isatty } from 'node:tty'

/**
 * Lines to a file or an output of the process, gathered and written without ever waiting: a destination that is
 * stuck, full or gone costs lines, which are counted, and neither time nor memory.
 */
export interface LineSink {
  /** Takes whole lines, each with its newline. */
  write(line: string): void
  /** Resolves when all that was taken so far is written or dropped, or after `timeoutMs` (2,000). */
  flush(timeoutMs?: number): Promise<void>
  /** For the last words before the process ends: writes what it can at once, without waiting for a reader. */
  flushSync(): void
  /** Lines lost since the start. */
  dropped(): number
  /** Opens the path again, after a log rotation has moved the file away. Does nothing for stdout and stderr. */
  reopen(): void
  close(): Promise<void>
}

export interface LineSinkOptions {
  readonly destination: 'stdout' | 'stderr' | (string & {})
  /** Told of a failed write, at most once a minute, and of a reopening that failed. */
  readonly onProblem?: (error: Error) => void
  /** How long a line may wait for others, ms. */
  readonly flushMs?: number
  /** What may wait for a slow destination, bytes. */
  readonly maxBytes?: number
}

interface Chunk {
  readonly bytes: Buffer
  readonly lines: number
}

type WriteDone = (error: NodeJS.ErrnoException | null, written: number) => void

interface Device {
  write(bytes: Buffer, offset: number, done: WriteDone): void
  writeSync(bytes: Buffer, offset: number): number
  /** Called between two writes only. */
  reopen?(): void
  close(): Promise<void>
}

const CHUNK_BYTES = 65_536
const BUSY_RETRY_MS = 50
const PROBLEM_EVERY_MS = 60_000

/** Throws when a path cannot be opened for appending: a log that is asked for and impossible is an error at the start. */
export function createLineSink(options: LineSinkOptions): LineSink {
  const { destination, onProblem, flushMs = 100, maxBytes = 8 * 1024 * 1024 } = options
  const output = destination === 'stdout' ? 1 : destination === 'stderr' ? 2 : undefined
  const device = output === undefined ? pathDevice(destination) : outputDevice(output)

  let pending = ''
  let pendingLines = 0
  const queue: Chunk[] = []
  let queuedBytes = 0
  let offset = 0
  let writing = false
  let torn = false
  let lost = 0
  let closed = false
  let reopenWanted = false
  let timer: NodeJS.Timeout | undefined
  let complainedAt = Number.NEGATIVE_INFINITY
  const waiting: (() => void)[] = []

  function seal(): void {
    if (timer !== undefined) clearTimeout(timer)
    timer = undefined
    if (pendingLines > 0) {
      const bytes = Buffer.from(pending)
      queue.push({ bytes, lines: pendingLines })
      queuedBytes += bytes.length
      pending = ''
      pendingLines = 0
    }
    pump()
  }

  function pump(): void {
    if (writing) return
    if (reopenWanted) tryReopen()
    const chunk = queue[0]
    if (chunk === undefined) {
      for (const resolve of waiting.splice(0)) resolve()
      return
    }
    writing = true
    if (torn && offset === 0) {
      // the line that an error cut in two must not run into the next one
      torn = false
      queue[0] = { bytes: Buffer.concat([NEWLINE, chunk.bytes]), lines: chunk.lines }
      queuedBytes += 1
    }
    device.write(queue[0]!.bytes, offset, wrote)
  }

  function wrote(error: NodeJS.ErrnoException | null, written: number): void {
    writing = false
    const chunk = queue[0]
    if (chunk === undefined) return
    offset += written
    if (error?.code === 'EAGAIN') {
      writing = true
      setTimeout(() => {
        writing = false
        pump()
      }, BUSY_RETRY_MS).unref()
      return
    }
    if (error !== null) {
      lost += linesAfter(chunk, offset)
      torn = offset > 0 && chunk.bytes[offset - 1] !== 10
      complain(error)
    }
    if (error !== null || offset >= chunk.bytes.length) {
      queue.shift()
      queuedBytes -= chunk.bytes.length
      offset = 0
    }
    pump()
  }

  function complain(error: Error): void {
    const now = performance.now()
    if (now - complainedAt < PROBLEM_EVERY_MS) return
    complainedAt = now
    onProblem?.(error)
  }

  function tryReopen(): void {
    reopenWanted = false
    try {
      device.reopen?.()
    } catch (error) {
      onProblem?.(error as Error)
    }
  }

  function drained(): Promise<void> {
    seal()
    if (!writing && queue.length === 0) return Promise.resolve()
    return new Promise((resolve) => waiting.push(resolve))
  }

  async function flush(timeoutMs = 2000): Promise<void> {
    let timeout: NodeJS.Timeout | undefined
    const expired = new Promise<void>((resolve) => {
      timeout = setTimeout(resolve, timeoutMs)
    })
    await Promise.race([drained(), expired])
    clearTimeout(timeout)
  }

  return {
    write(line) {
      if (closed || queuedBytes + pending.length + line.length > maxBytes) {
        lost++
        return
      }
      pending += line
      pendingLines++
      if (pending.length >= CHUNK_BYTES) seal()
      else if (timer === undefined) timer = setTimeout(seal, flushMs).unref()
    },
    flush,
    flushSync() {
      if (pendingLines > 0) queue.push({ bytes: Buffer.from(pending), lines: pendingLines })
      pending = ''
      pendingLines = 0
      // a chunk that is being written is in the kernel's hands, or stuck for good
      for (const chunk of queue.splice(writing ? 1 : 0)) {
        try {
          for (let at = 0; at < chunk.bytes.length; ) at += device.writeSync(chunk.bytes, at)
        } catch {
          lost += chunk.lines
        }
      }
    },
    dropped: () => lost,
    reopen() {
      reopenWanted = true
      pump()
    },
    async close() {
      if (closed) return
      await flush()
      closed = true
      if (timer !== undefined) clearTimeout(timer)
      await device.close()
    },
  }
}

const NEWLINE = Buffer.from('\n')

/** Lines of a chunk that did not get out whole when writing ended at `offset`. */
function linesAfter(chunk: Chunk, offset: number): number {
  let lines = 0
  for (let at = chunk.bytes.indexOf(10, offset); at >= 0; at = chunk.bytes.indexOf(10, at + 1)) lines++
  return lines
}

function pathDevice(path: string): Device {
  // Without O_NONBLOCK a pipe (FIFO) that nobody reads would hold a thread of the pool, and the exit, for ever.
  const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK
  let fd = openSync(path, flags, 0o640)
  return {
    write: (bytes, offset, done) => write(fd, bytes, offset, bytes.length - offset, null, done),
    writeSync: (bytes, offset) => writeSync(fd, bytes, offset),
    reopen() {
      const next = openSync(path, flags, 0o640)
      closeSync(fd)
      fd = next
    },
    close: () => new Promise((resolve) => close(fd, () => resolve())),
  }
}

function outputDevice(fd: 1 | 2): Device {
  const stat = fstatSync(fd)
  const isFile = stat.isFile() || (stat.isCharacterDevice() && !isatty(fd))
  const stream = fd === 1 ? process.stdout : process.stderr
  // A reader that went away is an error event here, which nobody else handles: it would end the process.
  if (!isFile && !stream.listeners('error').includes(ignore)) stream.on('error', ignore)
  return {
    write(bytes, offset, done) {
      // Node writes to a file behind stdout synchronously, to a pipe asynchronously: each gets the way that does not wait.
      if (isFile) write(fd, bytes, offset, bytes.length - offset, null, done)
      else
        stream.write(bytes.subarray(offset), (error) =>
          done(error ?? null, error == null ? bytes.length - offset : 0),
        )
    },
    writeSync: (bytes, offset) => writeSync(fd, bytes, offset),
    close: () => Promise.resolve(),
  }
}

function ignore(): void {}
