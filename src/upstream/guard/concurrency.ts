import type { ConcurrencySettings } from '../../config/snapshot/snapshot.js'

/** How often the limit is looked at: at least so much time, and so many responses. */
const WINDOW_MS = 250
const WINDOW_RESPONSES = 10
/** How much longer than usual responses may take before the limit falls. */
const TOLERANCE = 1.5
/** It falls by half at most: a few slow responses are no reason for more. */
const STEEPEST = 0.5
/** How much of the difference is made up for at a time. */
const SMOOTHING = 0.2
/** What is usual follows quickly to what is faster, and slowly to what is slower: overload is not to become usual. */
const FASTER = 1 / 10
const SLOWER = 1 / 1200
/** This share of responses lost (timeouts, 503) lowers the limit by itself, whatever the others took. */
const LOST_SHARE = 0.1
const LOST_FACTOR = 0.9
/** How much of the limit the class that is shed first may fill; the others follow in equal steps, the last fills all. */
const LOWEST_SHARE = 0.8

/**
 * How many requests may wait for the responses of a service at once. Adapts: the limit is multiplied by how long responses
 * usually take over how long they take now, at most one, and may grow by its square root (Netflix' Gradient2, with an
 * average that is slow to take overload for what is usual). It grows only while it is used.
 */
export class ConcurrencyLimit {
  #settings: ConcurrencySettings
  #limit: number
  #inFlight = 0
  /** Ms that responses usually take; 0: not known. */
  #usual = 0
  #since = Number.NEGATIVE_INFINITY
  #responses = 0
  #lost = 0
  #sumMs = 0
  /** The most in flight in this window. */
  #peak = 0

  constructor(settings: ConcurrencySettings) {
    this.#settings = settings
    this.#limit = settings.initial
  }

  /** Other bounds from now on. What was found stays, as far as they allow. */
  configure(settings: ConcurrencySettings): void {
    this.#settings = settings
    this.#limit = this.#bounded(this.#limit)
  }

  get limit(): number {
    return Math.floor(this.#limit)
  }

  get inFlight(): number {
    return this.#inFlight
  }

  /**
   * Asks for a place; each has to be given back by `leave`.
   *
   * @param rank the class of the caller, from 0: the higher, the more of the limit it may fill
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

  /** A response has come. @param ms that it took until its header */
  sample(ms: number, now: number): void {
    this.#responses++
    this.#sumMs += ms
    this.#look(now)
  }

  /** A request is over of which it is known only that it would have taken longer. */
  atLeast(ms: number, now: number): void {
    if (this.#usual > 0 && ms > this.#usual) this.sample(ms, now)
  }

  /** The service has not answered in time, or has said itself that it has too much to do. */
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
    // Two responses within one tick of the clock are no reason to divide by zero.
    const now = Math.max(ms, 0.01)
    if (this.#usual === 0) this.#usual = now
    else this.#usual += (now - this.#usual) * (now < this.#usual ? FASTER : SLOWER)
    const gradient = Math.max(STEEPEST, Math.min(1, (TOLERANCE * this.#usual) / now))
    // Where few of the places are used, it is not the limit that makes responses fast or slow.
    if (this.#peak < this.#limit / 2) return
    const next = this.#limit * gradient + Math.sqrt(this.#limit)
    this.#limit = this.#bounded(this.#limit + (next - this.#limit) * SMOOTHING)
  }

  #bounded(limit: number): number {
    return Math.min(Math.max(limit, this.#settings.min), this.#settings.max)
  }
}
