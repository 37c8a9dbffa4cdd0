import type { Config } from '../config/schema/schema.js'

type Metering = NonNullable<Config['metering']>

/** Property that groups are counted by. */
export type By = Metering['by'][number]

/** Columns that are counted for every group. The others are filtered: requests with some statuses only. */
export const COLUMNS = [
  'requests',
  'cost',
  'denied',
  'request_bytes',
  'response_bytes',
  'fail_open',
  'local',
  'refunded',
] as const

type ColumnName = (typeof COLUMNS)[number]

/** Number of a fixed column. */
export const COLUMN = Object.fromEntries(COLUMNS.map((name, i) => [name, i])) as Readonly<
  Record<ColumnName, number>
>

/** Marks that go with every group in which they are not 0, whatever `count` says. */
export const MARKS: readonly string[] = ['fail_open', 'local', 'refunded']

/** Returns the statuses of filtered requests, in the order of their columns. */
export function filteredStatuses(count: Metering['count']): string[] {
  return count.flatMap((one) => (typeof one === 'string' ? [] : [one.requests.status]))
}

/** Returns the names of all columns, such as `requests_2xx`, and of those that events show. */
export function columnNames(count: Metering['count']) {
  const filtered = filteredStatuses(count).map((status) => `requests_${status}`)
  const plain = count.filter((one) => typeof one === 'string')
  return { columns: [...COLUMNS, ...filtered], shown: [...plain, ...filtered] }
}
