import { nearest } from './nearest-name.js'
import {
  DURATION_PATTERN,
  formatDuration,
  formatRate,
  formatSize,
  parseDuration,
  parseRate,
  parseSize,
  RATE_PATTERN,
  type Rate,
  SIZE_PATTERN,
} from './quantities.js'
import { type Kind, kindOf, textKind } from './scalar-type.js'

const RATE_FIX = 'write one such as 10/min, 5/s, 1000/h, 5000/day, 100/30s, or unlimited'
const SHARE_PATTERN = '^[0-9]*\\.?[0-9]+(e-[0-9]+)?$'

/** Matches a zone that can go into keys of the store: no colon, and only names. */
const ZONE_PATTERN = '^[A-Za-z][A-Za-z0-9_+/-]{0,63}$'

/** Kinds for amounts, durations, rates and time zones. */
export const QUANTITIES = {
  duration: quantityKind('duration', DURATION_PATTERN, parseDuration, formatDuration, '100ms, 5s or 1m'),
  size: quantityKind('size', SIZE_PATTERN, parseSize, formatSize, '512, 16KiB or 10MiB'),

  /** Share of a whole. */
  share: kindOf(
    '0 to 1',
    SHARE_PATTERN,
    (value, fail) => {
      const share = new RegExp(SHARE_PATTERN).test(value) ? Number(value) : Number.NaN
      return share <= 1 ? share : fail('is not a number from 0 to 1', 'write one such as 0.01')
    },
    String,
    ['string', 'integer'],
  ),

  rate: kindOf<Rate>(
    'limit',
    RATE_PATTERN,
    (value, fail) => parseRate(value) ?? fail('is not a limit', RATE_FIX),
    (value) => JSON.stringify(value),
  ),

  /** Rate of requests, without the other options of a limit. */
  per: kindOf<Rate>(
    'N/s, N/min, N/h',
    RATE_PATTERN,
    (value, fail) => {
      const { amount = 0, window = 0 } = parseRate(value) ?? {}
      return amount >= 1 && amount <= 1_000_000 && window >= 1 && window <= 86_400_000
        ? { amount, window }
        : fail(
            'is not such a rate',
            'write one such as 100/s, 20/min or 50/10s, of 1,000,000 and a day at most',
          )
    },
    ({ amount, window }) => formatRate(amount, window),
  ),

  zone: textKind('time zone', ZONE_PATTERN, (value, fail) => {
    if (new RegExp(ZONE_PATTERN).test(value) && isTimeZone(value)) return value
    const meant = nearest(value, Intl.supportedValuesOf('timeZone'))
    const fix =
      meant === undefined
        ? 'write a name of the IANA database, such as Europe/Berlin or UTC'
        : `did you mean "${meant}"?`
    return fail('is not a time zone', fix)
  }),
} as const

function quantityKind(
  label: string,
  pattern: string,
  parse: (text: string) => number | undefined,
  show: (value: number) => string,
  such: string,
): Kind<number> {
  return {
    label,
    types: ['string', 'integer'],
    pattern,
    read(text, fail, { least = 0, most = Number.MAX_SAFE_INTEGER }) {
      const value = parse(text)
      if (value === undefined) return fail(`is not a ${label}`, `write one such as ${such}`)
      if (value < least) return fail(`is less than ${show(least)}`, `write ${show(least)} or more`)
      if (value > most) return fail(`is more than ${show(most)}`, `write ${show(most)} or less`)
      return value
    },
    show,
  }
}

function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name })
    return true
  } catch {
    return false
  }
}
