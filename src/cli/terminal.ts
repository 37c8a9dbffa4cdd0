import type { WriteStream } from 'node:tty'
import { styleText } from 'node:util'
import { widthOf } from './display-width.js'

type Style = 'bold' | 'dim' | 'green' | 'yellow' | 'red' | 'cyan'

/** Colours a text, or leaves it as it is: see {@link painter}. */
export type Paint = (style: Style, text: string) => string

/** Colour for a person at a terminal only, and not for one who says so (NO_COLOR, see no-color.org). */
export function painter(stream: Pick<WriteStream, 'isTTY'>, env: NodeJS.ProcessEnv = process.env): Paint {
  // styleText can ask the same of a stream, but not every Node 20 does.
  const colour = stream.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb'
  return (style, text) => (colour ? styleText(style, text, { validateStream: false }) : text)
}

/**
 * Columns padded to their widest cell, two spaces apart, `indent` spaces in front. Lines end without spaces; a column
 * without anything in it is none. A cell is one line, whatever stands in it: nobody's id makes a row of its own.
 */
export function table(lines: readonly (readonly string[])[], indent = 0): string {
  const rows = lines.map((line) => line.map(withoutEnds))
  const widths: number[] = []
  for (const row of rows) {
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, cell.length)
    })
  }
  return rows
    .map((row) =>
      `${' '.repeat(indent)}${row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .filter((_, column) => widths[column] !== 0)
        .join('  ')}`.trimEnd(),
    )
    .join('\n')
}

/**
 * A list for a person: a line each, or, where the terminal is too narrow for that, a few lines each, with what they are in front.
 * In a file or a pipe it is a line each, whatever the width. Columns in which nothing stands are left out, and no cell steers the
 * terminal or makes a line of its own.
 *
 * @param columns of the terminal; undefined: it is none
 */
export function listing(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  columns = process.stdout.isTTY ? process.stdout.columns : undefined,
): string {
  const cells = rows.map((row) => row.map(oneLine))
  const used = head.map((_, column) => cells.some((row) => row[column] !== ''))
  const lines = table([head, ...cells].map((row) => row.filter((_, column) => used[column])))
  if (!columns || lines.split('\n').every((line) => widthOf(line) <= columns)) return lines
  return cells
    .map((row) => table(head.map((name, i) => [name, row[i]!]).filter(([, cell]) => cell !== '')))
    .join('\n\n')
}

/** `1 tier`, `2 tiers`. */
export function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, 2).replace(STEERING, escaped))
}

/** What a caller of the gateway has sent must not steer the terminal of who reads it: C0, DEL and C1, but for ends of lines; and what turns the direction of a text. */
export function printable(text: string): string {
  return text.replace(STEERING, escaped)
}

const STEERING = /[\0-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g

/** The same, of what has to stay on its line. */
export function oneLine(text: string): string {
  return withoutEnds(printable(text))
}

function withoutEnds(text: string): string {
  return text.replaceAll('\n', '\\n')
}

function escaped(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`
}

/** For what is said beside the data: problems, warnings, hints. */
export function complain(text: string): void {
  process.stderr.write(`${text}\n`)
}
