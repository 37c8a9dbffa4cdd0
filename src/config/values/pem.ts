import type { Fail } from './parse-url.js'
import { type NamedFile, readWholeFile, unreadable } from './read-file.js'

/** Maximum file size, in bytes: four times a bundle of every public CA. */
const MAX_BYTES = 1024 * 1024
const REMEDY = 'name a PEM file that this user may read'

/** Reads a file of certificates or of a key. */
export function readPemFile(file: string, fail: Fail): NamedFile | undefined {
  let text: string
  try {
    text = readWholeFile(file, MAX_BYTES)
  } catch (error) {
    return fail(unreadable(error), REMEDY)
  }
  return text.includes('-----BEGIN ') ? { file, text } : fail('contains no PEM', REMEDY)
}
