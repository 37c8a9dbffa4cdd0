import { limitText } from '../../config/snapshot/limit.js'
import type { LineProblems } from '../read/access-lines.js'
import type { Tally } from '../read/plan-tally.js'
import { seen } from './display-width.js'
import { counted, firstCut, table, wrapped } from './terminal.js'

/** Result of a plan. */
export interface PlanTold {
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

/** Describes the result in one sentence, then the figures by tier, limit and consumer, then what they leave out. */
export function describePlan(told: PlanTold, columns: number | undefined): string {
  const { tally, shown } = told
  const parts = [verdict(told), source(told)].map((line) => wrapped(line, 0, columns))
  const tiers = tally.tiers()
  if (tiers.length > 0) {
    const head = ['service', 'tier', 'requests', 'denied', 'denied now', 'newly', 'consumers', 'let through']
    parts.push(
      rightAligned(
        [
          head,
          ...tiers.map((one) => [
            one.service,
            one.tier,
            number(one.requests),
            number(one.deniedThen),
            withShare(one.deniedNow, one.requests),
            number(one.newlyDenied),
            number(one.consumersNewlyDenied),
            number(one.newlyAllowed),
          ]),
        ],
        2,
      ),
    )
  }
  const limits = tally.limits()
  if (limits.length > 0) {
    const rows = limits.map((one) => [
      one.service,
      one.tier,
      one.limit.name,
      limitText(one.limit),
      number(one.deniedNow),
    ])
    parts.push(rightAligned([['service', 'tier', 'limit', 'amount', 'denies now'], ...rows], 4))
  }
  const consumers = tally.consumers().slice(0, shown)
  if (consumers.length > 0) {
    const rows = consumers.map((one) => [
      seen(one.consumer),
      one.service,
      one.tier,
      number(one.deniedThen),
      number(one.deniedNow),
      number(one.newlyDenied),
    ])
    const head = ['consumer', 'service', 'tier', 'denied', 'denied now', 'newly']
    parts.push(rightAligned(firstCut([head, ...rows], 2, columns), 3))
  }
  const notes = notesOf(told)
  if (notes.length > 0) parts.push(notes.map((note) => wrapped(note, 0, columns)).join('\n'))
  return parts.join('\n\n')
}

function verdict({ tally }: PlanTold): string {
  const { requests, newlyDenied, newlyAllowed } = tally.all
  if (requests === 0) return 'None of the requests has a limit to ask.'
  const more =
    newlyDenied === 0
      ? `No request would have been denied that was not, of ${number(requests)}`
      : `${number(newlyDenied)} of ${number(requests)} requests would have been denied that ${newlyDenied === 1 ? 'was' : 'were'} not (${share(newlyDenied, requests)})`
  const less =
    newlyAllowed === 0
      ? ''
      : `; ${number(newlyAllowed)} that ${newlyAllowed === 1 ? 'was' : 'were'} denied would have passed`
  const worst = tally.worstMinute()
  const most = worst?.newlyDenied === newlyDenied ? 'All' : 'Most'
  const when =
    worst === undefined || newlyDenied === 1
      ? ''
      : ` ${most} of them in the minute from ${time(worst.at).slice(0, 16)}Z${most === 'All' ? '' : `: ${number(worst.newlyDenied)}`}.`
  return `${more}${less}.${when}`
}

function source({ file, hash, logs, tally }: PlanTold): string {
  const { from, to } = tally.span()!
  const log = logs.map((one) => (one === '-' ? 'the standard input' : one)).join(', ')
  return `By ${file} (${hash}), for ${log}, from ${time(from)} to ${time(to)}.`
}

/** Lists what the figures leave out or assume. */
function notesOf({ file, tally, problems, unknownTiers, forgot, logged }: PlanTold): string[] {
  const { unidentified, refused, answered } = tally.skipped
  const notes: string[] = []
  const unrouted = tally.unrouted()
  if (unrouted.length > 0) {
    const named = unrouted
      .slice(0, 3)
      .map(({ route, requests }) => `${seen(route)} (${number(requests)})`)
      .join(', ')
    const total = unrouted.reduce((sum, { requests }) => sum + requests, 0)
    notes.push(
      `No route any more: ${counted(total, 'request')}, of ${named}${unrouted.length > 3 ? ' …' : ''}.`,
    )
  }
  for (const [tier, requests] of unknownTiers)
    notes.push(
      `Tier ${seen(tier)} is not in the configuration: ${counted(requests, 'request')} counted as the default tier's.`,
    )
  const left = [
    [unidentified, 'without a consumer'],
    [refused, 'refused before a limit was asked'],
    [answered, 'answered here without a limit'],
  ] as const
  const said = left.filter(([count]) => count > 0).map(([count, what]) => `${number(count)} ${what}`)
  if (said.length > 0) notes.push(`Not counted: ${said.join(', ')}.`)
  if (problems.other > 0)
    notes.push(
      `${counted(problems.other, 'line')} of no access log left out, the first at ${problems.first}.`,
    )
  if (logged < 1)
    notes.push(
      `log.sample is ${logged} in ${file}: if it was when the log was written, most requests are missing, and more would be denied.`,
    )
  if (tally.moreConsumers())
    notes.push('More consumers were denied than are kept: those that came last are not among them.')
  if (forgot)
    notes.push('More counts than memory holds (2,000,000): some began anew, and more would have been denied.')
  return notes
}

/** Formats the result for programs. */
export function planJson({ file, hash, logs, tally, problems, shown, unknownTiers, forgot }: PlanTold) {
  const { from, to } = tally.span()!
  const { requests, deniedThen, deniedNow, newlyDenied, newlyAllowed } = tally.all
  const worst = tally.worstMinute()
  return {
    config: file,
    hash,
    logs,
    from: time(from),
    to: time(to),
    requests,
    denied_then: deniedThen,
    denied_now: deniedNow,
    newly_denied: newlyDenied,
    newly_allowed: newlyAllowed,
    worst_minute: worst === undefined ? null : { from: time(worst.at), newly_denied: worst.newlyDenied },
    tiers: tally.tiers().map((one) => ({
      service: one.service,
      tier: one.tier,
      requests: one.requests,
      denied_then: one.deniedThen,
      denied_now: one.deniedNow,
      newly_denied: one.newlyDenied,
      newly_allowed: one.newlyAllowed,
      consumers_newly_denied: one.consumersNewlyDenied,
    })),
    limits: tally.limits().map(({ service, tier, limit, deniedNow: denied }) => ({
      service,
      tier,
      limit: limit.name,
      amount: limitText(limit),
      denied_now: denied,
    })),
    consumers: tally
      .consumers()
      .slice(0, shown)
      .map((one) => ({
        consumer: one.consumer,
        service: one.service,
        tier: one.tier,
        denied_then: one.deniedThen,
        denied_now: one.deniedNow,
        newly_denied: one.newlyDenied,
      })),
    skipped: tally.skipped,
    unrouted: tally.unrouted(),
    unknown_tiers: Object.fromEntries(unknownTiers),
    other_lines: problems.other,
    counts_forgotten: forgot,
  }
}

/** Formats a table: the first `texts` columns aligned left, numbers aligned right. */
function rightAligned(rows: readonly (readonly string[])[], texts: number): string {
  const width = (column: number) => Math.max(...rows.map((row) => row[column]!.length))
  return table(
    rows.map((row) => row.map((cell, column) => (column < texts ? cell : cell.padStart(width(column))))),
    2,
  )
}

const number = (value: number) => value.toLocaleString('en-US')
const time = (ms: number) => new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z')
const withShare = (part: number, all: number) => (part === 0 ? '0' : `${number(part)} (${share(part, all)})`)

/** Formats a share as `4.8 %`. Small shares have two significant digits, and a part above 0 is never shown as 0. */
export function share(part: number, all: number): string {
  const percent = (part / all) * 100
  return `${percent >= 10 ? percent.toFixed(0) : percent >= 1 ? percent.toFixed(1) : Number(percent.toPrecision(2))} %`
}
