/** Whether a source answers. While it does not, it is asked now and then, and nobody waits. */
export interface Reach {
  readonly up: boolean
  /**
   * Whether it may be asked for a consumer now. While it is down: one question at a time, with growing pauses, and of those
   * that have failed none before the others had their turn.
   */
  mayAsk(now: number, consumer: string): boolean
  /** Each question that may be asked ends in one of these. */
  answered(now: number): void
  failed(now: number, consumer: string, why: string): void
  /**
   * It has answered, but with something that is no use for this consumer. That takes it from nobody else, nor does it hide that
   * others get no answer.
   */
  unfit(now: number, consumer: string, why: string): void
}

export interface ReachLog {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}

/**
 * Consumers whose questions failed in a row. One or two are a slow query, or a connection that had been cut; and one consumer whose
 * id the source cannot digest must not take it from all the others, however often it comes.
 */
const ENOUGH = 3
/** Failures in a row, where there are not as many consumers. */
const ENOUGH_OF_FEW = 10
/** Consumers that are remembered to have failed. */
const MOST_FAILED = 1000
/** Ms from one question to the next while it is down: twice as long each time. */
const FIRST_PAUSE = 1000
const LONGEST_PAUSE = 30_000

/** @param random from 0 to below 1: gateways that lost it together do not come back together */
export function createReach(source: string, log: ReachLog, random: () => number = Math.random): Reach {
  let failures = 0
  /** Since the last answer. */
  const inVain = new Set<string>()
  let up = true
  let lostAt = 0
  let pause = FIRST_PAUSE
  let askAgainAt = 0
  let probing = false
  const warn = onceAMinute((fields, message) => log.warn(fields, message))

  function remember(consumer: string): void {
    if (inVain.size >= MOST_FAILED) inVain.clear()
    inVain.add(consumer)
  }

  return {
    get up() {
      return up
    },
    mayAsk(now, consumer) {
      if (up) return true
      if (probing || now < askAgainAt + (inVain.has(consumer) ? pause : 0)) return false
      probing = true
      return true
    },
    answered(now) {
      failures = 0
      inVain.clear()
      probing = false
      if (up) return
      up = true
      pause = FIRST_PAUSE
      log.info({ source, down_ms: Math.round(now - lostAt) }, 'the tier source answers again')
    },
    unfit(now, consumer, why) {
      warn(now, { source, error: why }, 'a tier could not be looked up')
      if (up || !probing) return
      probing = false
      // Somebody else finds out whether it is back.
      remember(consumer)
      askAgainAt = now + pause * (0.8 + 0.4 * random())
    },
    failed(now, consumer, why) {
      failures++
      remember(consumer)
      if (!up) {
        // One that was asked before it was down fails, too, and is no probe.
        if (!probing) return
        probing = false
        pause = Math.min(2 * pause, LONGEST_PAUSE)
        askAgainAt = now + pause * (0.8 + 0.4 * random())
        warn(now, { source, error: why }, 'the tier source still does not answer; the last known tiers hold')
        return
      }
      if (inVain.size < ENOUGH && failures < ENOUGH_OF_FEW) {
        warn(now, { source, error: why }, 'a tier could not be looked up')
        return
      }
      up = false
      lostAt = now
      askAgainAt = now + pause * (0.8 + 0.4 * random())
      log.warn(
        { source, error: why },
        'the tier source does not answer; the last known tiers hold, and nobody waits for it',
      )
    },
  }
}

/** At most one line a minute; it tells how many were held back before it. `now` in ms. */
export function onceAMinute(write: (fields: object, message: string) => void) {
  let last = Number.NEGATIVE_INFINITY
  let suppressed = 0
  return (now: number, fields: object, message: string): void => {
    if (now - last < 60_000) {
      suppressed++
      return
    }
    last = now
    write(suppressed === 0 ? fields : { ...fields, suppressed }, message)
    suppressed = 0
  }
}
