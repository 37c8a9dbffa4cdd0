import { fieldsOf } from '../../common/json.js'
import { groupBy } from '../../common/maps.js'
import { cut, type Entry, merge } from './space-saving.js'
import {
  COUNTERS,
  DIMENSIONS,
  type Dimension,
  type TopGroup,
  type TopQuestion,
  type TopReading,
} from './top.js'

/** Merges the counts of several processes, as if they had been one. */
export function mergeTop(readings: readonly TopReading[]): TopReading {
  const groups = groupBy(
    readings.flatMap((one) => one.groups),
    ({ service, tier }) => JSON.stringify([service, tier]),
  )
  const merged: TopGroup[] = Array.from(groups.values(), (all) => {
    const [{ service, tier }] = all
    return {
      service,
      tier,
      sketch: merge(
        all.map(({ sketch }) => sketch),
        COUNTERS,
      ),
    }
  })
  const now = Date.now()
  return {
    from: readings.length === 0 ? now : Math.min(...readings.map(({ from }) => from)),
    to: readings.length === 0 ? now : Math.max(...readings.map(({ to }) => to)),
    missed: readings.reduce((sum, { missed }) => sum + missed, 0),
    groups: merged,
  }
}

export interface TopRow {
  readonly consumer: string
  readonly service: string
  readonly tier: string
  /** The true count is between `count - error` and `count`. */
  readonly count: number
  readonly error: number
  /** Share of everything counted, 0 to 1. */
  readonly share: number
  /** Limit that was binding last; null: none was. */
  readonly limit: string | null
  /** Unix ms. */
  readonly since: number
}

/** Returns the highest counts of all groups together, and the highest count that a consumer without a row may have. */
export function topRows(
  { groups }: TopReading,
  most: number,
): { total: number; floor: number; rows: TopRow[] } {
  const total = groups.reduce((sum, { sketch }) => sum + sketch.total, 0)
  const all = groups.flatMap(({ service, tier, sketch }) =>
    sketch.entries.map(({ key, count, error, label, since }): TopRow => {
      const share = total === 0 ? 0 : Math.round((count / total) * 10_000) / 10_000
      return { consumer: key, service, tier, count, error, share, limit: label || null, since }
    }),
  )
  all.sort((a, b) => b.count - a.count || a.error - b.error)
  const floor = Math.max(all[most]?.count ?? 0, ...groups.map(({ sketch }) => sketch.floor))
  return { total, floor, rows: all.slice(0, most) }
}

/** Shortens a reading so that its JSON has at most `bytes` bytes. */
export function cutTop(reading: TopReading, bytes: number): TopReading {
  let left = reading
  for (let size = COUNTERS; size > 0 && Buffer.byteLength(JSON.stringify(left)) > bytes; ) {
    size >>= 1
    left = { ...left, groups: left.groups.map((group) => ({ ...group, sketch: cut(group.sketch, size) })) }
  }
  return left
}

/** Parses a question from outside; returns undefined if it is invalid. */
export function readTopQuestion(data: unknown): TopQuestion | undefined {
  const { by, service, tier } = fieldsOf(data)
  const name = (value: unknown) => value === undefined || typeof value === 'string'
  if (!(DIMENSIONS as readonly unknown[]).includes(by) || !name(service) || !name(tier)) return undefined
  return { by: by as Dimension, service: service as string | undefined, tier: tier as string | undefined }
}

/**
 * Parses a reading from outside; returns undefined if it is invalid. Anyone with access to the store can send anything.
 */
export function readTopReading(data: unknown): TopReading | undefined {
  const { from, to, missed, groups } = fieldsOf(data)
  if (!isTime(from) || !isTime(to) || !isCount(missed) || !Array.isArray(groups)) return undefined
  return groups.every(isGroup) ? { from, to, missed, groups } : undefined
}

function isGroup(data: unknown): data is TopGroup {
  const { service, tier, sketch } = fieldsOf(data)
  const { total, floor, entries } = fieldsOf(sketch)
  if (typeof service !== 'string' || typeof tier !== 'string') return false
  return isCount(total) && isCount(floor) && Array.isArray(entries) && entries.every(isEntry)
}

function isEntry(data: unknown): data is Entry {
  const { key, count, error, label, since } = fieldsOf(data)
  return (
    typeof key === 'string' &&
    typeof label === 'string' &&
    isCount(count) &&
    isCount(error) &&
    isTime(since) &&
    error <= count
  )
}

/** Returns true for a time that a Date can hold (ECMA-262, 21.4.1.1). */
function isTime(value: unknown): value is number {
  return isCount(value) && value <= 8.64e15
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value <= Number.MAX_SAFE_INTEGER
}
