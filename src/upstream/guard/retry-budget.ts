import { SlidingWindow } from './sliding-window.js'

/** Length of the window, in seconds. */
const SECONDS = 10
/** Retries per second that are always allowed: a share of little traffic is next to nothing. */
const FLOOR = 3

/** Counts of the window. */
const REQUESTS = 0
const RETRIES = 1

/**
 * Limits the retries of a service to a share of the requests in the last 10 s. With a share of a tenth, an upstream
 * whose requests all fail gets a tenth more, and not twice as many.
 */
export class RetryBudget {
  readonly #window = new SlidingWindow(2, SECONDS * 1000)

  /** @param share 0 to 1 */
  constructor(public share: number) {}

  /**
   * Counts a request that is sent for the first time.
   *
   * @param now ms that never go back
   */
  request(now: number): void {
    this.#window.moveTo(now)
    this.#window.add(REQUESTS)
  }

  /** Returns true if a retry is allowed now, and counts it. */
  take(now: number): boolean {
    const window = this.#window
    window.moveTo(now)
    const [requests = 0, retries = 0] = window.sums
    if (this.share === 0 || retries >= Math.max(FLOOR * SECONDS, requests * this.share)) return false
    window.add(RETRIES)
    return true
  }
}
