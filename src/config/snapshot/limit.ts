import { omitUndefined } from '../../common/maps.js'
import type { Algorithm } from '../schema/algorithms.js'
import type { LimitSettings } from '../schema/services.js'
import { formatDuration, formatRate } from '../values/quantities.js'

/** Compiles limits for counting, and formats them as text. */

/** Level of a limit: requests with the same value share the quota. */
export type Level = 'ip' | 'consumer' | 'tenant' | 'route' | 'service'

export interface Limit {
  /** Unique within the policy: configured, or derived from the limit (`minute`, `30s`, `month`, `ip-minute`). */
  readonly name: string
  readonly algorithm: Algorithm
  readonly by: Level
  /** From 1 to 2^25 - 1. Except for calendar, amount × windowMs < 2^53. */
  readonly amount: number
  /**
   * At least 1 ms. calendar: a day, or 31 days. concurrency: how long a slot is held if it is neither given back nor
   * renewed.
   */
  readonly windowMs: number
  /** token_bucket: how much may be taken at once, burst × windowMs < 2^53. Otherwise the amount. */
  readonly burst: number
  /** Set for calendar only. */
  readonly calendar: Calendar | undefined
  /** Part of a shared limit that each consumer may take, above 0 and below 1; undefined if each may take all of it. */
  readonly share: number | undefined
  /** Name of the limit that this one is a share of. Set only for the limit that such a share makes. */
  readonly shareOf: string | undefined
  /** Set if the amount differs from the tier's. */
  readonly changed: AmountChange | undefined
  /** Limit from the time `at` on, if its amount changes by itself then. */
  readonly next: { readonly at: number; readonly limit: Limit } | undefined
}

/** Explains why an amount differs from the tier's. */
export interface AmountChange {
  /** Amount that the tier allows. */
  readonly tier: number
  /** Amount that replaces it; undefined if none does. */
  readonly override: number | undefined
  /** Amount that is added. */
  readonly boost: number
}

/** Returns the limit in force at `now` (unix ms). */
export function standing(limit: Limit, now: number): Limit {
  let present = limit
  while (present.next !== undefined && now >= present.next.at) present = present.next.limit
  return present
}

export interface Calendar {
  readonly period: 'day' | 'month'
  /** IANA name of the time zone. */
  readonly timeZone: string
}

const DAY = 86_400_000
const LONGEST_MS = { day: DAY, month: 31 * DAY }
const DEFAULT_LEASE = 60_000

/**
 * Compiles a limit with its defaults. The settings have been checked: a window or period is present where one is
 * needed.
 */
export function limitOf(settings: LimitSettings): Limit {
  const { name, amount, window, algorithm, by, burst, period, lease, share } = settings
  const { time_zone: timeZone = 'UTC' } = settings
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
    share,
    shareOf: undefined,
    changed: undefined,
    next: undefined,
  }
}

/** Compiles a limit and the limits derived from it: for a shared one, the limit of each consumer's share. */
export function limitsOf(settings: LimitSettings): readonly Limit[] {
  const limit = limitOf(settings)
  return limit.share === undefined ? [limit] : [limit, shareOf(limit, limit.share)]
}

/** Returns the limit of each consumer's share: rounded down, and at least 1. */
export function shareOf(limit: Limit, share: number): Limit {
  // 0.29 × 100 is slightly less than 29.
  const part = (amount: number) => Math.max(1, Math.floor(Number((amount * share).toFixed(6))))
  return {
    ...limit,
    name: `${limit.name}-share`,
    amount: part(limit.amount),
    burst: part(limit.burst),
    share: undefined,
    shareOf: limit.name,
  }
}

/** Members of a limit that its text shows. */
type Told = Pick<
  Limit,
  'algorithm' | 'by' | 'amount' | 'windowMs' | 'burst' | 'calendar' | 'share' | 'shareOf' | 'changed'
> & { readonly next: { readonly at: number } | undefined }

/**
 * `10/min`, `10/s token_bucket burst 20`, `1000/month in Europe/Berlin`, `5 at once by ip`, `100/min by tenant share 0.3`,
 * `600/min (100 + boost 500 until 2026-11-25T05:00:00Z)`.
 */
export function limitText(limit: Told): string {
  const change = changeText(limit)
  return change === '' ? quotaText(limit) : `${quotaText(limit)} (${change})`
}

