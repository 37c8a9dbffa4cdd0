import type { OutlierSettings } from '../../config/schema/upstreams.js'

/** What is remembered of the requests that an upstream was given, to tell whether it fails more than it should. */
export interface Conduct {
  /** Failures in a row. */
  consecutive: number
  /** `now()` at which the interval began that the next two are about. */
  intervalFrom: number
  requests: number
  failures: number
  /** How often it was ejected, less what has been forgotten since. */
  times: number
  /** `now()` until which the latest ejection lasts or lasted. */
  until: number
}

/** Ejections grow up to this many times the first one. */
const LONGEST = 10

export function goodConduct(): Conduct {
  return { consecutive: 0, intervalFrom: 0, requests: 0, failures: 0, times: 0, until: 0 }
}

/**
 * Takes down how a request went.
 *
 * @returns why the upstream should be ejected, if it should
 */
export function judge(
  conduct: Conduct,
  settings: OutlierSettings,
  failed: boolean,
  now: number,
): string | undefined {
  if (now - conduct.intervalFrom >= settings.interval) {
    conduct.intervalFrom = now
    conduct.requests = 0
    conduct.failures = 0
  }
  conduct.requests++
  if (!failed) {
    conduct.consecutive = 0
    return undefined
  }
  conduct.consecutive++
  conduct.failures++
  const { requests, failures, consecutive } = conduct
  if (consecutive >= settings.consecutive_failures) return `${consecutive} failures in a row`
  if (requests < settings.min_requests || failures * 100 < settings.failure_ratio * requests) return undefined
  return `${failures} of ${requests} requests failed`
}

/** Ejects: gives the time until which, twice as far away each time. The count starts anew when it is back. */
export function eject(conduct: Conduct, { ejection }: OutlierSettings, now: number): number {
  // One that was let in before its time has nothing to forget yet.
  const forgotten = Math.max(0, Math.floor((now - conduct.until) / ejection))
  const times = Math.max(0, conduct.times - forgotten)
  conduct.times = times + 1
  conduct.until = now + ejection * Math.min(2 ** times, LONGEST)
  conduct.consecutive = 0
  conduct.intervalFrom = conduct.until
  conduct.requests = 0
  conduct.failures = 0
  return conduct.until
}

/**
 * Whether one more upstream may be ejected.
 *
 * @param all upstreams of the service that nobody has drained
 * @param out how many of them are left out already
 */
export function mayEject({ max_ejected: most }: OutlierSettings, all: number, out: number): boolean {
  if (all < 2) return false
  return out < Math.max(1, Math.floor((all * most) / 100))
}

/**
 * What an answer tells of the upstream: 502, 503 and 504 say that it, or something behind it, is not there. A 500 may be
 * about the one request, and nobody should get an upstream ejected by sending requests that it cannot cope with.
 */
export function outcomeOf(status: number): 'well' | 'failed' {
  return status >= 502 && status <= 504 ? 'failed' : 'well'
}
