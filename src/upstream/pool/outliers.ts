import type { OutlierSettings } from '../../config/schema/upstreams.js'

/** Recent results of an upstream, from which outlier detection decides. */
export interface Conduct {
  /** Failures in a row. */
  consecutive: number
  /** `now()` at which the interval of the next two counts began. */
  intervalFrom: number
  requests: number
  failures: number
  /** Number of ejections, minus those that have been forgotten since. */
  times: number
  /** `now()` at which the latest ejection ends or ended. */
  until: number
}

/** Ejections grow up to this many times the first one. */
const LONGEST = 10

export function goodConduct(): Conduct {
  return { consecutive: 0, intervalFrom: 0, requests: 0, failures: 0, times: 0, until: 0 }
}

/**
 * Records the result of a request.
 *
 * @returns the reason to eject the upstream, if any
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

/** Ejects: returns the end of the ejection, which lasts longer each time. The counts start again after it. */
export function eject(conduct: Conduct, { ejection }: OutlierSettings, now: number): number {
  // An upstream that was restored early has nothing to forget yet.
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
 * Returns true if one more upstream may be ejected.
 *
 * @param all upstreams of the service that no operator has drained
 * @param out number of them that are left out already
 */
export function mayEject({ max_ejected: most }: OutlierSettings, all: number, out: number): boolean {
  if (all < 2) return false
  return out < Math.max(1, Math.floor((all * most) / 100))
}

/**
 * Returns what a status says about the upstream: 502, 503 and 504 mean that it, or a server behind it, is unavailable.
 * A 500 may be about that one request: otherwise a client could get an upstream ejected with requests that it cannot
 * handle.
 */
export function outcomeOf(status: number): 'well' | 'failed' {
  return status >= 502 && status <= 504 ? 'failed' : 'well'
}
