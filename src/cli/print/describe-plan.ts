import { limitText, secondOf } from '../../config/snapshot/limit.js'
import type { LineProblems } from '../read/access-lines.js'
import type { ConsumerCounts, LimitCounts, Tally, TierCounts } from '../read/plan-tally.js'
import { visibleText } from './display-width.js'
import { counted, firstCut, page, table, wrapped } from './terminal.js'

/** Result of a plan. */
export interface PlanResult {
  readonly file: string
  readonly hash: string
  readonly logs: readonly string[]
  readonly tally: Tally
  readonly problems: Readonly<LineProblems>
  /** Number of consumers to show. */
  readonly shown: number
  readonly unknownTiers: ReadonlyMap<string, number>
  readonly forgot: boolean
  /** Share of the requests below 400 that a gateway with this configuration logs. */
  readonly logged: number
}

/** A column of figures: its head, and the text of a row. */
type Column<T> = readonly [head: string, cellOf: (row: T) => string]

const COUNTS_BY_TIER: readonly Column<TierCounts>[] = [
  ['service', ({ service }) => service],
  ['tier', ({ tier }) => tier],
  ['requests', ({ requests }) => number(requests)],
  ['denied', ({ deniedThen }) => number(deniedThen)],
  ['denied now', ({ deniedNow, requests }) => withShare(deniedNow, requests)],
  ['newly', ({ newlyDenied }) => number(newlyDenied)],
  ['consumers', ({ consumersNewlyDenied }) => number(consumersNewlyDenied)],
  ['let through', ({ newlyAllowed }) => number(newlyAllowed)],
]
const COUNTS_BY_LIMIT: readonly Column<LimitCounts>[] = [
  ['service', ({ service }) => service],
  ['tier', ({ tier }) => tier],
  ['limit', ({ limit }) => limit.name],
  ['amount', ({ limit }) => limitText(limit)],
  ['denies now', ({ deniedNow }) => number(deniedNow)],
]
const COUNTS_BY_CONSUMER: readonly Column<ConsumerCounts>[] = [
  ['consumer', ({ consumer }) => visibleText(consumer)],
  ['service', ({ service }) => service],
  ['tier', ({ tier }) => tier],
  ['denied', ({ deniedThen }) => number(deniedThen)],
  ['denied now', ({ deniedNow }) => number(deniedNow)],
  ['newly', ({ newlyDenied }) => number(newlyDenied)],
]

/** Describes the result in one sentence, then the figures by tier, limit and consumer, then what they leave out. */
export function describePlan(told: PlanResult, columns: number | undefined): string {
  const { tally, shown } = told
  const notes = notesOf(told).map((note) => wrapped(note, 0, columns))
  return page(
    wrapped(verdict(told), 0, columns),
    wrapped(source(told), 0, columns),
    figures(COUNTS_BY_TIER, tally.tiers(), 2, columns),
    figures(COUNTS_BY_LIMIT, tally.limits(), 4, columns),
    figures(COUNTS_BY_CONSUMER, tally.consumers().slice(0, shown), 3, columns),
    notes.join('\n'),
  )
}

/** Formats a table: the first `texts` columns aligned left, numbers aligned right; empty without rows. */
function figures<T>(
  of: readonly Column<T>[],
  rows: readonly T[],
  texts: number,
  columns: number | undefined,
): string {
  if (rows.length === 0) return ''
  const lines = [of.map(([head]) => head), ...rows.map((row) => of.map(([, cellOf]) => cellOf(row)))]
  const cells = firstCut(lines, 2, columns)
  const width = (column: number) => Math.max(...cells.map((row) => row[column]!.length))
  return table(
    cells.map((row) => row.map((cell, i) => (i < texts ? cell : cell.padStart(width(i))))),
    2,
  )
}

function verdict({ tally }: PlanResult): string {
  const { requests, newlyDenied, newlyAllowed } = tally.all
  if (requests === 0) return 'No limit applies to any of the requests.'
  const more =
    newlyDenied === 0
      ? `No request of ${number(requests)} would have been newly denied`
      : `${number(newlyDenied)} of ${number(requests)} requests would have been newly denied (${share(newlyDenied, requests)})`
  const less =
    newlyAllowed === 0
      ? ''
      : `; ${number(newlyAllowed)} denied ${newlyAllowed === 1 ? 'request' : 'requests'} would have passed`
  const worst = tally.worstMinute()
  const most = worst?.newlyDenied === newlyDenied ? 'All' : 'Most'
  const when =
    worst === undefined || newlyDenied === 1
      ? ''
      : ` ${most} of them in the minute from ${time(worst.at).slice(0, 16)}Z${most === 'All' ? '' : `: ${number(worst.newlyDenied)}`}.`
  return `${more}${less}.${when}`
}

