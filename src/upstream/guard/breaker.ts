import type { BreakerSettings } from '../../config/snapshot/resilience.js'
import { SlidingWindow } from './sliding-window.js'

/** Counts of the window: all outcomes, and those of them that were errors or slow. */
const TOTAL = 0
const ERRORS = 1
const SLOW = 2
/** An open breaker whose probes keep failing stays open for at most this many times its `open`. */
const LONGEST = 10
/**
 * Ms for which the probes are reserved for callers of a higher priority that have been seen since the breaker opened.
 */
const PROBES_KEPT_MS = 1_000

export type BreakerState = 'closed' | 'open' | 'half_open'

/**
 * Stops sending requests to a service that fails or is slow. Closed, it watches a sliding window of outcomes; open, it
 * lets no request pass for a while; half open, a few probes decide between the two.
 */
export class Breaker {
  #state: BreakerState = 'closed'
  /** Grows with every change of state. Outcomes of requests from an earlier epoch say nothing about the current one. */
  #epoch = 0
  #window: SlidingWindow
  /** Number of times it has opened since it was closed. */
  #opened = 0
  #openUntil = 0
  #halfOpenAt = 0
  /** Probes without an outcome. */
  #out = 0
  #probeTotal = 0
  #probeErrors = 0
  #probeSlow = 0
  /** Highest class that has asked since it opened. */
  #highest = -1

  /**
   * Creates a closed breaker.
   *
   * @param random returns a number from 0 to 1
   */
  constructor(
    private settings: BreakerSettings,
    private readonly random: () => number = Math.random,
  ) {
    this.#window = new SlidingWindow(3, settings.windowMs)
  }

  /**
   * Applies other settings. The state stays; if the new settings change the decision of the probes, new probes are
   * sent.
   */
  configure(settings: BreakerSettings): void {
    const { windowMs, probes } = this.settings
    this.settings = settings
    if (settings.windowMs !== windowMs) this.#forget()
    if (this.#state === 'half_open' && settings.probes !== probes) this.#probe(this.#halfOpenAt)
  }

  state(now: number): BreakerState {
    return this.#state === 'open' && now >= this.#openUntil ? 'half_open' : this.#state
  }

  /** Returns the ms until a retry makes sense, while no request may pass. */
  waitMs(now: number): number {
    return Math.max(this.#openUntil - now, PROBES_KEPT_MS)
  }

  /**
   * Asks to let a request pass.
   *
   * @param rank class of the caller: the higher, the more important
   * @param now ms that never go back
   * @returns below 0: denied. Else the epoch to pass, once, to `outcome` or `release`
   */
  enter(rank: number, now: number): number {
    if (this.#state === 'closed') return this.#epoch
    if (rank > this.#highest) this.#highest = rank
    if (this.#state === 'open') {
      if (now < this.#openUntil) return -1
      this.#probe(now)
    }
    if (this.#out + this.#probeTotal >= this.settings.probes) return -1
    // While a caller of a higher class is active, it gets the probes: they may be the few requests that pass.
    if (now - this.#halfOpenAt < PROBES_KEPT_MS && rank < this.#highest) return -1
    this.#out++
    return this.#epoch
  }

  isSlow(ms: number): boolean {
    return ms > this.settings.slowMs
  }

  /**
   * Records the outcome of a request.
   *
   * @param ms time until the headers of the response, or the failure
   */
  outcome(epoch: number, error: boolean, ms: number, now: number): void {
    if (epoch !== this.#epoch) return
    const slow = this.isSlow(ms)
    if (this.#state === 'half_open') {
      this.#out--
      this.#probeTotal++
      if (error) this.#probeErrors++
      if (slow) this.#probeSlow++
      this.#judgeProbes(now)
      return
    }
    this.#window.moveTo(now)
    this.#window.add(TOTAL)
    if (error) this.#window.add(ERRORS)
    if (slow) this.#window.add(SLOW)
    if (error || slow) this.#judge(now)
  }

  /** Corrects a success: the response has broken off since. */
  spoiled(epoch: number, now: number): void {
    if (epoch !== this.#epoch) return
    if (this.#state === 'half_open') {
      this.#probeErrors++
      this.#judgeProbes(now)
      return
    }
    this.#window.moveTo(now)
    const [total = 0, errors = 0] = this.#window.sums
    if (errors >= total) return
    this.#window.add(ERRORS)
    this.#judge(now)
  }

  /** Ends a request that says nothing about the service. */
  release(epoch: number): void {
    if (epoch === this.#epoch && this.#state === 'half_open') this.#out--
  }

  #judge(now: number): void {
    const { minRequests, errorRatio, slowRatio } = this.settings
    const [total = 0, errors = 0, slow = 0] = this.#window.sums
    if (total < minRequests) return
    if (errors >= errorRatio * total || slow >= slowRatio * total) this.#open(now)
  }

  /** Decides as soon as the outcome cannot change any more. */
  #judgeProbes(now: number): void {
    const { probes, errorRatio, slowRatio } = this.settings
    if (this.#probeErrors >= errorRatio * probes || this.#probeSlow >= slowRatio * probes) this.#open(now)
    else if (this.#probeTotal >= probes) {
      this.#change('closed')
      this.#opened = 0
      this.#forget()
    }
  }

  #probe(now: number): void {
    this.#change('half_open')
    this.#halfOpenAt = now
    this.#out = 0
    this.#probeTotal = 0
    this.#probeErrors = 0
    this.#probeSlow = 0
  }

  #open(now: number): void {
    const { openMs } = this.settings
    // Jitter, so that the gateways of a service do not all probe at the same moment.
    const jitter = 0.8 + 0.4 * this.random()
    this.#openUntil = now + Math.min(openMs * 2 ** this.#opened, openMs * LONGEST) * jitter
    this.#opened++
    this.#highest = -1
    this.#change('open')
  }

  #change(state: BreakerState): void {
    this.#state = state
    this.#epoch++
  }

  #forget(): void {
    this.#window = new SlidingWindow(3, this.settings.windowMs)
  }
}
