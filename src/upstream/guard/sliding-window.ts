const BUCKETS = 10

/** Counts events of a few kinds over the last while, in ten buckets of equal length. */
export class SlidingWindow {
  /** How many events of each kind are in the window. Call `moveTo` first. */
  readonly sums: number[]
  readonly #counts: Uint32Array
  readonly #bucketMs: number
  /** Number of the current bucket since the beginning of time. */
  #latest = -1

  constructor(kinds: number, windowMs: number) {
    this.sums = new Array(kinds).fill(0)
    this.#counts = new Uint32Array(kinds * BUCKETS)
    this.#bucketMs = windowMs / BUCKETS
  }

  /**
   * Forgets the events that have left the window.
   *
   * @param now ms that never go back
   */
  moveTo(now: number): void {
    const latest = Math.floor(now / this.#bucketMs)
    if (latest === this.#latest) return
    for (let old = Math.max(this.#latest + 1, latest - BUCKETS + 1, 0); old <= latest; old++) {
      for (let kind = 0; kind < this.sums.length; kind++) {
        const at = kind * BUCKETS + (old % BUCKETS)
        this.sums[kind]! -= this.#counts[at]!
        this.#counts[at] = 0
      }
    }
    this.#latest = latest
  }

  /** Counts an event now, as of the latest `moveTo`. */
  add(kind: number): void {
    this.sums[kind]! += 1
    this.#counts[kind * BUCKETS + (this.#latest % BUCKETS)]! += 1
  }
}
