import { createHash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { type CommandIo, Refused, Unavailable, whyUnreadable } from '../command.js'
import { adminCommand } from '../define-command.js'
import { complain, counted } from '../print/terminal.js'
import { cellsOf } from '../read/csv.js'
import { linesOf } from '../read/lines.js'
import { tryAgain } from '../try-again.js'

interface Answer {
  readonly tiers: number
  readonly overrides: number
  readonly boosts: number
  readonly bad: readonly { readonly row: number; readonly problem: string }[]
}

interface Bad {
  readonly line: number
  readonly problem: string
}

const COLUMNS = ['consumer', 'tenant', 'tier', 'service', 'limit', 'amount', 'by', 'until']
/** Rows per request. */
const BATCH = 1000
/** Maximum number of lines in a file: the columns and a million rows. Their keys are remembered to find duplicates. */
const MOST_LINES = 1_000_001
/** Bad lines that are reported to a person. */
const MOST_TOLD = 20
/** Character that a decoder writes for bytes that are not UTF-8. An id with it would be another consumer's. */
const REPLACED = '\ufffd'

export const command = adminCommand({
  name: 'import',
  usage: ['FILE.csv [--dry-run] [--skip-bad]'],
  about: `Assigns tiers to many consumers, and gives overrides and boosts, from a table. Its first line names its columns:
  consumer, tenant    whose it is: one of them
  tier                the tier of the consumer; or
  service, limit      the limit to change, with
  amount              its override, or
  by                  its boost
  until               when it ends by itself: 2026-12-31, or
                      2026-12-31T18:00:00Z; a boost needs it

The command checks the whole file first. If a line is bad, it changes nothing.`,
  whose: 'store',
  changes: true,
  options: {
    'dry-run': { help: 'only check the file' },
    'skip-bad': { help: 'leave bad lines out, and import the others' },
  },
  positionals: ['FILE'],
  run({ 'dry-run': dryRun = false, 'skip-bad': skipBad }, [file = ''], io) {
    // Checked before the command waits for the store.
    if (!existsSync(resolve(io.cwd, file))) throw new Refused(`${file}: there is no such file`)
    return async (control) => {
      const send = (rows: readonly object[], more: object) =>
        control.call<Answer>('POST', '/import', { rows, ...more })
      const { bad, sha256, ...counts } = await pass(io, file, new Set(), (rows) =>
        send(rows, { dry_run: true }),
      )
      const applied = !dryRun && (bad.length === 0 || skipBad === true)
      if (applied) {
        const skip = new Set(bad.map(({ line }) => line))
        const done = await pass(io, file, skip, (rows, line) => {
          const part = () => send(rows, { file_sha256: sha256 })
          const tell = ({ message }: Error, ms: number) =>
            complain(io, `${file}:${line}: ${message} Trying again in ${ms / 1000} s.`)
          return tryAgain(part, tell).catch((error) => {
            if (!(error instanceof Unavailable)) throw error
            const stopped = `stopped at line ${line}; the lines before it are imported, and you can import the file again`
            throw new Refused(`${file}: ${stopped}: ${error.message}`)
          })
        })
        // Between validation and import, an end may have passed, or the gateway's configuration may have changed.
        const [first] = done.bad
        if (first !== undefined) {
          const where = `${file}:${first.line}: ${first.problem}`
          throw new Refused(
            `${where}; the line was good a moment ago, and its part of ${BATCH} lines is not imported`,
          )
        }
        if (done.sha256 !== sha256) {
          const is = 'its new content is imported, and the record names the SHA-256 of the old content'
          throw new Refused(`${file} has changed meanwhile: ${is}; import it again`)
        }
      }
      const told = bad.slice(0, MOST_TOLD).map(({ line, problem }) => `${file}:${line}: ${problem}`)
      if (bad.length > MOST_TOLD)
        told.push(`and ${counted(bad.length - MOST_TOLD, 'more bad line')}; --json shows all`)
      return {
        data: { applied, sha256, ...counts, bad },
        text: summary(counts, bad.length, applied, dryRun),
        aside: told.join('\n'),
        code: bad.length === 0 || applied ? 0 : 1,
      }
    }
  },
})

function summary(counts: Counts, bad: number, applied: boolean, dryRun: boolean): string {
  const { tiers, overrides, boosts } = counts
  const what = [counted(tiers, 'tier'), counted(overrides, 'override'), counted(boosts, 'boost')].join(', ')
  const lines = bad === 0 ? '' : `; ${counted(bad, 'bad line')}`
  if (applied) return `imported ${what}${bad === 0 ? '' : `${lines} left out`}`
  return `${what}${lines}; nothing was changed${dryRun ? '' : ': correct them, or leave them out with --skip-bad'}`
}

type Counts = Omit<Answer, 'bad'>

interface Passed extends Counts {
  readonly bad: readonly Bad[]
  /** SHA-256 of the file's bytes, in hexadecimal. */
  readonly sha256: string
}

/**
 * Reads the file once.
 *
 * @param skip lines to leave out
 * @param send gets the rows of one request, and the line of the first
 */
async function pass(
  { cwd }: CommandIo,
  file: string,
  skip: ReadonlySet<number>,
  send: (rows: readonly object[], line: number) => Promise<Answer>,
): Promise<Passed> {
  const bad: Bad[] = []
  const total = { tiers: 0, overrides: 0, boosts: 0 }
  const seen = new Map<string, number>()
  const hash = createHash('sha256')
  async function* bytes(): AsyncGenerator<Buffer> {
    for await (const chunk of createReadStream(resolve(cwd, file))) {
      hash.update(chunk)
      yield chunk
    }
  }
  let columns: readonly string[] | undefined
  let lines: number[] = []
  let rows: object[] = []

  async function flush(): Promise<void> {
    if (rows.length === 0) return
    const answer = await send(rows, lines[0]!)
    total.tiers += answer.tiers
    total.overrides += answer.overrides
    total.boosts += answer.boosts
    for (const { row, problem } of answer.bad) bad.push({ line: lines[row]!, problem })
    lines = []
    rows = []
  }

  try {
    for await (const { number, text } of linesOf(bytes())) {
      if (text.trim() === '') continue
      const cells = cellsOf(text)
      if (columns === undefined) {
        columns = columnsIn(cells)
        continue
      }
      if (number > MOST_LINES) throw new Error(`it has more than ${MOST_LINES} lines; split it`)
      if (skip.has(number)) continue
      if (text.includes(REPLACED)) bad.push({ line: number, problem: 'not UTF-8; save the file as UTF-8' })
      else if (cells === undefined)
        bad.push({ line: number, problem: 'a quote is out of place, or not closed' })
      else if (cells.length !== columns.length) {
        bad.push({ line: number, problem: `${cells.length} cells for ${columns.length} columns` })
      } else {
        const row = Object.fromEntries(
          columns.flatMap((name, i) => (cells[i] === '' ? [] : [[name, cells[i]!]])),
        )
        const before = seen.get(keyOf(row))
        if (before !== undefined) {
          bad.push({ line: number, problem: `it sets the same as line ${before}; keep one of them` })
          continue
        }
        seen.set(keyOf(row), number)
        lines.push(number)
        if (rows.push(row) === BATCH) await flush()
      }
    }
  } catch (error) {
    if (error instanceof Refused) throw error
    throw new Refused(`${file}: ${whyUnreadable(error as Error)}`)
  }
  if (columns === undefined) throw new Refused(`${file} is empty; its first line names its columns`)
  await flush()
  return { ...total, bad: bad.sort((a, b) => a.line - b.line), sha256: hash.digest('hex') }
}

/** Returns the key that a row writes to. A second row with the same key would overwrite it. */
function keyOf(row: Readonly<Record<string, string>>): string {
  const { consumer = '', tenant = '', tier, service = '', limit = '', amount } = row
  const kind = tier !== undefined ? 'tier' : amount !== undefined ? 'override' : 'boost'
  return JSON.stringify([kind, consumer, tenant, ...(tier === undefined ? [service, limit] : [])])
}

function columnsIn(cells: readonly string[] | undefined): readonly string[] {
  const known = `columns are ${COLUMNS.join(', ')}`
  if (cells === undefined) throw new Error(`its first line does not list the columns; ${known}`)
  const wrong = cells.find((name) => !COLUMNS.includes(name))
  if (wrong !== undefined) throw new Error(`no column ${JSON.stringify(wrong)}; ${known}`)
  if (new Set(cells).size < cells.length) throw new Error('a column occurs twice')
  return cells
}
