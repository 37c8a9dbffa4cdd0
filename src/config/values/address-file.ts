import { createBlock, formatBlock, readBlock } from '../../net/parse-cidr.js'
import type { Fail } from './parse-url.js'
import { type NamedFile, readWholeFile, unreadable } from './read-file.js'

/** Maximum size in bytes: half a million blocks. */
export const MAX_ADDRESS_FILE = 16 * 1024 * 1024

/** Reads a file with one address or block per line. Text after a `#` is a comment. */
export function readAddressFile(file: string, fail: Fail): NamedFile | undefined {
  let text: string
  try {
    text = readWholeFile(file, MAX_ADDRESS_FILE)
  } catch (error) {
    const most = `${MAX_ADDRESS_FILE / 1024 ** 2} MiB`
    return fail(unreadable(error), `name a text file of ${most} at most that this user may read`)
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
    if (fault === 'inexact')
      return fail(
        `has bits set behind a prefix on line ${number}, ${shown}`,
        `write ${formatBlock(block)} there`,
      )
    const fix = 'write one per line, such as 192.0.2.0/24, and # in front of words'
    return fail(`has no address block on line ${number}, ${shown}`, fix)
  }
  return { file, text }
}

/** Iterates over the blocks, one at a time: there may be half a million. */
export function* blocksIn({ text }: NamedFile): Generator<string> {
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
