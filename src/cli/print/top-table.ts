import type { TopAnswer } from '../../admin/routes/top.js'
import type { Dimension, TopQuestion } from '../../telemetry/top/top.js'
import { fit, visibleText, widthOf } from './display-width.js'
import type { Paint } from './terminal.js'
import { ago } from './time.js'

/** State that `tidegate top` shows: the data and the room for it. */
export interface TopView extends TopQuestion {
  /** Latest answer; undefined before the first. */
  readonly told: TopAnswer | undefined
  /** Why there is no newer answer. */
  readonly problem: string | undefined
  /** Columns of the terminal; infinite without a terminal. */
  readonly columns: number
}

const WORDS: Readonly<Record<Dimension, { title: string; head: string; none: string }>> = {
  limited: { title: 'limited most', head: 'denied', none: 'No consumer is being limited.' },
  near: { title: 'near a limit', head: 'near', none: 'No consumer is near a limit.' },
  share: { title: 'over their share', head: 'refused', none: 'No consumer wants more than its share.' },
  cost: { title: 'costing most', head: 'cost', none: 'No quota was used.' },
}

/** Columns in the order in which they are dropped if there is not enough room. */
const LEAST_NEEDED = ['since', 'share', 'limit', 'per s', 'tier', 'service']
const LEAST_CONSUMER = 16

/**
 * Returns lines without a newline, none wider than the terminal: the head of the page, then that of the table, then
 * rows.
 */
export function topLines(view: TopView, paint: Paint): { head: string[]; rows: string[]; foot: string[] } {
  const { by, told, problem, columns } = view
  const words = WORDS[by]
  const where = [view.service ?? 'all services', ...(view.tier === undefined ? [] : [view.tier])]
  const facts = [
    words.title,
    ...where,
    ...(told === undefined ? [] : [spanOf(told, problem !== undefined), ...nodesOf(told)]),
  ]
  const head = [paint('bold', cutTo(facts.join(' · '), columns))]
  const foot: string[] = []
  if (told?.nodes.problem != null)
    foot.push(paint('yellow', cutTo(`this gateway only: ${told.nodes.problem}`, columns)))
  if (told !== undefined && told.nodes.silent.length > 0)
    foot.push(paint('yellow', cutTo(`no answer from ${visibleText(told.nodes.silent.join(', '))}`, columns)))
  if (problem !== undefined) foot.push(paint('red', cutTo(problem, columns)))
  if (told === undefined) return { head, rows: [], foot }
  if (told.rows.length === 0) return { head, rows: [cutTo(words.none, columns)], foot }
  const { names, lines } = layout(told, words.head, columns)
  head.push(paint('dim', names))
  if (told.floor > 0)
    foot.unshift(paint('dim', cutTo(`no other consumer has more than ${number(told.floor)}`, columns)))
  return { head, rows: lines, foot }
}

function layout(told: TopAnswer, counted: string, columns: number): { names: string; lines: string[] } {
  const seconds = (Date.parse(told.to) - Date.parse(told.from)) / 1000
  const all: { name: string; right?: boolean; cells: string[] }[] = [
    { name: 'consumer', cells: told.rows.map(({ consumer }) => visibleText(consumer) || '""') },
    { name: 'service', cells: told.rows.map(({ service }) => visibleText(service)) },
    { name: 'tier', cells: told.rows.map(({ tier }) => visibleText(tier)) },
    { name: counted, right: true, cells: told.rows.map(range) },
    { name: 'per s', right: true, cells: told.rows.map(({ count }) => rate(count / Math.max(1, seconds))) },
    { name: 'share', right: true, cells: told.rows.map(({ share }) => `${(share * 100).toFixed(1)} %`) },
    { name: 'limit', cells: told.rows.map(({ limit }) => visibleText(limit ?? '')) },
    {
      name: 'since',
      right: true,
      cells: told.rows.map(({ since }) => ago(since, Date.parse(told.to))),
    },
  ]
  const widths = new Map(all.map(({ name, cells }) => [name, Math.max(...[name, ...cells].map(widthOf))]))
  let shown = all
  const others = () => shown.slice(1).reduce((sum, { name }) => sum + widths.get(name)! + 2, 0)
  const least = Math.min(LEAST_CONSUMER, widths.get('consumer')!)
  for (const name of LEAST_NEEDED) {
    if (others() + least <= columns) break
    shown = shown.filter((one) => one.name !== name)
  }
  widths.set('consumer', Math.max(1, Math.min(widths.get('consumer')!, columns - others())))
  const line = (cellOf: (column: (typeof all)[number]) => string) =>
    cutTo(
      shown
        .map((column) => {
          const cell = cellOf(column)
          const width = widths.get(column.name)!
          return column.right ? ' '.repeat(Math.max(0, width - widthOf(cell))) + cell : fit(cell, width)
        })
        .join('  '),
      columns,
    ).trimEnd()
  return {
    names: line(({ name }) => name),
    lines: told.rows.map((_, i) => line(({ cells }) => cells[i]!)),
  }
}

/** Formats the range that contains the true count. */
function range({ count, error }: TopAnswer['rows'][number]): string {
  return error === 0 ? number(count) : `${number(count - error)}–${number(count)}`
}

/** Formats the time span of an answer. If it is not the latest any more, it includes when it was valid. */
function spanOf({ from, to }: TopAnswer, stale: boolean): string {
  const seconds = Math.round((Date.parse(to) - Date.parse(from)) / 1000)
  return stale ? `${seconds} s until ${new Date(to).toLocaleTimeString('en-GB')}` : `last ${seconds} s`
}

function nodesOf({ nodes, missed }: TopAnswer): string[] {
  const { answered, silent } = nodes
  const of = silent.length === 0 ? '' : ` of ${answered + silent.length}`
  const gateways = `${answered}${of} gateway${answered === 1 && of === '' ? '' : 's'}`
  return [gateways, ...(missed === 0 ? [] : [`${number(missed)} not counted`])]
}

const number = (value: number) => value.toLocaleString('en-US')

function rate(perSecond: number): string {
  return perSecond < 100 ? perSecond.toFixed(1) : number(Math.round(perSecond))
}

export function cutTo(text: string, columns: number): string {
  return widthOf(text) <= columns ? text : fit(text, columns)
}
