import { isFailure } from '../../errors.js'
import type { RequestRecord } from '../record/record.js'

/** Chooses the requests that get a line in the access log. */
export type LineFilter = ReturnType<typeof createLineFilter>

export interface LineFilterOptions {
  /** Share of the requests without an error that is kept, 0 to 1. */
  readonly sample: number
  /** Most lines a second for requests that ended with 400 or above. 0: no limit. */
  readonly maxErrors: number
  /** Called at most once a second with the number of lines of the last second beyond that limit. */
  readonly onFlood: (leftOut: number) => void
  /** Returns the current time in Unix ms. */
  readonly now?: () => number
}

const SECOND = 1000
const TWO_32 = 2 ** 32

/** Creates a filter, so that a client that floods the gateway with failing requests cannot fill the disk as well. */
export function createLineFilter(options: LineFilterOptions) {
  const { sample, maxErrors, onFlood, now = Date.now } = options
  const leftOut = { sample: 0, max_errors: 0 }
  let second = Number.NaN
  let errors = 0
  let told = 0
  let timer: NodeJS.Timeout | undefined

  function tell(): void {
    timer = undefined
    const more = leftOut.max_errors - told
    told = leftOut.max_errors
    onFlood(more)
  }

  return {
    keeps({
      status,
      error,
      requestId,
    }: Pick<RequestRecord, 'status' | 'requestId'> & Partial<Pick<RequestRecord, 'error'>>): boolean {
      if (status < 400 && !isFailure(status, error)) {
        if (sample >= 1 || shareOf(requestId) < sample) return true
        leftOut.sample++
        return false
      }
      if (maxErrors === 0) return true
      const current = Math.floor(now() / SECOND)
      if (current !== second) {
        second = current
        errors = 0
      }
      if (++errors <= maxErrors) return true
      leftOut.max_errors++
      timer ??= setTimeout(tell, SECOND).unref()
      return false
    },
    /** Returns the lines filtered since the start, by reason. */
    leftOut: (): Readonly<Record<'sample' | 'max_errors', number>> => leftOut,
    close(): void {
      if (timer === undefined) return
      clearTimeout(timer)
      tell()
    },
  }
}

/**
 * Maps a request id to a number from 0 to 1. The number depends only on the id, so that all gateways that log a request
 * under the same id keep its line or none does. Ids that differ in their last letter lie far apart.
 */
function shareOf(requestId: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < requestId.length; i++) hash = Math.imul(hash ^ requestId.charCodeAt(i), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return ((hash ^ (hash >>> 16)) >>> 0) / TWO_32
}
