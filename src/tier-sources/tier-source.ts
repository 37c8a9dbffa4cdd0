import type { TierAnswer } from './tier-answer.js'

/** Answer as a request gets it. */
export interface Found extends TierAnswer {
  /** True if the answer is older than its ttl: the source is slow, down, or being asked. */
  readonly stale: boolean
}

/** Answer at once, or a promise of it, which never rejects. */
export type Answer = Found | undefined | Promise<Found | undefined>

/** Source of tiers, with its recent answers in memory. */
export interface TierSource {
  readonly name: string
  readonly tellsTenants: boolean
  /**
   * Finds the tier of a consumer. Returns it at once if it is in memory, otherwise a promise, which never rejects. The
   * promise waits at most the timeout for its turn at the source, and then at most the timeout for the answer.
   * Undefined: the source does not know the consumer, or is not asked.
   *
   * @param now ms, monotonic
   * @param address of the client. All questions from one address belong to one caller.
   */
  find(consumer: string, now: number, address?: string): Answer
  /** Records that the consumer's tier has changed: the next request waits for the new one. */
  changed(consumer: string): void
  /** Records that any answer may have changed: known answers are treated as if their ttl had passed. */
  allChanged(): void
  /** Records that a tier was found which the configuration does not have. */
  unknownTier(tier: string): void
  /** Applies new times from now on. */
  adjust(times: TierSourceTimes): void
  describe(): SourceState
  close(): Promise<void>
}

/** Times of a source, in ms. */
export interface TierSourceTimes {
  readonly wait: boolean
  readonly ttl: number
  readonly stale: number
  readonly negative_ttl: number
  readonly timeout: number
}

/** Results of lookups, one for each request that reached the source. */
export const LOOKUPS = ['hit', 'stale', 'negative', 'miss', 'skipped'] as const
/** Results of questions to the source. */
export const ANSWERS = ['found', 'none', 'timeout', 'error', 'dropped'] as const

export interface SourceCounts {
  readonly lookups: Record<(typeof LOOKUPS)[number], number>
  readonly questions: Record<(typeof ANSWERS)[number], number>
  unknownTiers: number
  /** Connections that were ended because the database broke the protocol. */
  protocolErrors: number
}

export interface SourceState {
  readonly source: string
  readonly up: boolean
  readonly counts: SourceCounts
  /** Number of consumers whose answer is remembered. */
  readonly remembered: number
}

export function createCounts(): SourceCounts {
  return {
    lookups: { hit: 0, stale: 0, negative: 0, miss: 0, skipped: 0 },
    questions: { found: 0, none: 0, timeout: 0, error: 0, dropped: 0 },
    unknownTiers: 0,
    protocolErrors: 0,
  }
}
