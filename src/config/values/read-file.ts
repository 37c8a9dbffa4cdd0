import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'

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
