import type { ConcurrencySettings } from '../../config/snapshot/resilience.js'

/** Shortest window between two adjustments of the limit, in ms; a window also needs enough responses. */
const WINDOW_MS = 250
const WINDOW_RESPONSES = 10
/** Factor by which responses may be slower than usual before the limit falls. */
const TOLERANCE = 1.5
/** Least factor of one adjustment: a few slow responses must not reduce the limit by more than half. */
const STEEPEST = 0.5
/** Share of the difference that one adjustment makes up for. */
const SMOOTHING = 0.2
/** The usual time follows faster responses quickly, and slower ones slowly: overload must not become usual. */
const FASTER = 1 / 10
const SLOWER = 1 / 1200
/** Share of lost responses (timeouts, 503) that lowers the limit by itself, whatever the times of the others. */
const LOST_SHARE = 0.1
const LOST_FACTOR = 0.9
/** Share of the limit that the class shed first may fill. The others follow in equal steps; the last may fill all. */
const LOWEST_SHARE = 0.8

/**
 * Limits how many requests may wait for the responses of a service at once, and adapts. The limit is multiplied by the
 * usual response time over the current one, at most one, and may grow by its square root (Netflix' Gradient2, with an
 * average that is slow to take overload for usual). It grows only while it is used.
 */
export class ConcurrencyLimit {
  #limit: number
  #inFlight = 0
  /** Usual response time in ms; 0: unknown. */
  #usual = 0
  #since = Number.NEGATIVE_INFINITY
  #responses = 0
  #lost = 0
  #sumMs = 0
  /** Most requests in flight in this window. */
  #peak = 0

  constructor(private settings: ConcurrencySettings) {
    this.#limit = settings.initial
  }

  /** Applies other bounds. The limit found so far stays, as far as they allow. */
  configure(settings: ConcurrencySettings): void {
    this.settings = settings
    this.#limit = this.#bounded(this.#limit)
  }

  get limit(): number {
    return Math.floor(this.#limit)
  }

  get inFlight(): number {
    return this.#inFlight
  }

  /**
   * Asks for a place; each one must be returned by `leave`.
   *
   * @param rank class of the caller, from 0: the higher, the more of the limit it may fill
   */
  enter(rank: number, classes: number): boolean {
    if (this.#inFlight >= this.#roomFor(rank, classes)) return false
    this.#inFlight++
    if (this.#inFlight > this.#peak) this.#peak = this.#inFlight
    return true
  }

  leave(): void {
    this.#inFlight--
  }

  /**
   * Records a response.
   *
   * @param ms time until its headers
   */
  sample(ms: number, now: number): void {
    this.#responses++
    this.#sumMs += ms
    this.#look(now)
  }

  /** Records a request that ended early: its response would have taken longer than this. */
  atLeast(ms: number, now: number): void {
    if (this.#usual > 0 && ms > this.#usual) this.sample(ms, now)
  }

  /** Records that the service did not respond in time, or reported overload. */
  lost(now: number): void {
    this.#lost++
    this.#look(now)
  }

  #roomFor(rank: number, classes: number): number {
    if (rank >= classes - 1) return this.limit
    const share = LOWEST_SHARE + ((1 - LOWEST_SHARE) * rank) / (classes - 1)
    return Math.max(1, Math.floor(this.#limit * share))
  }

  #look(now: number): void {
    if (this.#responses + this.#lost === 1) this.#since = now
    if (this.#responses + this.#lost < WINDOW_RESPONSES || now - this.#since < WINDOW_MS) return
    if (this.#lost >= LOST_SHARE * (this.#responses + this.#lost))
      this.#limit = this.#bounded(this.#limit * LOST_FACTOR)
    else this.#adapt(this.#sumMs / this.#responses)
    this.#responses = 0
    this.#lost = 0
    this.#sumMs = 0
    this.#peak = this.#inFlight
  }

  #adapt(ms: number): void {
    // Avoids a division by zero for two responses within one tick of the clock.
    const now = Math.max(ms, 0.01)
    if (this.#usual === 0) this.#usual = now
    else this.#usual += (now - this.#usual) * (now < this.#usual ? FASTER : SLOWER)
    const gradient = Math.max(STEEPEST, Math.min(1, (TOLERANCE * this.#usual) / now))
    // While few of the places are used, response times do not depend on the limit.
    if (this.#peak < this.#limit / 2) return
    const next = this.#limit * gradient + Math.sqrt(this.#limit)
    this.#limit = this.#bounded(this.#limit + (next - this.#limit) * SMOOTHING)
  }

  #bounded(limit: number): number {
    return Math.min(Math.max(limit, this.settings.min), this.settings.max)
  }
}
