import { StringDecoder } from 'node:string_decoder'

const WHY: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EISDIR: 'it is a folder',
  EACCES: 'it may not be read',
  Z_BUF_ERROR: 'it ends in the middle of its compressed data',
  Z_DATA_ERROR: 'its compressed data is damaged',
}

/** Says why a file cannot be read, without its name. */
export function whyUnreadable({ code, message }: NodeJS.ErrnoException): string {
  return WHY[code ?? ''] ?? message
}

/** Characters of a line: what is longer is no line of a table or log. */
const LONGEST_LINE = 65_536

/**
 * The lines of a file, one after the other, whatever its size. In UTF-8, with or without its mark in front; ends of lines as they come.
 *
 * @throws Error when the file can't be read, or a line is longer than 65,536 characters
 */
export async function* linesOf(
  input: AsyncIterable<Buffer>,
): AsyncGenerator<{ readonly number: number; readonly text: string }> {
  const decoder = new StringDecoder('utf8')
  let rest = ''
  let number = 0
  const clean = (text: string) =>
    (number === 1 && text.startsWith('\ufeff') ? text.slice(1) : text).replace(/\r$/, '')
  for await (const chunk of input) {
    rest += decoder.write(chunk)
    let from = 0
    for (let end = rest.indexOf('\n'); end >= 0; end = rest.indexOf('\n', from)) {
      number++
      yield { number, text: clean(rest.slice(from, end)) }
      from = end + 1
    }
    rest = rest.slice(from)
    if (rest.length > LONGEST_LINE) {
      throw new Error(`line ${number + 1} is longer than ${LONGEST_LINE} characters`)
    }
  }
  rest += decoder.end()
  if (rest !== '') {
    number++
    yield { number, text: clean(rest) }
  }
}