/** Formats the quota, without the reason for a change. */
function quotaText({ algorithm, by, amount, windowMs, burst, calendar, share, shareOf }: Told): string {
  const part = share === undefined ? '' : ` share ${share}`
  const level = shareOf === undefined ? ` by ${by}${part}` : ` for each consumer of a ${by}`
  const whose = by === 'consumer' ? '' : level
  if (calendar !== undefined) return `${amount}/${calendar.period} in ${calendar.timeZone}${whose}`
  if (algorithm === 'concurrency') return `${amount} at once${whose}`
  const how = algorithm === 'sliding' ? '' : ` ${algorithm}`
  const most = burst === amount ? '' : ` burst ${burst}`
  return formatRate(amount, windowMs) + how + most + whose
}

function changeText({ changed, next }: Pick<Told, 'changed' | 'next'>): string {
  if (changed === undefined) return ''
  const { tier, override, boost } = changed
  if (override === undefined && boost === 0) return `${tier} by the tier`
  const base = override === undefined ? `${tier}` : `override ${override} of ${tier}`
  const more = boost === 0 ? '' : ` + boost ${boost}`
  return `${base}${more}${next === undefined ? '' : ` until ${secondOf(next.at)}`}`
}

/** Formats a time as `2026-11-25T05:00:00Z`. */
export function secondOf(at: number): string {
  return `${new Date(at).toISOString().slice(0, 19)}Z`
}

/** Returns the same for programs: the limit in the words of the file, times in ms. */
export function limitData(limit: Limit): LimitData {
  const { name, algorithm, by, amount, windowMs, burst, calendar, share, shareOf, changed, next } = limit
  const common = {
    name,
    algorithm,
    by,
    amount,
    ...omitUndefined({
      share,
      share_of: shareOf,
      changed: changed && {
        tier_amount: changed.tier,
        override: changed.override ?? null,
        boost: changed.boost,
        until: next === undefined ? null : new Date(next.at).toISOString(),
      },
    }),
  }
  if (calendar !== undefined) return { ...common, period: calendar.period, time_zone: calendar.timeZone }
  if (algorithm === 'concurrency') return { ...common, lease_ms: windowMs }
  return { ...common, ...(algorithm === 'token_bucket' ? { burst } : {}), window_ms: windowMs }
}

/** Formats the result of {@link limitData} as {@link limitText} formats a limit. */
export function limitDataText(data: LimitData): string {
  return limitText(toldOf(data))
}

/**
 * Returns the two parts of that text: `600/min`, and `100 + boost 500 until 2026-11-25T05:00:00Z`. The second is empty
 * if nothing is changed.
 */
export function limitDataParts(data: LimitData): { readonly quota: string; readonly change: string } {
  const told = toldOf(data)
  return { quota: quotaText(told), change: changeText(told) }
}

function toldOf(data: LimitData): Told {
  const { algorithm, by, amount, burst = amount, window_ms, lease_ms, period, time_zone } = data
  const { share, share_of: shareOf, changed: change } = data
  const calendar = period === undefined ? undefined : { period, timeZone: time_zone ?? 'UTC' }
  const changed = change && {
    tier: change.tier_amount,
    override: change.override ?? undefined,
    boost: change.boost,
  }
  const next = change?.until ? { at: Date.parse(change.until) } : undefined
  const windowMs = window_ms ?? lease_ms ?? 0
  return { algorithm, by, amount, burst, windowMs, calendar, share, shareOf, changed, next }
}

export interface LimitData {
  readonly name: string
  readonly algorithm: Algorithm
  readonly by: Level
  readonly amount: number
  readonly share?: number
  readonly share_of?: string
  /** Set if the amount differs from the tier's: by what, and until when. */
  readonly changed?: {
    readonly tier_amount: number
    readonly override: number | null
    readonly boost: number
    /** ISO 8601; null if the change is permanent. */
    readonly until: string | null
  }
  readonly burst?: number
  readonly window_ms?: number
  readonly lease_ms?: number
  readonly period?: Calendar['period']
  readonly time_zone?: string
}

const NAMED_WINDOWS: ReadonlyMap<number, string> = new Map([
  [1000, 'second'],
  [60_000, 'minute'],
  [3_600_000, 'hour'],
  [86_400_000, 'day'],
])

/** Returns the default name of a limit: its window, with the level unless that is the consumer. */
function nameOfLimit({
  algorithm,
  by,
  windowMs,
  calendar,
}: Pick<Limit, 'algorithm' | 'by' | 'windowMs' | 'calendar'>): string {
  const name =
    calendar?.period ??
    (algorithm === 'concurrency' ? 'concurrent' : (NAMED_WINDOWS.get(windowMs) ?? formatDuration(windowMs)))
  return by === 'consumer' ? name : `${by}-${name}`
}
