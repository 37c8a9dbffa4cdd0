import { createHash } from 'node:crypto'
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'

/**
 * File that a configuration names, read with it. If the file changes, the configuration counts as changed.
 */
export interface NamedFile {
  readonly file: string
  readonly text: string
}

/** Formats the file name with a hash of the content, which stays private. */
export function showFile({ file, text }: NamedFile): string {
  return `${file} (${createHash('sha256').update(text).digest('hex').slice(0, 8)})`
}

/**
 * Reads the text of a file that belongs to the configuration, up to its maximum size. Never blocks, not even on a pipe.
 *
 * @param most maximum size in bytes
 * @throws Error with code EFBIG for a larger file
 */
export function readWholeFile(file: string, most: number): string {
  const handle = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const { size } = fstatSync(handle)
    if (size > most) throw Object.assign(new Error(), { code: 'EFBIG' })
    const buffer = Buffer.alloc(size)
    return buffer.toString('utf8', 0, readSync(handle, buffer, 0, size, 0))
  } finally {
    closeSync(handle)
  }
}

/** Returns why a file cannot be read, for a message. */
export function unreadable(error: unknown): string {
  return `cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`
}
