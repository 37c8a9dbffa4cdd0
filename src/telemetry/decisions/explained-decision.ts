import type { DecisionData } from './decision-data.js'

/** A request that was never sent. */
export interface ExplainQuestion {
  readonly method: string
  /** A path, or with the host: `http://api.example.com/payments`. */
  readonly url: string
  /** In the order that they are sent in. */
  readonly headers: readonly (readonly [name: string, value: string])[]
  /** Where it comes from: an address. */
  readonly peer: string
}

/** What would become of it. */
export interface Explained
  extends Omit<DecisionData, 'request_id' | 'time' | 'upstream' | 'upstream_ms' | 'duration_ms'> {
  readonly why: string
  /** Every route that it fits, the most specific first: that one gets it. */
  readonly fits: readonly string[]
  /** Where it fits none: the routes that look most like it. */
  readonly near: readonly string[]
  /** The services of a split, of which chance takes one. */
  readonly split: readonly { readonly service: string; readonly weight: number }[] | null
  /** Whose token identified the caller, and what of it was used. */
  readonly token: {
    readonly issuer: string
    readonly claims: Readonly<Record<string, string>>
    /** ISO 8601. */
    readonly expires: string
    /** The tier that it names, where that is none of the configuration; null: it names none, or one that there is. */
    readonly unknown_tier: string | null
  } | null
  /** Of its service, how many there are and what they do; null: no gateway was asked, or it does not get there. */
  readonly upstreams: { readonly all: number; readonly serving: number; readonly drained: number } | null
  /** Why the counts are not known. */
  readonly problem: string | null
}
