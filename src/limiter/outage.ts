import { type Log, throttledWarning } from '../log-throttle.js'
import type { Decision } from './limiter.js'

/** Why a server of the store is given up for a while. */
export type LossReason = 'connection' | 'timeouts' | 'slow'

/** Logs when the store is lost and when it is back, with the number of decisions made in between. */
export type Outage = ReturnType<typeof createOutage>

/** Decisions without the store longer ago than this, in ms, are not related to a loss now. */
const APART = 5000

/**
 * Creates the log of outages.
 *
 * @param now clock in ms, monotonic
 */
export function createOutage(log: Log, now = () => performance.now()) {
  const warn = throttledWarning(log, 1000, now)
  /** When the store was lost, or when that was last logged. Initially the time of the start. */
  let since = now()
  let reason: LossReason | undefined
  let latest = Number.NEGATIVE_INFINITY
  let away = true
  let counts = { open: 0, local: 0, closed: 0 }
  let letThrough = 0

  function reset(): void {
    counts = { open: 0, local: 0, closed: 0 }
    letThrough = 0
  }

  return {
    /** Records a decision made without the store. */
    decided({ decidedBy, allowed }: Decision): void {
      const at = now()
      if (!away && at - latest > APART) reset()
      latest = at
      if (decidedBy === 'open' || decidedBy === 'local' || decidedBy === 'closed') counts[decidedBy]++
      if (allowed) letThrough++
    },
    lost(why: LossReason): void {
      if (!away) {
        since = now()
        away = true
        if (since - latest > APART) reset()
      }
      reason = why
      warn({ event: 'degraded', reason }, 'the store does not answer; deciding without it')
    },
    /** Records that all servers of the store answer. */
    recovered(): void {
      if (!away) return
      away = false
      // Never suppressed: the line has counts, and a probe comes before each.
      log.info(
        {
          // The first connection is not a recovery, unless requests came before it.
          ...(reason === undefined && latest < since ? {} : { event: 'recovered', reason }),
          degraded_ms: Math.round(now() - since),
          let_through: letThrough,
          decided: counts,
        },
        'the store answers; counting in it',
      )
      reset()
    },
  }
}
