import { type Log, onceASecond } from './degraded.js'
import type { Decision } from './limiter.js'

/** Why a server of the store is given up for a while. */
export type LossReason = 'connection' | 'timeouts' | 'slow'

/** Tells the log when the store is lost and when it is back, with what was decided in between. */
export interface Outage {
  /** A decision was made without the store. */
  decided(decision: Decision): void
  lost(reason: LossReason): void
  /** All of the store answers. */
  recovered(): void
}

/** Ms: what was decided without the store longer ago has nothing to do with its being lost now. */
const APART = 5000

/** @param now ms, monotonic */
export function createOutage(log: Log, now = () => performance.now()): Outage {
  const warn = onceASecond((fields, message) => log.warn(fields, message), now)
  /** Since when it is lost, or was told to be last; at first: since the start. */
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
    decided({ decidedBy, allowed }) {
      const at = now()
      if (!away && at - latest > APART) reset()
      latest = at
      if (decidedBy === 'open' || decidedBy === 'local' || decidedBy === 'closed') counts[decidedBy]++
      if (allowed) letThrough++
    },
    lost(why) {
      if (!away) {
        since = now()
        away = true
        if (since - latest > APART) reset()
      }
      reason = why
      warn({ event: 'degraded', reason }, 'the store does not answer; deciding without it')
    },
    recovered() {
      if (!away) return
      away = false
      // Never held back: it has counts in it, and a probe comes before each.
      log.info(
        {
          // The first time it is there there is nothing that it recovers from, unless requests came before.
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
