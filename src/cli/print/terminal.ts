import { styleText } from 'node:util'
import type { CommandIo, OptionSpecs } from '../command.js'
import { fit, widthOf } from './display-width.js'

type Style = 'bold' | 'dim' | 'green' | 'yellow' | 'red' | 'cyan'

/** Colours a text, or leaves it unchanged: see {@link painter}. */
export type Paint = (style: Style, text: string) => string

/** Returns a painter that uses colour for a person at a terminal only, and respects NO_COLOR (no-color.org). */
export function painter(stream: { readonly isTTY?: boolean }, env: NodeJS.ProcessEnv): Paint {
  // styleText can check a stream itself, but not in every Node 20.
  const colour = stream.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb'
  return (style, text) => (colour ? styleText(style, text, { validateStream: false }) : text)
}

/**
 * Formats columns padded to their widest cell, two spaces apart, after `indent` spaces. Lines have no trailing spaces,
 * and empty columns are left out. A cell is always one line: no id can add a row.
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

/** Joins the parts of a page with an empty line between them. Empty parts are left out. */
export function page(...parts: readonly string[]): string {
  return parts.filter((part) => part !== '').join('\n\n')
}

/**
 * Formats a list for a person: one line each, or, if the terminal is too narrow, a few lines each with the column's
 * name in front. In a file or a pipe it is one line each, whatever the width. Empty columns are left out. No cell can
 * control the terminal or add a line.
 *
 * @param columns of the terminal; undefined without a terminal
 * @param indent spaces in front of each line
 */
export function listing(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  columns: number | undefined,
  indent = 0,
): string {
  const cells = rows.map((row) => row.map(oneLine))
  const lines = table(withoutEmpty([head, ...cells]), indent)
  if (fits(lines, columns)) return lines
  const named = (row: readonly string[]) => head.map((name, i) => [name, row[i]!])
  return cells.map((row) => details(named(row), columns, indent)).join('\n\n')
}

/**
 * Formats rows without a head, in columns. On a terminal that is too narrow, each row becomes a sentence that continues
 * below.
 *
 * @param columns of the terminal; undefined without a terminal
 */
export function rowsOf(rows: readonly (readonly string[])[], columns: number | undefined): string {
  const whole = table(rows, INDENT)
  if (fits(whole, columns)) return whole
  const line = (row: readonly string[]) => ' '.repeat(INDENT) + row.filter((cell) => cell !== '').join('  ')
  return rows.map((row) => wrapped(line(row), 3 * INDENT, columns)).join('\n')
}

/**
 * Formats figures in columns, of which the last are words. If the terminal is too narrow, the words end the line or go
 * below it. If it is too narrow for the figures, too, each has its own line. Empty columns are left out.
 *
 * @param columns of the terminal; undefined without a terminal
 */
export function remarked(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  columns: number | undefined,
): string {
  const whole = table(withoutEmpty([head, ...rows]), INDENT)
  const figures = table(withoutEmpty([head, ...rows].map((row) => row.slice(0, -1))), INDENT)
  if (fits(whole, columns) || !fits(figures, columns)) return listing(head, rows, columns, INDENT)
  const beneath = (row: readonly string[]) => {
    const words = oneLine(row.at(-1)!)
    return words === '' ? '' : `\n${wrapped(`${' '.repeat(2 * INDENT)}${words}`, 2 * INDENT, columns)}`
  }
  const [first, ...lines] = figures.split('\n')
  return [first, ...lines.map((line, i) => line + beneath(rows[i]!))].join('\n')
}

/**
 * Returns the rows of a table, with the first column cut if a line is too long for the terminal: one long id must not
 * push the figures of all others away.
 *
 * @param indent spaces in front of the table
 * @param columns of the terminal; undefined without a terminal
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

/** Fewest columns in which ids can be told apart. */
const LEAST = 8

/**
 * Formats names, each with its description. Rows with an empty description are left out. On a terminal that is too narrow, a description continues below its start.
 *
 * @param columns of the terminal; undefined without a terminal
 */
export function details(
  rows: readonly (readonly string[])[],
  columns: number | undefined,
  indent = INDENT,
): string {
  const shown = rows.filter(([, text]) => text !== '')
  const hanging = indent + Math.max(0, ...shown.map(([name = '']) => name.length)) + 2
  return table(shown, indent)
    .split('\n')
    .map((line) => wrapped(line, hanging, columns))
    .join('\n')
}

/**
 * Wraps a line for a person between words, if the terminal is too narrow. A word is never broken: the user may want to
 * copy it. A number stays with its unit.
 *
 * @param hanging spaces in front of all lines but the first
 * @param columns of the terminal; undefined without a terminal
 */
