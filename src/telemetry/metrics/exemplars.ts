/** One measurement of a traced request: leads from a bucket of a histogram to a trace in it. */
export interface Exemplar {
  readonly traceId: string
  readonly spanId: string
  /** Measured value in ms. */
  readonly ms: number
  /** Unix ms. */
  readonly at: number
}

/**
 * Keeps a recent exemplar for as many buckets as there is room for. When full, the bucket that was updated longest ago
 * loses its exemplar.
 */
export type Exemplars = ReturnType<typeof createExemplars>

/** Most exemplars, about 200 bytes each. */
const MOST = 1000
/** Ms for which an exemplar stays. */
const STAYS = 1000

export function createExemplars(most = MOST) {
  const kept = new Map<number, Exemplar>()
  return {
    /**
     * Returns true if a bucket has no exemplar, or one that is a second old: nothing reads them more often.
     *
     * @param now Unix ms
     */
    due(bucket: number, now: number): boolean {
      const known = kept.get(bucket)
      // The clock may have been set back.
      return known === undefined || Math.abs(now - known.at) >= STAYS
    },
    note(bucket: number, exemplar: Exemplar): void {
      kept.delete(bucket)
      kept.set(bucket, exemplar)
      if (kept.size <= most) return
      for (const oldest of kept.keys()) {
        kept.delete(oldest)
        break
      }
    },
    /** Returns the exemplar of a bucket, numbered like the figure that counts it. */
    of: (bucket: number): Exemplar | undefined => kept.get(bucket),
    all: (): Iterable<readonly [bucket: number, exemplar: Exemplar]> => kept,
    get empty(): boolean {
      return kept.size === 0
    },
  }
}
