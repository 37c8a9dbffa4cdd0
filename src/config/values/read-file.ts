import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'

/**
 * The text of a file that is read along with the configuration. Reads no more than such a file may hold, and never waits:
 * not for a pipe either.
 *
 * @param most bytes. Throws, with code EFBIG for what is larger
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
