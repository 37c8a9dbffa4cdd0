/** One measurement of a traced request: a way from a histogram's bucket to a trace that is in it. */
export interface Exemplar {
  readonly traceId: string
  readonly spanId: string
  /** As it was measured, ms. */
  readonly ms: number
  /** Unix ms. */
  readonly at: number
}

/** A recent exemplar of each bucket, for as many buckets as there is room: those that had none for longest lose theirs. */
export interface Exemplars {
  /** Whether a bucket has none, or one that is a second old: more often nobody reads them. `now`: Unix ms. */
  due(bucket: number, now: number): boolean
  note(bucket: number, exemplar: Exemplar): void
  /** Of a bucket, numbered as the figure that counts it. */
  of(bucket: number): Exemplar | undefined
  all(): Iterable<readonly [bucket: number, exemplar: Exemplar]>
  readonly empty: boolean
}

/** Some 200 bytes each. */
const MOST = 1000
/** Ms for which one stays. */
const STAYS = 1000

export function createExemplars(most = MOST): Exemplars {
  const kept = new Map<number, Exemplar>()
  return {
    due(bucket, now) {
      const known = kept.get(bucket)
      // A clock may be set back.
      return known === undefined || Math.abs(now - known.at) >= STAYS
    },
    note(bucket, exemplar) {
      kept.delete(bucket)
      kept.set(bucket, exemplar)
      if (kept.size <= most) return
      for (const oldest of kept.keys()) {
        kept.delete(oldest)
        break
      }
    },
    of: (bucket) => kept.get(bucket),
    all: () => kept,
    get empty() {
      return kept.size === 0
    },
  }
}
