import { formatDuration } from './quantities.js'

const NAMED_WINDOWS: ReadonlyMap<number, string> = new Map([
  [1000, 'second'],
  [60_000, 'minute'],
  [3_600_000, 'hour'],
  [86_400_000, 'day'],
])

interface NamedLimit {
  readonly name: string
  readonly amount: number
  readonly windowMs: number
}

/** The name of a limit that was given none: after its window. */
export function nameOfWindow(windowMs: number): string {
  return NAMED_WINDOWS.get(windowMs) ?? formatDuration(windowMs)
}

/** Last part of the key that counts are kept under: what changes it begins to count anew. */
export function keyPartOf(limits: readonly Pick<NamedLimit, 'windowMs'>[]): string {
  return limits.map(({ windowMs }) => formatDuration(windowMs)).join('+')
}

/** The RateLimit-Policy field (draft-ietf-httpapi-ratelimit-headers-11); `w` in whole seconds, at least 1. */
export function policyHeader(limits: readonly NamedLimit[]): string {
  return limits
    .map(({ name, amount, windowMs }) => `"${name}";q=${amount};w=${Math.max(1, Math.ceil(windowMs / 1000))}`)
    .join(', ')
}
