import { StringDecoder } from 'node:string_decoder'

/** Longest line, in characters. A longer one is not from a table or log. */
const LONGEST_LINE = 65_536

/**
 * Reads the lines of a file of any size, in UTF-8 with or without a byte order mark, with any line ends.
 *
 * @throws Error if the file can't be read, or a line is longer than 65,536 characters
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
