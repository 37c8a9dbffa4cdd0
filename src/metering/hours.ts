import { setTimeout as delay } from 'node:timers/promises'
import { COLUMN } from './columns.js'
import type { Interval } from './interval-file.js'
import type { Spool } from './spool.js'

export const HOUR = 3_600_000
/** Hours that are told, with the present one. */
export const HOURS_KEPT = 24

/** Start of an hour in unix ms, and what was used in it: requests, cost, and requests that were denied. */
export type HourCounts = readonly [hour: number, requests: number, cost: number, denied: number]

/** Use of a consumer by hour. */
export interface HoursReading {
  /** Hours in which something was counted, in no order. */
  readonly hours: readonly HourCounts[]
  /** Unix ms. Use before this time may be missing. 0: none is. */
  readonly since: number
}

/** Longest time that one search reads the spool, in ms. */
const SEARCH_MS = 500
/** Searches that may run or wait at a time. */
const MOST_SEARCHES = 2
/** Ms for which an answer is reused: the page that shows it asks again and again. */
const GOOD_FOR = 30_000
const MOST_KEPT = 100

export interface HoursOptions {
  readonly spool: Pick<Spool, 'latest' | 'read'>
  /** Resolves when no interval is between memory and disk. */
  readonly settled: () => Promise<unknown>
  /** Returns what a consumer or tenant has used and no file of the spool has yet. */
  readonly unfiled: (id: string) => readonly Interval[]
  readonly now: () => number
}

/**
 * Creates the search for what one consumer has used by hour. An interval belongs to the hour in which it begins.
 * The search reads the files of the spool one after the other, newest first. It pauses as long as it has worked, so that
 * whoever asks takes at most half of the time.
 */
export function createHours({ spool, settled, unfiled, now }: HoursOptions) {
  const recent = new Map<string, { readonly until: number; readonly told: Promise<HoursReading> }>()
  let searches = 0
  let last: Promise<unknown> = Promise.resolve()

  async function search(id: string): Promise<HoursReading> {
    await settled()
    const end = performance.now() + SEARCH_MS
    const first = (Math.floor(now() / HOUR) - HOURS_KEPT + 1) * HOUR
    const files = spool.latest(first, id)
    const hours: HourCounts[] = []
    const add = ({ header, groups }: Interval) => {
      const hour = Math.floor(header.from / HOUR) * HOUR
      // Groups of a tenant with the same id are of other consumers.
      for (const { counts } of groups.filter(({ labels }) => labels.consumer === id))
        hours.push([hour, counts[COLUMN.requests]!, counts[COLUMN.cost]!, counts[COLUMN.denied]!])
    }
    for (const interval of unfiled(id)) add(interval)
    let since = now()
    let isWhole = spool.read().forgotten < first
    for await (const { interval } of files) {
      add(interval)
      since = interval.header.from
      if (performance.now() < end) continue
      isWhole = false
      break
    }
    return mergeHours([{ hours, since: isWhole ? 0 : since }])
  }

  return (id: string): Promise<HoursReading> => {
    const began = performance.now()
    for (const [key, { until }] of recent) if (until <= began || recent.size > MOST_KEPT) recent.delete(key)
    const known = recent.get(id)
    if (known !== undefined) return known.told
    // Nothing is known, then: the caller sees that all before now is missing.
    if (searches >= MOST_SEARCHES) return Promise.resolve({ hours: [], since: now() })
    searches++
    let started = began
    const told = last
      .then(() => {
        started = performance.now()
        return search(id)
      })
      .finally(() => searches--)
    last = told.catch(() => {}).then(() => delay(performance.now() - started))
    recent.set(id, { until: began + GOOD_FOR, told })
    return told
  }
}

/** Adds up the use that several processes have counted. */
export function mergeHours(readings: readonly HoursReading[]): HoursReading {
  const sums = new Map<number, HourCounts>()
  for (const [hour, ...more] of readings.flatMap(({ hours }) => hours)) {
    const [, ...known] = sums.get(hour) ?? [hour, 0, 0, 0]
    sums.set(hour, [hour, known[0] + more[0], known[1] + more[1], known[2] + more[2]])
  }
  return { hours: [...sums.values()], since: Math.max(0, ...readings.map((one) => one.since)) }
}
