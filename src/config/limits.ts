import { nameOfLimit } from './names.js'
import { formatRate } from './quantities.js'
import type { LimitSettings } from './schema-services.js'
import type { Limit } from './snapshot.js'

/** A limit of the file as it is counted, and back as a person reads it. */

const DAY = 86_400_000
const LONGEST_MS = { day: DAY, month: 31 * DAY }
const DEFAULT_LEASE = 60_000

/** A limit with all that goes without saying. It has been checked: a window or a period is there where one is needed. */
export function limitOf(settings: LimitSettings): Limit {
  const { name, amount, window, algorithm, by, burst, period, time_zone: timeZone = 'UTC', lease } = settings
  const calendar = algorithm === 'calendar' && period !== undefined ? { period, timeZone } : undefined
  const windowMs =
    calendar !== undefined
      ? LONGEST_MS[calendar.period]
      : algorithm === 'concurrency'
        ? (lease ?? DEFAULT_LEASE)
        : window!
  return {
    name: name ?? nameOfLimit({ algorithm, by, windowMs, calendar }),
    algorithm,
    by,
    amount,
    windowMs,
    burst: algorithm === 'token_bucket' ? (burst ?? amount) : amount,
    calendar,
  }
}

/** `10/min`, `10/s token_bucket burst 20`, `1000/month in Europe/Berlin`, `5 at once by ip`. */
export function limitText({ algorithm, by, amount, windowMs, burst, calendar }: Limit): string {
  const whose = by === 'consumer' ? '' : ` by ${by}`
  if (calendar !== undefined) return `${amount}/${calendar.period} in ${calendar.timeZone}${whose}`
  if (algorithm === 'concurrency') return `${amount} at once${whose}`
  const how = algorithm === 'sliding' ? '' : ` ${algorithm}`
  const most = burst === amount ? '' : ` burst ${burst}`
  return formatRate(amount, windowMs) + how + most + whose
}
