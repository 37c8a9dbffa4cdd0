import type { DecisionData } from './decision-data.js'

/** A request to explain, which is never sent. */
export interface ExplainQuestion {
  readonly method: string
  /** Path, or path with host: `http://api.example.com/payments`. */
  readonly url: string
  /** Headers in the order in which they would be sent. */
  readonly headers: readonly (readonly [name: string, value: string])[]
  /** Client address. */
  readonly peer: string
}

/** The outcome that the request would have. */
export interface Explained
  extends Omit<DecisionData, 'request_id' | 'time' | 'upstream' | 'upstream_ms' | 'duration_ms'> {
  readonly why: string
  /** Every route that matches, the most specific first: that one gets the request. */
  readonly fits: readonly string[]
  /** If no route matches: the most similar routes. */
  readonly near: readonly string[]
  /** Services of a split; one of them is chosen at random. */
  readonly split: readonly { readonly service: string; readonly weight: number }[] | null
  /** Token that identified the caller, and the claims that were used. */
  readonly token: {
    readonly issuer: string
    readonly claims: Readonly<Record<string, string>>
    /** ISO 8601. */
    readonly expires: string
    /** Tier in the token that is not in the configuration; null: it names none, or one that exists. */
    readonly unknown_tier: string | null
  } | null
  /**
   * Upstreams of the service: how many there are and their states; null: no gateway was asked, or the request does not
   * get there.
   */
  readonly upstreams: { readonly all: number; readonly serving: number; readonly drained: number } | null
  /** Reason why the counts are unknown. */
  readonly problem: string | null
}
