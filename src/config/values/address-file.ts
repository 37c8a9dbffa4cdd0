import { createHash } from 'node:crypto'
import { createBlock, formatBlock, readBlock } from '../../net/parse-cidr.js'
import type { Fail } from './parse-url.js'
import { readWholeFile } from './read-file.js'

/**
 * File of addresses, read with the configuration that names it. If the file changes, the configuration counts as
 * changed.
 */
export interface AddressFile {
  readonly file: string
  readonly text: string
}

/** Maximum size in bytes: half a million blocks. */
export const MAX_ADDRESS_FILE = 16 * 1024 * 1024

/** Reads a file with one address or block per line. Text after a `#` is a comment. */
export function readAddressFile(file: string, fail: Fail): AddressFile | undefined {
  let text: string
  try {
    text = readWholeFile(file, MAX_ADDRESS_FILE)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown error'
    return fail(
      `cannot be read (${code})`,
      `name a text file of ${MAX_ADDRESS_FILE / 1024 ** 2} MiB at most that this user may read`,
    )
  }
  const block = createBlock()
  let number = 0
  for (const line of text.split('\n')) {
    number++
    const address = addressOn(line)
    if (address === '') continue
    const fault = readBlock(address, block)
    if (fault === undefined) continue
    const shown = JSON.stringify(address.length > 60 ? `${address.slice(0, 60)}…` : address)
    return fault === 'inexact'
      ? fail(`has on line ${number} bits set behind a prefix, ${shown}`, `write ${formatBlock(block)} there`)
      : fail(
          `has on line ${number} no address block, ${shown}`,
          'write one a line, such as 192.0.2.0/24, and # in front of words',
        )
  }
  return { file, text }
}

/** Formats the file name with a hash of the content. */
export function showAddressFile({ file, text }: AddressFile): string {
  return `${file} (${createHash('sha256').update(text).digest('hex').slice(0, 8)})`
}

/** Iterates over the blocks, one at a time: there may be half a million. */
export function* blocksIn({ text }: AddressFile): Generator<string> {
  for (let from = 0; from < text.length; ) {
    const end = text.indexOf('\n', from)
    const address = addressOn(text.slice(from, end < 0 ? undefined : end))
    if (address !== '') yield address
    from = end < 0 ? text.length : end + 1
  }
}

function addressOn(line: string): string {
  const comment = line.indexOf('#')
  return (comment < 0 ? line : line.slice(0, comment)).trim()
}