function source({ file, hash, logs, tally }: PlanResult): string {
  const { from, to } = tally.span()!
  const log = logs.map((one) => (one === '-' ? 'the standard input' : one)).join(', ')
  return `By ${file} (${hash}), for ${log}, from ${time(from)} to ${time(to)}.`
}

/** Lists what the figures leave out or assume. */
function notesOf({ file, tally, problems, unknownTiers, forgot, logged }: PlanResult): string[] {
  const { unidentified, refused, answered } = tally.skipped
  const notes: string[] = []
  const unrouted = tally.unrouted()
  if (unrouted.length > 0) {
    const named = unrouted
      .slice(0, 3)
      .map(({ route, requests }) => `${visibleText(route)} (${number(requests)})`)
      .join(', ')
    const total = unrouted.reduce((sum, { requests }) => sum + requests, 0)
    notes.push(
      `No route fits any more: ${counted(total, 'request')} of ${named}${unrouted.length > 3 ? ' …' : ''}.`,
    )
  }
  for (const [tier, requests] of unknownTiers)
    notes.push(
      `Tier ${visibleText(tier)} is not in the configuration: ${counted(requests, 'request')} counted as the default tier's.`,
    )
  const left = [
    [unidentified, 'without a consumer'],
    [refused, 'refused before a limit'],
    [answered, 'answered by the gateway without a limit'],
  ] as const
  const said = left.filter(([count]) => count > 0).map(([count, what]) => `${number(count)} ${what}`)
  if (said.length > 0) notes.push(`Not counted: ${said.join(', ')}.`)
  if (problems.other > 0)
    notes.push(
      `Not from an access log, and left out: ${counted(problems.other, 'line')}, the first at ${problems.first}.`,
    )
  if (logged < 1)
    notes.push(
      `log.sample is ${logged} in ${file}: if the log was written with it, most requests are missing, and more would be denied.`,
    )
  if (tally.moreConsumers())
    notes.push('More consumers were denied than Tidegate keeps: the last ones are missing here.')
  if (forgot)
    notes.push(
      'There are more counts than memory holds (2,000,000): some began anew, and more requests would have been denied.',
    )
  return notes
}

/** Formats the result for programs. */
export function planJson({ file, hash, logs, tally, problems, shown, unknownTiers, forgot }: PlanResult) {
  const { from, to } = tally.span()!
  const worst = tally.worstMinute()
  return {
    config: file,
    hash,
    logs,
    from: time(from),
    to: time(to),
    ...snakeCased(tally.all),
    worst_minute: worst === undefined ? null : { from: time(worst.at), newly_denied: worst.newlyDenied },
    tiers: tally.tiers().map(snakeCased),
    limits: tally.limits().map(({ limit, ...counts }) => {
      return { ...snakeCased(counts), limit: limit.name, amount: limitText(limit) }
    }),
    consumers: tally.consumers().slice(0, shown).map(snakeCased),
    skipped: tally.skipped,
    unrouted: tally.unrouted(),
    unknown_tiers: Object.fromEntries(unknownTiers),
    other_lines: problems.other,
    counts_forgotten: forgot,
  }
}

/** Returns an object with its keys as the JSON of Tidegate has them: `deniedNow` becomes `denied_now`. */
function snakeCased(counts: object): object {
  const snake = (key: string) => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
  return Object.fromEntries(Object.entries(counts).map(([key, value]) => [snake(key), value]))
}

const number = (value: number) => value.toLocaleString('en-US')
const time = secondOf
const withShare = (part: number, all: number) => (part === 0 ? '0' : `${number(part)} (${share(part, all)})`)

/** Formats a share as `4.8 %`. Small shares have two significant digits, and a part above 0 is never shown as 0. */
export function share(part: number, all: number): string {
  const percent = (part / all) * 100
  return `${percent >= 10 ? percent.toFixed(0) : percent >= 1 ? percent.toFixed(1) : Number(percent.toPrecision(2))} %`
}
