/** Length of the window, in buckets of a second. */
const SECONDS = 10
/** Retries per second that are always allowed: a share of little traffic is next to nothing. */
const FLOOR = 3

/**
 * Limits the retries of a service to a share of the requests in the last 10 s. With a share of a tenth, an upstream
 * whose requests all fail gets a tenth more, and not twice as many.
 */
export class RetryBudget {
  /** Share, 0 to 1. */
  share: number
  readonly #requests = new Uint32Array(SECONDS)
  readonly #retries = new Uint32Array(SECONDS)
  #requestSum = 0
  #retrySum = 0
  /** Number of the current bucket. */
  #second = -1

  constructor(share: number) {
    this.share = share
  }

  /**
   * Counts a request that is sent for the first time.
   *
   * @param now ms that never go back
   */
  request(now: number): void {
    this.#requests[this.#bucket(now)]! += 1
    this.#requestSum++
  }

  /** Returns true if a retry is allowed now, and counts it. */
  take(now: number): boolean {
    const bucket = this.#bucket(now)
    if (this.share === 0 || this.#retrySum >= Math.max(FLOOR * SECONDS, this.#requestSum * this.share))
      return false
    this.#retries[bucket]! += 1
    this.#retrySum++
    return true
  }

  #bucket(now: number): number {
    const second = Math.floor(now / 1000)
    if (second !== this.#second) this.#turn(second)
    return second % SECONDS
  }

  /** Empties the buckets of the seconds that have passed. */
  #turn(second: number): void {
    for (let old = Math.max(this.#second + 1, second - SECONDS + 1, 0); old <= second; old++) {
      const bucket = old % SECONDS
      this.#requestSum -= this.#requests[bucket]!
      this.#retrySum -= this.#retries[bucket]!
      this.#requests[bucket] = 0
      this.#retries[bucket] = 0
    }
    this.#second = second
  }
}
