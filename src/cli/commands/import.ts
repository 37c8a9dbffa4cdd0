import { createHash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { ADMIN_HELP, ADMIN_OPTION, REASON_HELP, REASON_OPTION } from '../client/admin-option.js'
import { withControl } from '../client/with-control.js'
import { type CommandIo, defineCommand, Refused } from '../command.js'
import { CONFIG_HELP, CONFIG_OPTION } from '../config-file.js'
import { complain, counted, print, printable, printJson } from '../print/terminal.js'
import { cellsOf } from '../read/csv.js'
import { linesOf, whyUnreadable } from '../read/lines.js'

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
/** Maximum number of lines in a file. Their keys are remembered to find duplicates. */
const MOST_LINES = 1_000_000
/** Bad lines that are reported to a person. */
const MOST_TOLD = 20
/** Character that a decoder writes for bytes that are not UTF-8. An id with it would be another consumer's. */
const REPLACED = '\ufffd'

export const command = defineCommand({
  name: 'import',
  help: `Usage: tidegate import FILE.csv [--dry-run] [--skip-bad] [--reason TEXT]
                       [--admin HOST:PORT | --config FILE] [--json]

Puts many consumers on tiers, and gives overrides and boosts, as a table says.
Its first line names its columns, of:
  consumer, tenant    whose it is: one of them
  tier                the tier to put the consumer on; or
  service, limit      the limit to change, with
  amount              its override, or
  by                  its boost
  until               when it ends by itself: 2026-12-31, or
                      2026-12-31T18:00:00Z; a boost needs it

The whole file is looked at first. When a line is bad, nothing is changed.

Options:
  --dry-run           only look
  --skip-bad          leave bad lines out, and take the others
${REASON_HELP}
${ADMIN_HELP}
${CONFIG_HELP}
  --json              print JSON

With store.redis in the configuration the store is asked; without, the running
gateway, at admin.listen.`,
  options: {
    admin: ADMIN_OPTION,
    config: CONFIG_OPTION,
    'dry-run': { type: 'boolean' },
    'skip-bad': { type: 'boolean' },
    reason: REASON_OPTION,
    json: { type: 'boolean' },
  },
  positionals: ['FILE'],
  required: 1,
  async run({ admin, config, reason, json, ...flags }, io, [file = '']) {
    const dryRun = flags['dry-run'] === true
    // Checked before the command waits for the store.
    if (!existsSync(resolve(io.cwd, file)))
      throw new Refused(`tidegate import: ${file}: there is no such file`)
    return withControl(io, 'import', { config, admin, reason }, async (control) => {
      const send = (rows: readonly object[], more: object) =>
        control.call<Answer>('POST', '/import', { rows, ...more })
      const looked = await pass(io, file, new Set(), (rows) => send(rows, { dry_run: true }))
      const { bad, sha256, ...counts } = looked
      const takes = !dryRun && (bad.length === 0 || flags['skip-bad'] === true)
      if (takes) {
        const skip = new Set(bad.map(({ line }) => line))
        const done = await pass(io, file, skip, (rows) => send(rows, { file_sha256: sha256 }))
        // Between validation and import, an end may have passed, or the gateway's configuration may have changed.
        const [first] = done.bad
        if (first !== undefined) {
          const where = `${file}:${first.line}: ${first.problem}`
          throw new Refused(
            `tidegate import: ${where}; it was good a moment ago, and its part of ${BATCH} lines is not imported`,
          )
        }
        if (done.sha256 !== sha256) {
          const is = 'what it holds now is imported, and the record names the SHA-256 of what it held before'
          throw new Refused(`tidegate import: ${file} has changed meanwhile: ${is}; import it again`)
        }
      }
      if (json) printJson(io, { applied: takes, sha256, ...counts, bad })
      else {
        for (const { line, problem } of bad.slice(0, MOST_TOLD))
          complain(io, printable(`${file}:${line}: ${problem}`))
        if (bad.length > MOST_TOLD)
          complain(io, `and ${counted(bad.length - MOST_TOLD, 'more bad line')}; --json has all`)
        print(io, summary(counts, bad.length, takes, dryRun))
      }
      return bad.length === 0 || takes ? 0 : 1
    })
  },
})

function summary(counts: Counts, bad: number, applied: boolean, dryRun: boolean): string {
  const { tiers, overrides, boosts } = counts
  const what = [counted(tiers, 'tier'), counted(overrides, 'override'), counted(boosts, 'boost')].join(', ')
  const lines = bad === 0 ? '' : `; ${counted(bad, 'bad line')}`
  if (applied) return `imported ${what}${bad === 0 ? '' : `${lines} left out`}`
  return `${what}${lines}; nothing was changed${dryRun ? '' : ': correct them, or leave them out by --skip-bad'}`
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
 */
async function pass(
  { cwd }: CommandIo,
  file: string,
  skip: ReadonlySet<number>,
  send: (rows: readonly object[]) => Promise<Answer>,
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
    const answer = await send(rows)
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
      if (number > MOST_LINES) throw new Error(`it has more than ${MOST_LINES} lines; cut it in pieces`)
      if (skip.has(number)) continue
      if (text.includes(REPLACED)) bad.push({ line: number, problem: 'not UTF-8; save the file as that' })
      else if (cells === undefined)
        bad.push({ line: number, problem: 'a quote is out of place, or not closed' })
      else if (cells.length !== columns.length) {
        bad.push({ line: number, problem: `${cells.length} cells under ${columns.length} columns` })
      } else {
        const row = Object.fromEntries(
          columns.flatMap((name, i) => (cells[i] === '' ? [] : [[name, cells[i]!]])),
        )
        const before = seen.get(keyOf(row))
        if (before !== undefined) {
          bad.push({ line: number, problem: `the same as line ${before} is about; which of them is meant?` })
          continue
        }
        seen.set(keyOf(row), number)
        lines.push(number)
        if (rows.push(row) === BATCH) await flush()
      }
    }
  } catch (error) {
    if (error instanceof Refused) throw error
    throw new Refused(`tidegate import: ${file}: ${whyUnreadable(error as Error)}`)
  }
  if (columns === undefined)
    throw new Refused(`tidegate import: ${file} is empty; its first line names its columns`)
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
  if (cells === undefined) throw new Error(`its first line is no list of columns; ${known}`)
  const wrong = cells.find((name) => !COLUMNS.includes(name))
  if (wrong !== undefined) throw new Error(`no column ${JSON.stringify(wrong)}; ${known}`)
  if (new Set(cells).size < cells.length) throw new Error('a column is there twice')
  return cells
}
