import { nearest } from './nearest-name.js'
import type { Fail } from './parse-url.js'
import {
  DURATION_PATTERN,
  formatDuration,
  formatRate,
  formatSize,
  parseDuration,
  parseRate,
  parseSize,
  RATE_PATTERN,
  SIZE_PATTERN,
} from './quantities.js'
import { asText, type Bounds, type Kind } from './scalar-type.js'

const SHARE_PATTERN = '^[0-9]*\\.?[0-9]+(e-[0-9]+)?$'

/** Matches a zone that can go into keys of the store: no colon, and only names. */
const ZONE_PATTERN = '^[A-Za-z][A-Za-z0-9_+/-]{0,63}$'

/** Kinds for amounts, durations, rates and time zones. */
export const QUANTITIES = {
  duration: {
    label: 'duration',
    types: ['string', 'integer'],
    pattern: DURATION_PATTERN,
    read: (value, fail, bounds) =>
      bounded(
        parseDuration(value),
        bounds,
        formatDuration,
        fail,
        'is not a duration',
        'write one such as 100ms, 5s or 1m',
      ),
    show: formatDuration,
  } satisfies Kind<number>,

  size: {
    label: 'size',
    types: ['string', 'integer'],
    pattern: SIZE_PATTERN,
    read: (value, fail, bounds) =>
      bounded(
        parseSize(value),
        bounds,
        formatSize,
        fail,
        'is not a size',
        'write one such as 512, 16KiB or 10MiB',
      ),
    show: formatSize,
  } satisfies Kind<number>,

  /** Share of a whole. */
  share: {
    label: '0 to 1',
    types: ['string', 'integer'],
    pattern: SHARE_PATTERN,
    read: (value, fail) => {
      const share = new RegExp(SHARE_PATTERN).test(value) ? Number(value) : Number.NaN
      return share <= 1 ? share : fail('is not a number from 0 to 1', 'write one such as 0.01')
    },
    show: String,
  } satisfies Kind<number>,

  rate: {
    label: 'limit',
    types: ['string'],
    pattern: RATE_PATTERN,
    read: (value, fail) =>
      parseRate(value) ??
      fail('is not a limit', 'write one such as 10/min, 5/s, 1000/h, 5000/day, 100/30s, or unlimited'),
    show: (value) => JSON.stringify(value),
  } satisfies Kind<{ amount: number; window: number }>,

  /** Rate of requests, without the other options of a limit. */
  per: {
    label: 'N/s, N/min, N/h',
    types: ['string'],
    pattern: RATE_PATTERN,
    read: (value, fail) => {
      const rate = parseRate(value)
      const good = rate !== undefined && rate.amount >= 1 && rate.amount <= 1_000_000 && rate.window >= 1
      return good && rate.window <= 86_400_000
        ? rate
        : fail(
            'is not such a rate',
            'write one such as 100/s, 20/min or 50/10s, of 1,000,000 and a day at most',
          )
    },
    show: ({ amount, window }) => formatRate(amount, window),
  } satisfies Kind<{ amount: number; window: number }>,

  zone: {
    label: 'time zone',
    types: ['string'],
    pattern: ZONE_PATTERN,
    read: (value, fail) => {
      if (new RegExp(ZONE_PATTERN).test(value) && isTimeZone(value)) return value
      const zones = Intl.supportedValuesOf('timeZone')
      const meant = nearest(value, zones)
      return fail(
        'is not a time zone',
        meant === undefined
          ? 'write a name of the IANA database, such as Europe/Berlin or UTC'
          : `did you mean "${meant}"?`,
      )
    },
    show: asText,
  } satisfies Kind<string>,
} as const

function bounded(
  value: number | undefined,
  { least = 0, most = Number.MAX_SAFE_INTEGER }: Bounds,
  format: (value: number) => string,
  fail: Fail,
  wrong: string,
  fix: string,
): number | undefined {
  if (value === undefined) return fail(wrong, fix)
  if (value < least) return fail(`is less than ${format(least)}`, `write ${format(least)} or more`)
  if (value > most) return fail(`is more than ${format(most)}`, `write ${format(most)} or less`)
  return value
}

function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name })
    return true
  } catch {
    return false
  }
}
