import { createHash } from 'node:crypto'
import type { Fail } from './parse-url.js'
import { readWholeFile } from './read-file.js'

/** A file of certificates or of a key, read with the configuration that names it: a renewed one makes it another. */
export interface PemFile {
  readonly file: string
  readonly text: string
}

/** A bundle of every public CA is a quarter of it. */
const MAX_BYTES = 1024 * 1024
const REMEDY = 'name a PEM file that this user may read'

export function readPemFile(file: string, fail: Fail): PemFile | undefined {
  let text: string
  try {
    text = readWholeFile(file, MAX_BYTES)
  } catch (error) {
    return fail(`cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`, REMEDY)
  }
  if (!text.includes('-----BEGIN ')) return fail('holds no PEM', REMEDY)
  return { file, text }
}

/** The file, and what tells one content from another. Nothing of the content itself. */
export function showPemFile({ file, text }: PemFile): string {
  return `${file} (${createHash('sha256').update(text).digest('hex').slice(0, 8)})`
}
