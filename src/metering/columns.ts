import type { Config } from '../config/schema/schema.js'

type Metering = NonNullable<Config['metering']>

/** What a group is counted by, in the order in which its labels are stored. */
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

/** Returns the names of the columns of filtered requests, such as `requests_2xx`. */
export function filteredColumns(count: Metering['count']): readonly { name: string; status: string }[] {
  return count.flatMap((one) =>
    typeof one === 'string' ? [] : [{ name: `requests_${one.requests.status}`, status: one.requests.status }],
  )
}
