import { A_MINUTE, type Log, throttledWarning } from '../log-throttle.js'

/** Tracks if a source answers. While it does not, it is probed now and then, and no request waits for it. */
export type SourceHealth = ReturnType<typeof createSourceHealth>

/**
 * Consumers whose questions fail in a row before the source counts as down. One or two failures are a slow query or a
 * connection that was cut. One consumer whose id the source cannot handle must not take it from all the others, however
 * often it comes.
 */
const ENOUGH = 3
/** Failures in a row that suffice when there are fewer consumers. */
const ENOUGH_OF_FEW = 10
/** Maximum number of consumers whose failure is remembered. */
const MOST_FAILED = 1000
/** Pause between two questions while the source is down, in ms. It doubles each time up to the longest. */
const FIRST_PAUSE = 1000
const LONGEST_PAUSE = 30_000

/** Log messages about a source. */
export interface HealthTexts {
  readonly failed: string
  readonly down: string
  readonly still: string
  readonly back: string
}

const TIER_SOURCE: HealthTexts = {
  failed: 'a tier could not be looked up',
  down: 'the tier source does not answer; the last known tiers stay in force, and no request waits for it',
  still: 'the tier source still does not answer; the last known tiers stay in force',
  back: 'the tier source answers again',
}

/**
 * Creates the tracker of one source.
 *
 * @param random returns 0 to below 1: gateways that lost the source together do not come back together
 */
export function createSourceHealth(
  source: string,
  log: Log,
  random: () => number = Math.random,
  texts = TIER_SOURCE,
) {
  let failures = 0
  /** Consumers whose questions failed since the last answer. */
  const inVain = new Set<string>()
  let up = true
  let lostAt = 0
  let pause = FIRST_PAUSE
  let askAgainAt = 0
  let probing = false
  const warn = throttledWarning(log, A_MINUTE)

  function remember(consumer: string): void {
    if (inVain.size >= MOST_FAILED) inVain.clear()
    inVain.add(consumer)
  }

  return {
    get up(): boolean {
      return up
    },
    /**
     * Returns true if the source may be asked for a consumer now. While it is down, one question at a time is allowed,
     * with growing pauses. A consumer whose question failed is not allowed again before others had their turn.
     */
    mayAsk(now: number, consumer: string): boolean {
      if (up) return true
      if (probing || now < askAgainAt + (inVain.has(consumer) ? pause : 0)) return false
      probing = true
      return true
    },
    /** Every question that `mayAsk` allowed must end in `answered`, `failed` or `unfit`. */
    answered(now: number): void {
      failures = 0
      inVain.clear()
      probing = false
      if (up) return
      up = true
      pause = FIRST_PAUSE
      log.info({ source, down_ms: Math.round(now - lostAt) }, texts.back)
    },
    /**
     * Records an answer that is unusable for this consumer. The source stays available for all others, and failures of
     * other questions are still counted.
     */
    unfit(now: number, consumer: string, why: string): void {
      warn({ source, error: why }, texts.failed, now)
      if (up || !probing) return
      probing = false
      // Another consumer's question finds out if the source is back.
      remember(consumer)
      askAgainAt = now + pause * (0.8 + 0.4 * random())
    },
    failed(now: number, consumer: string, why: string): void {
      failures++
      remember(consumer)
      if (!up) {
        // A question asked before the source went down fails, too. It is not a probe.
        if (!probing) return
        probing = false
        pause = Math.min(2 * pause, LONGEST_PAUSE)
        askAgainAt = now + pause * (0.8 + 0.4 * random())
        warn({ source, error: why }, texts.still, now)
        return
      }
      if (inVain.size < ENOUGH && failures < ENOUGH_OF_FEW) {
        warn({ source, error: why }, texts.failed, now)
        return
      }
      up = false
      lostAt = now
      askAgainAt = now + pause * (0.8 + 0.4 * random())
      log.warn({ source, error: why }, texts.down)
    },
  }
}
