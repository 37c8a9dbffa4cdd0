import { styleText } from 'node:util'
import type { CommandIo } from '../command.js'
import { fit, widthOf } from './display-width.js'

type Style = 'bold' | 'dim' | 'green' | 'yellow' | 'red' | 'cyan'

/** Colours a text, or leaves it as it is: see {@link painter}. */
export type Paint = (style: Style, text: string) => string

/** Colour for a person at a terminal only, and not for one who says so (NO_COLOR, see no-color.org). */
export function painter(stream: { readonly isTTY?: boolean }, env: NodeJS.ProcessEnv): Paint {
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
  columns: number | undefined,
): string {
  const cells = rows.map((row) => row.map(oneLine))
  const lines = table(withoutEmpty([head, ...cells]))
  if (fits(lines, columns)) return lines
  return cells.map((row) => block(head, row, columns, 0)).join('\n\n')
}

/**
 * Figures in columns; on a terminal that is too narrow for them each row is a few lines, with what they are in front.
 *
 * @param columns of the terminal; undefined: it is none
 */
export function sheet(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  columns: number | undefined,
): string {
  const whole = table(withoutEmpty([head, ...rows]), INDENT)
  return fits(whole, columns) ? whole : rows.map((row) => block(head, row, columns)).join('\n\n')
}

/**
 * Rows without a head, in columns; on a terminal that is too narrow for them each is a sentence of its own, and goes on beneath.
 *
 * @param columns of the terminal; undefined: it is none
 */
export function rowsOf(rows: readonly (readonly string[])[], columns: number | undefined): string {
  const whole = table(rows, INDENT)
  if (fits(whole, columns)) return whole
  const line = (row: readonly string[]) => ' '.repeat(INDENT) + row.filter((cell) => cell !== '').join('  ')
  return rows.map((row) => wrapped(line(row), 3 * INDENT, columns)).join('\n')
}

/** A row as lines, each with the name of its column in front. */
function block(
  head: readonly string[],
  row: readonly string[],
  columns: number | undefined,
  indent = INDENT,
): string {
  return details(
    head.map((name, i) => [name, row[i]!]).filter(([, cell]) => cell !== ''),
    columns,
    indent,
  )
}

/**
 * Figures in columns, of which the last are words: these end their line, or stand beneath it, where the terminal is too narrow for
 * that. One that is too narrow for the figures, too, has a line for each of them. Columns in which nothing stands are left out.
 *
 * @param columns of the terminal; undefined: it is none
 */
export function remarked(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  columns: number | undefined,
): string {
  const whole = table(withoutEmpty([head, ...rows]), INDENT)
  if (fits(whole, columns)) return whole
  const figures = table(withoutEmpty([head, ...rows].map((row) => row.slice(0, -1))), INDENT)
  if (fits(figures, columns)) {
    const beneath = (row: readonly string[]) => {
      const words = oneLine(row.at(-1)!)
      return words === '' ? '' : `\n${wrapped(`${' '.repeat(2 * INDENT)}${words}`, 2 * INDENT, columns)}`
    }
    return figures
      .split('\n')
      .map((line, i) => (i === 0 ? line : line + beneath(rows[i - 1]!)))
      .join('\n')
  }
  return rows.map((row) => block(head, row, columns)).join('\n\n')
}

/**
 * The rows of a table, with the first column cut where a line would be too long for the terminal: one long id is not to push the
 * figures of all others away.
 *
 * @param indent spaces that will be in front
 * @param columns of the terminal; undefined: it is none
 */
export function firstCut(
  rows: readonly (readonly string[])[],
  indent: number,
  columns: number | undefined,
): readonly (readonly string[])[] {
  if (columns === undefined) return rows
  const others = rows[0]!.slice(1).map((_, i) => Math.max(...rows.map((row) => widthOf(row[i + 1]!))) + 2)
  const room = Math.max(LEAST, columns - indent - others.reduce((sum, width) => sum + width, 0))
  return rows.map(([first = '', ...rest]) => [widthOf(first) <= room ? first : fit(first, room), ...rest])
}

/** Columns by which one id is told from another. */
const LEAST = 8

/**
 * Names, and what is to be said of each. On a terminal that is too narrow for a line, it goes on beneath where it began.
 *
 * @param columns of the terminal; undefined: it is none
 */
export function details(
  rows: readonly (readonly string[])[],
  columns: number | undefined,
  indent = INDENT,
): string {
  const hanging = indent + Math.max(0, ...rows.map(([name = '']) => name.length)) + 2
  return table(rows, indent)
    .split('\n')
    .map((line) => wrapped(line, hanging, columns))
    .join('\n')
}

/**
 * A line for a person, broken between its words where the terminal is too narrow for it. A word is never broken: it may be one to copy.
 * A number stays with its unit.
 *
 * @param hanging spaces in front of all but the first
 * @param columns of the terminal; undefined: it is none
 */
export function wrapped(text: string, hanging: number, columns: number | undefined): string {
  if (fits(text, columns)) return text
  const lines: string[] = []
  let line = ''
  // What stands in front of the words of the first line, its name and the space around, stays as it is.
  for (const word of text.match(WORD) ?? []) {
    if (line.trim() !== '' && widthOf(line) > hanging && widthOf(line + word) > columns!) {
      lines.push(line)
      line = ' '.repeat(hanging) + word.trimStart()
    } else line += word
  }
  return [...lines, line].join('\n')
}

const WORD = /\s*(?:\d[\d.]* (?:%|ms|s|min|h|days)(?=\W|$)\S*|\S+)/g

/** Columns of a terminal; undefined: it is none, or does not know. */
export function columnsOf(stream: CommandIo['stdout']): number | undefined {
  return stream.isTTY ? stream.columns || undefined : undefined
}

/** Whether no line is wider than the terminal. */
export function fits(text: string, columns: number | undefined): boolean {
  return !columns || text.split('\n').every((line) => widthOf(line) <= columns)
}

/** Leaves out the columns in which nothing stands but their head. */
function withoutEmpty(rows: readonly (readonly string[])[]): (readonly string[])[] {
  const used = rows[0]!.map((_, column) => rows.some((row, i) => i > 0 && row[column] !== ''))
  return rows.map((row) => row.filter((_, column) => used[column]))
}

/** Of what stands beneath a sentence. */
const INDENT = 2

/** `1 tier`, `2 tiers`. */
export function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}

export function print({ stdout }: CommandIo, text: string): void {
  stdout.write(`${text}\n`)
}

export function printJson(io: CommandIo, value: unknown): void {
  print(io, JSON.stringify(value, null, 2).replace(STEERING, escaped))
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
export function complain({ stderr }: Pick<CommandIo, 'stderr'>, text: string): void {
  stderr.write(`${text}\n`)
}
