import { createHash } from 'node:crypto'
import type { Fail } from './parse-url.js'
import { readWholeFile } from './read-file.js'

/**
 * File of certificates or of a key, read with the configuration that names it. If the file is renewed, the
 * configuration counts as changed.
 */
export interface PemFile {
  readonly file: string
  readonly text: string
}

/** Maximum file size, in bytes: four times a bundle of every public CA. */
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

/** Formats the file name with a hash of the content, which stays private. */
export function showPemFile({ file, text }: PemFile): string {
  return `${file} (${createHash('sha256').update(text).digest('hex').slice(0, 8)})`
}
