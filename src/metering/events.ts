import { MARKS } from './columns.js'
import type { Interval } from './interval-file.js'
import { ANONYMOUS, OTHERS } from './usage-counter.js'
import type { Labels } from './usage-table.js'

/** CloudEvent (version 1.0, JSON event format) that says what one group has used in one interval. */
export interface UsageEvent {
  readonly specversion: '1.0'
  readonly type: 'tidegate.usage'
  /** The same when the event is sent again. */
  readonly id: string
  readonly source: string
  readonly subject: string
  /** Start of the interval. */
  readonly time: string
  readonly datacontenttype: 'application/json'
  readonly data: Readonly<Record<string, string | number>>
}

/** Makes the events of an interval, in the order of their ids. */
export function* eventsOf({ header, to, groups }: Interval): Generator<UsageEvent> {
  const { spool, number, from, source, columns, shown } = header
  const time = new Date(from).toISOString()
  const until = new Date(to).toISOString()
  for (const { index, labels, counts } of groups) {
    const data: Record<string, string | number> = { ...namesIn(labels), from: time, to: until }
    columns.forEach((column, i) => {
      const value = counts[i] ?? 0
      if (shown.includes(column) || (MARKS.includes(column) && value > 0)) data[column] = value
    })
    yield {
      specversion: '1.0',
      type: 'tidegate.usage',
      id: `${spool}-${number}-${index}`,
      source,
      subject: subjectOf(labels),
      time,
      datacontenttype: 'application/json',
      data,
    }
  }
}

function namesIn(labels: Labels): Record<string, string> {
  const names: Record<string, string> = {}
  for (const [name, value] of Object.entries(labels)) {
    if (value === ANONYMOUS) names.group = 'anonymous'
    else if (value === OTHERS) names.group = 'others'
    else if (value !== null) names[name] = value
  }
  return names
}

/**
 * Control characters and noncharacters, which no attribute of a CloudEvent may have (version 1.0, type String). A receiver
 * would refuse the event, and all that come after it would wait.
 */
const NOT_IN_ATTRIBUTES = /[\u0000-\u001f\u007f-\u009f]|\p{Noncharacter_Code_Point}/gu

function subjectOf({ consumer, tenant, service, tier, route }: Labels): string {
  if (consumer === ANONYMOUS) return 'tidegate:anonymous'
  if (consumer === OTHERS) return 'tidegate:others'
  const id = consumer ?? tenant ?? service ?? tier ?? route ?? 'all'
  return id.toWellFormed().replace(NOT_IN_ATTRIBUTES, encodeURIComponent)
}
