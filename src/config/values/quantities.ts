/** Parses and formats durations, sizes and rates of the file. */

const DURATION_UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const
const SIZE_UNITS = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 } as const
/** Names of windows that may follow the slash of a rate. A duration is allowed there, too. */
const RATE_WINDOWS: ReadonlyMap<string, number> = new Map([
  ['s', DURATION_UNITS.s],
  ['min', DURATION_UNITS.m],
  ['h', DURATION_UNITS.h],
  ['day', DURATION_UNITS.d],
])

export const DURATION_PATTERN = '^(0|[0-9]+(ms|s|m|h|d))$'
export const SIZE_PATTERN = '^(0|[0-9]+(B|KiB|MiB|GiB)?)$'
export const RATE_PATTERN = '^[0-9]+/(s|min|h|day|[0-9]+(ms|s|m|h|d))$'

const duration = new RegExp(DURATION_PATTERN)
const size = new RegExp(SIZE_PATTERN)

/** Parses `100ms`, `5s`, `1m`, `2h`, `1d` or `0` to ms; undefined for anything else. */
export function parseDuration(text: string): number | undefined {
  const unit = duration.exec(text)?.[2]
  if (unit !== undefined)
    return safe(Number.parseInt(text, 10) * DURATION_UNITS[unit as keyof typeof DURATION_UNITS])
  return text === '0' ? 0 : undefined
}

/** Formats ms in the shortest way: `1m`, `90s`, `1500ms`, `0`. */
export function formatDuration(ms: number): string {
  if (ms === 0) return '0'
  let written = `${ms}ms`
  for (const [unit, factor] of Object.entries(DURATION_UNITS)) {
    if (ms % factor === 0) written = `${ms / factor}${unit}`
  }
  return written
}

/** Parses `512`, `16KiB`, `10MiB`, `1GiB` to bytes; undefined for anything else. */
export function parseSize(text: string): number | undefined {
  const match = size.exec(text)
  if (match === null) return undefined
  return safe(Number.parseInt(text, 10) * SIZE_UNITS[(match[2] ?? 'B') as keyof typeof SIZE_UNITS])
}

export function formatSize(bytes: number): string {
  if (bytes === 0) return '0'
  let written = `${bytes}`
  for (const [unit, factor] of Object.entries(SIZE_UNITS)) {
    if (factor > 1 && bytes % factor === 0) written = `${bytes / factor}${unit}`
  }
  return written
}

/** Amount per window, in ms. */
export interface Rate {
  readonly amount: number
  readonly window: number
}

/** Parses `10/min`, `5/s`, `100/30s` to the amount and the window in ms; undefined for anything else. */
export function parseRate(text: string): Rate | undefined {
  const slash = text.indexOf('/')
  const digits = text.slice(0, slash)
  if (slash < 1 || !/^[0-9]+$/.test(digits)) return undefined
  const per = text.slice(slash + 1)
  const window = RATE_WINDOWS.get(per) ?? parseDuration(per)
  const amount = safe(Number.parseInt(digits, 10))
  return window === undefined || amount === undefined ? undefined : { amount, window }
}

export function formatRate(amount: number, window: number): string {
  for (const [unit, ms] of RATE_WINDOWS) if (ms === window) return `${amount}/${unit}`
  return `${amount}/${formatDuration(window)}`
}

function safe(value: number): number | undefined {
  return Number.isSafeInteger(value) ? value : undefined
}
