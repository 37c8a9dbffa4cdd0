import type { FleetAnswer, FleetGateway } from '../../admin/routes/fleet.js'
import { counted, firstCut, fits, listing, page, remarked, table, withoutEmpty, wrapped } from './terminal.js'
import { ago, roundedDuration, tableTime } from './time.js'

const INDENT = 2
/** Head of the column of words. */
const NOTE = 'note'
const HEAD = [
  'gateway',
  'group',
  'version',
  'configuration',
  'since',
  'workers',
  'state',
  'behind',
  'req/s',
  NOTE,
]

/** Describes the gateways, one line each, with what is wrong or differs. */
export function describeFleet(answer: FleetAnswer, columns: number | undefined, now = Date.now()): string {
  const { gateways } = answer
  if (gateways.length === 0) return page('No gateway to show.', asides(answer, columns))
  return page(
    wrapped(`${headline(gateways)}.`, 0, columns),
    gatewayTable(
      HEAD,
      gateways.map((one) => row(one, now)),
      columns,
    ),
    asides(answer, columns),
  )
}

/** Formats a line for each gateway, of which the last column is words. A long name is cut if that makes a table fit. */
function gatewayTable(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  columns: number | undefined,
): string {
  const [used = head, ...full] = withoutEmpty([head, ...rows])
  const words = used.at(-1) === NOTE
  const figures = [used, ...full].map((row) => (words ? row.slice(0, -1) : row))
  const cut = firstCut(figures, INDENT, columns)
  const shown = fits(table(cut, INDENT), columns)
    ? full.map((row, i) => [cut[i + 1]![0]!, ...row.slice(1)])
    : full
  return words ? remarked(used, shown, columns) : listing(used, shown, columns, INDENT)
}

/** Says in how many configurations and versions the gateways are. */
function headline(gateways: readonly FleetGateway[]): string {
  const kinds = (of: (one: FleetGateway) => readonly string[]) => new Set(gateways.flatMap(of)).size
  const configurations = kinds(({ config }) => [config.hash, ...config.others])
  const versions = kinds(({ versions }) => versions)
  const groups = kinds(({ group }) => [group ?? ''])
  const parts = [counted(gateways.length, 'gateway')]
  if (groups > 1) parts.push(counted(groups, 'group'))
  parts.push(counted(configurations, 'configuration'), counted(versions, 'version'))
  return parts.join(', ')
}

function row(one: FleetGateway, now: number): string[] {
  return [
    one.name,
    one.group ?? '',
    one.versions.join(', '),
    hashesOf(one),
    ago(one.config.since, now),
    one.workers === null ? '' : String(one.workers),
    one.state,
    one.lag_ms === 0 ? '0 s' : roundedDuration(one.lag_ms),
    String(one.requests_per_second),
    remarks(one, now).join('; '),
  ]
}

function hashesOf({ config: { hash, others } }: FleetGateway): string {
  return [hash, ...others].join(', ')
}

function remarks({ config, differs, faults, behind }: FleetGateway, now: number): string[] {
  const found: string[] = []
  const unlike = differs.filter((what) => what !== 'name')
  if (unlike.length > 0) found.push(`another ${unlike.join(' and ')} than most of its group`)
  if (differs.includes('name')) found.push('another gateway has this name')
  if (config.others.length > 0) found.push('its workers differ')
  if (config.rejected !== null) found.push(rejectedText(config.rejected, now))
  if (behind.length > 0) found.push(`may not have the latest ${behind.join(', ')}`)
  return [...found, ...faults]
}

function rejectedText({ at, message }: NonNullable<FleetGateway['config']['rejected']>, now: number): string {
  return `rejected its file ${ago(at, now)} ago: ${message}`
}

/** Describes what is not in the table. */
function asides({ unknown, libraries, left_out, problem }: FleetAnswer, columns: number | undefined): string {
  const lines: string[] = []
  if (problem !== null) lines.push(`This gateway only: ${problem}.`)
  if (left_out > 0) lines.push(`And ${counted(left_out, 'gateway')} more.`)
  if (unknown.processes > 0) lines.push(`${unknownText(unknown)}.`)
  if (libraries > 0) lines.push(`${processesText(libraries)} with the limiter library.`)
  return lines.map((line) => wrapped(line, 0, columns)).join('\n')
}

function unknownText({ processes, names }: FleetAnswer['unknown']): string {
  const which = names.length === 0 ? '' : `: ${names.join(', ')}`
  return `${processesText(processes)} without a status, of an older version or just starting${which}`
}

/** Formats a count: `1 process`, `2 processes`. */
export function processesText(count: number): string {
  return count === 1 ? '1 process' : `${count} processes`
}

/** Describes which gateway has taken which configuration, the latest first. */
export function describeReceipts({ gateways }: FleetAnswer, columns: number | undefined): string {
  const rows = gateways
    .flatMap(({ name, config }) => config.receipts.map(({ hash, at }) => [at, hash, name]))
    .sort(([a = ''], [b = '']) => (a < b ? 1 : a > b ? -1 : 0))
    .map(([at = '', hash = '', name = '']) => [tableTime(at), hash, name])
  return listing(['taken', 'configuration', 'gateway'], rows, columns)
}

export interface Missing {
  /** Configuration that is waited for. */
  readonly hash: string
  /** Gateways that do not have it. */
  readonly missing: readonly FleetGateway[]
  readonly unknown: FleetAnswer['unknown']
}

/** Describes the gateways that do not have a configuration, and why. */
export function describeMissing(
  { hash, missing, unknown }: Missing,
  columns: number | undefined,
  now = Date.now(),
): string {
  const rows = missing.map((one) => [
    one.name,
    one.group ?? '',
    hashesOf(one),
    ago(one.config.since, now),
    whyNot(one, hash, now),
  ])
  return page(
    rows.length === 0
      ? ''
      : gatewayTable(['gateway', 'group', 'configuration', 'since', NOTE], rows, columns),
    unknown.processes === 0 ? '' : wrapped(`${unknownText(unknown)}.`, 0, columns),
  )
}

function whyNot({ config, state }: FleetGateway, hash: string, now: number): string {
  if (config.rejected !== null) return rejectedText(config.rejected, now)
  if ([config.hash, ...config.others].includes(hash)) return 'not all of its workers have it'
  if (state === 'draining') return 'it is draining'
  const had = config.receipts.find((one) => one.hash === hash)
  return had === undefined
    ? 'it has not loaded it'
    : `it loaded it ${ago(had.at, now)} ago, and another one since`
}
