import { getOrAdd } from '../../common/maps.js'
import type { Calendar } from '../../config/snapshot/limit.js'

/** A day or month of a calendar. */
export interface Period {
  /** Days since 1970-01-01, or months since year 0: rises by one from period to period. */
  readonly index: number
  /** Start, in unix ms. */
  readonly start: number
  /** Unix ms of the first moment after the period. */
  readonly end: number
}

const DAY = 86_400_000
/** Bound on the length of a period: a month of 31 days in which the clocks went back, a day that a zone lived twice. */
const LONGEST = { day: 2 * DAY + 1, month: 32 * DAY }

const known = new WeakMap<Calendar, Period[]>()
const none = (): Period[] => []

/** Returns the period that contains `at` (unix ms). Caches the latest few, because every request needs one. */
export function periodAt(calendar: Calendar, at: number): Period {
  const periods = getOrAdd(known, calendar, none)
  for (const period of periods) if (at >= period.start && at < period.end) return period
  const found = find(calendar, at)
  periods.unshift(found)
  periods.length = Math.min(periods.length, 4)
  return found
}

/**
 * Finds the period by searching for changes of the date: the zone's own rules define it, whatever its clocks have done.
 */
function find({ period, timeZone }: Calendar, at: number): Period {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    calendar: 'gregory',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
  })
  const indexAt = (ms: number): number => {
    const date = new Map(format.formatToParts(ms).map(({ type, value }) => [type, Number(value)]))
    const [year, month, day] = [date.get('year')!, date.get('month')!, date.get('day')!]
    return period === 'month' ? year * 12 + month - 1 : Date.UTC(year, month - 1, day) / DAY
  }
  const index = indexAt(at)
  return {
    index,
    start: firstWhere((ms) => indexAt(ms) >= index, at - LONGEST[period], at),
    end: firstWhere((ms) => indexAt(ms) > index, at, at + LONGEST[period]),
  }
}

/**
 * Returns the first whole number above `no` for which `answer` is true. It must be false at `no`, true at `yes`, and
 * change once.
 */
function firstWhere(answer: (n: number) => boolean, no: number, yes: number): number {
  while (yes - no > 1) {
    const middle = Math.floor((no + yes) / 2)
    if (answer(middle)) yes = middle
    else no = middle
  }
  return yes
}
