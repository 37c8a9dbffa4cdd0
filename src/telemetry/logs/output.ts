import { close, closeSync, constants, fstatSync, openSync, statSync, write, writeSync } from 'node:fs'
import { isatty } from 'node:tty'

/** An output that takes bytes, perhaps only a part of them, and reports how many: a file, a pipe, a terminal. */
export interface Output {
  /** Writes without waiting. `EAGAIN` means try later; with any other error, these bytes are lost. */
  write(
    bytes: Buffer,
    offset: number,
    done: (error: NodeJS.ErrnoException | null, written: number) => void,
  ): void
  /** Writes at once; throws instead of waiting. */
  writeSync(bytes: Buffer, offset: number): number
  /** Reopens the path after the file was moved away; on failure, throws and keeps the old file. */
  reopen(): void
  close(): Promise<void>
}

/** Opens an output. Throws when a path cannot be opened for appending. */
export function openOutput(destination: 'stdout' | 'stderr' | (string & {})): Output {
  if (destination === 'stdout') return standardOutput(1, process.stdout)
  if (destination === 'stderr') return standardOutput(2, process.stderr)
  return pathOutput(destination)
}

/** Bytes that a pipe takes whole or not at all (PIPE_BUF); a file opened for appending does so for any number. */
const PIPE_WHOLE = 4096
const FILE_WHOLE = 65_536

/** Returns the most bytes in one write that keep the lines of several processes apart. */
export function wholeWrite(destination: 'stdout' | 'stderr' | (string & {})): number {
  const stat =
    destination === 'stdout'
      ? fstatSync(1)
      : destination === 'stderr'
        ? fstatSync(2)
        : statSync(destination, { throwIfNoEntry: false })
  return stat === undefined || stat.isFile() ? FILE_WHOLE : PIPE_WHOLE
}

function pathOutput(path: string): Output {
  // Without O_NONBLOCK a pipe (FIFO) without a reader would hold a thread of the pool, and the exit, for ever.
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

function standardOutput(fd: 1 | 2, stream: NodeJS.WriteStream): Output {
  const stat = fstatSync(fd)
  const isFile = stat.isFile() || (stat.isCharacterDevice() && !isatty(fd))
  // A reader that goes away is an error event here. Without a listener it would end the process.
  if (!isFile && !stream.listeners('error').includes(ignore)) stream.on('error', ignore)
  return {
    write(bytes, offset, done) {
      // Node writes to a file behind stdout synchronously, to a pipe asynchronously: each gets the method that does not
      // wait.
      if (isFile) write(fd, bytes, offset, bytes.length - offset, null, done)
      else
        stream.write(bytes.subarray(offset), (error) =>
          done(error ?? null, error == null ? bytes.length - offset : 0),
        )
    },
    writeSync: (bytes, offset) => writeSync(fd, bytes, offset),
    reopen() {},
    close: () => Promise.resolve(),
  }
}

function ignore(): void {}