export function wrapped(text: string, hanging: number, columns: number | undefined): string {
  if (fits(text, columns)) return text
  const lines: string[] = []
  let line = ''
  // The name at the start of the first line, with the space around it, is unchanged.
  for (const word of text.match(WORD) ?? []) {
    if (line.trim() !== '' && widthOf(line) > hanging && widthOf(line + word) > columns!) {
      lines.push(line)
      line = ' '.repeat(hanging) + word.trimStart()
    } else line += word
  }
  return [...lines, line].join('\n')
}

/** Width of help texts, in columns. */
const HELP_COLUMNS = 80
/** Column of the texts of options. */
const HELP_TEXT = 22

/** Formats the help of a command: its forms, what it does, its options, and notes. */
export function helpText(command: {
  readonly name: string
  readonly usage: readonly string[]
  readonly tail?: string
  readonly about: string
  readonly options: OptionSpecs
  readonly notes?: string
}): string {
  const { name, usage, tail = '', about, options, notes = '' } = command
  const forms = usage.length < 2 ? [`${usage[0] ?? ''} ${tail}`.trim()] : usage
  const lines = forms.map((form, i) => usageLine(`${i === 0 ? 'Usage:' : '      '} tidegate ${name}`, form))
  if (forms.length > 1 && tail !== '') lines.push(usageLine('       each with', tail))
  const described = Object.entries(options).map(([long, { short, value, help }]) => {
    const label = `  ${short === undefined ? '' : `-${short}, `}--${long}${value === undefined ? '' : ` ${value}`}`
    const text = wrapped(' '.repeat(HELP_TEXT) + help.replaceAll('\n', ' '), HELP_TEXT, HELP_COLUMNS)
    return label.length > HELP_TEXT - 2
      ? `${label}\n${text}`
      : label.padEnd(HELP_TEXT) + text.slice(HELP_TEXT)
  })
  const listed = described.length === 0 ? '' : `Options:\n${described.join('\n')}`
  return page(lines.join('\n'), paragraphs(about), listed, paragraphs(notes))
}

/** Wraps a form of a command line. An option stays with its value, and brackets with what is in them. */
function usageLine(start: string, form: string): string {
  const units = form.replace(/\[[^\]]*\]\S*|--\S+ [A-Z]+/g, (unit) => unit.replaceAll(' ', '\0'))
  const hanging = start.length + 1
  return wrapped(`${start} ${units}`, hanging, HELP_COLUMNS).replaceAll('\0', ' ').trimEnd()
}

/** Wraps a text for the help. Lines that begin with a space keep their breaks. */
function paragraphs(text: string): string {
  const lines = text.replace(/(\S)\n(?=\S)/g, '$1 ').split('\n')
  return lines.map((line) => wrapped(line, line.search(/\S|$/), HELP_COLUMNS)).join('\n')
}

const WORD = /\s*(?:\d[\d.]* (?:%|ms|s|min|h|days)(?=\W|$)\S*|\S+)/g

/** Returns the columns of a terminal; undefined if there is none, or if it does not know. */
export function columnsOf(stream: CommandIo['stdout']): number | undefined {
  return stream.isTTY ? stream.columns || undefined : undefined
}

/** Returns true if no line is wider than the terminal. */
export function fits(text: string, columns: number | undefined): boolean {
  return !columns || text.split('\n').every((line) => widthOf(line) <= columns)
}

/** Leaves out the columns that are empty except for their head. */
export function withoutEmpty(rows: readonly (readonly string[])[]): (readonly string[])[] {
  const used = rows[0]!.map((_, column) => rows.some((row, i) => i > 0 && row[column] !== ''))
  return rows.map((row) => row.filter((_, column) => used[column]))
}

/** Indent of text below a sentence. */
const INDENT = 2

/** Formats a count: `1 tier`, `2 tiers`. */
export function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}

export function print({ stdout }: CommandIo, text: string): void {
  stdout.write(`${text}\n`)
}

export function printJson(io: CommandIo, value: unknown): void {
  print(io, JSON.stringify(value, null, 2).replace(STEERING, escaped))
}

/**
 * Escapes text from the gateway's clients, so that it cannot control the reader's terminal: C0, DEL and C1 except line
 * ends, and characters that change the direction of text.
 */
export function printable(text: string): string {
  return text.replace(STEERING, escaped)
}

const STEERING = /[\0-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g

/** Does the same for text that must stay on one line. */
export function oneLine(text: string): string {
  return withoutEnds(printable(text))
}

function withoutEnds(text: string): string {
  return text.replaceAll('\n', '\\n')
}

function escaped(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`
}

/** Prints problems, warnings and hints on stderr, apart from the data. */
export function complain({ stderr }: Pick<CommandIo, 'stderr'>, text: string): void {
  stderr.write(`${text}\n`)
}
