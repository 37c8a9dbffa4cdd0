import { createReadStream } from 'node:fs'
import { StringDecoder } from 'node:string_decoder'

/** Characters of a line: what is longer is no line of a table. */
const LONGEST_LINE = 65_536

/**
 * The lines of a file, one after the other, whatever its size. In UTF-8, with or without its mark in front; ends of lines as they come.
 *
 * @throws Error when the file can't be read, or a line is longer than 65,536 characters
 */
export async function* linesOf(
  file: string,
): AsyncGenerator<{ readonly number: number; readonly text: string }> {
  const decoder = new StringDecoder('utf8')
  let rest = ''
  let number = 0
  const clean = (text: string) =>
    (number === 1 && text.startsWith('\ufeff') ? text.slice(1) : text).replace(/\r$/, '')
  for await (const chunk of createReadStream(file)) {
    rest += decoder.write(chunk as Buffer)
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

/** The cells of a line (RFC 4180), blanks around them left out unless they are quoted; undefined: a quote is out of place. */
export function cellsOf(line: string): string[] | undefined {
  const cells: string[] = []
  let at = 0
  for (;;) {
    while (line[at] === ' ' || line[at] === '\t') at++
    if (line[at] === '"') {
      let cell = ''
      for (;;) {
        const end = line.indexOf('"', at + 1)
        if (end < 0) return undefined
        cell += line.slice(at + 1, end)
        at = end + 1
        if (line[at] !== '"') break
        cell += '"'
      }
      cells.push(cell)
      while (line[at] === ' ' || line[at] === '\t') at++
      if (at < line.length && line[at] !== ',') return undefined
    } else {
      const end = line.indexOf(',', at)
      const cell = line.slice(at, end < 0 ? line.length : end).trimEnd()
      if (cell.includes('"')) return undefined
      cells.push(cell)
      at = end < 0 ? line.length : end
    }
    if (at >= line.length) return cells
    at++
    if (at === line.length) return [...cells, '']
  }
}
