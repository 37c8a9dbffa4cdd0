import type { BreakerSettings } from '../../config/snapshot/snapshot.js'

const BUCKETS = 10
/** An open breaker that fails its probes again and again stays open for so many times its `open` at most. */
const LONGEST = 10
/** How long the probes are kept for callers of a higher priority that have been seen since it opened, ms. */
const PROBES_KEPT_MS = 1_000

export type BreakerState = 'closed' | 'open' | 'half_open'

/**
 * Stops sending requests to a service that fails or is slow. Closed, it looks at a sliding window of outcomes; open, it lets
 * nothing pass for a while; half open, a few probes decide between the two.
 */
export class Breaker {
  #settings: BreakerSettings
  readonly #random: () => number
  #state: BreakerState = 'closed'
  /** Goes up with every change of state. What was let in before it says nothing about now. */
  #epoch = 0
  readonly #total = new Uint32Array(BUCKETS)
  readonly #errors = new Uint32Array(BUCKETS)
  readonly #slow = new Uint32Array(BUCKETS)
  #totalSum = 0
  #errorSum = 0
  #slowSum = 0
  /** Number of the bucket in use. */
  #at = -1
  /** How often it has opened since it was closed. */
  #opened = 0
  #openUntil = 0
  #halfOpenAt = 0
  /** Probes without an outcome. */
  #out = 0
  #probeTotal = 0
  #probeErrors = 0
  #probeSlow = 0
  /** The highest class that has asked since it opened. */
  #highest = -1

  /** @param random from 0 to 1 */
  constructor(settings: BreakerSettings, random: () => number = Math.random) {
    this.#settings = settings
    this.#random = random
  }

  /** Other settings from now on. The state stays; of probes that decide otherwise now, new ones are sent. */
  configure(settings: BreakerSettings): void {
    const { windowMs, probes } = this.#settings
    if (settings.windowMs !== windowMs) this.#forget()
    this.#settings = settings
    if (this.#state === 'half_open' && settings.probes !== probes) this.#probe(this.#halfOpenAt)
  }

  state(now: number): BreakerState {
    return this.#state === 'open' && now >= this.#openUntil ? 'half_open' : this.#state
  }

  /** Ms until it is worth coming back, while it lets nobody pass. */
  waitMs(now: number): number {
    return Math.max(this.#openUntil - now, PROBES_KEPT_MS)
  }

  /**
   * Asks to pass.
   *
   * @param rank the class of the caller: the higher, the more important
   * @param now ms that never go back
   * @returns below 0: not now. Else what the outcome is to be told with, once: by `outcome` or by `release`
   */
  enter(rank: number, now: number): number {
    if (this.#state === 'closed') return this.#epoch
    if (rank > this.#highest) this.#highest = rank
    if (this.#state === 'open') {
      if (now < this.#openUntil) return -1
      this.#probe(now)
    }
    if (this.#out + this.#probeTotal >= this.#settings.probes) return -1
    // While somebody more important is about, the probes are for them: they may be the few that get through.
    if (now - this.#halfOpenAt < PROBES_KEPT_MS && rank < this.#highest) return -1
    this.#out++
    return this.#epoch
  }

  isSlow(ms: number): boolean {
    return ms > this.#settings.slowMs
  }

  /** @param ms until the response's header, or the failure */
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
    const bucket = this.#bucket(now)
    this.#total[bucket]! += 1
    this.#totalSum++
    if (error) this.#addError(bucket)
    if (slow) {
      this.#slow[bucket]! += 1
      this.#slowSum++
    }
    if (error || slow) this.#judge(now)
  }

  /** What was told to be well has broken off since. */
  spoiled(epoch: number, now: number): void {
    if (epoch !== this.#epoch) return
    if (this.#state === 'half_open') {
      this.#probeErrors++
      this.#judgeProbes(now)
      return
    }
    const bucket = this.#bucket(now)
    if (this.#errorSum >= this.#totalSum) return
    this.#addError(bucket)
    this.#judge(now)
  }

  /** It has ended without a word about the service. */
  release(epoch: number): void {
    if (epoch === this.#epoch && this.#state === 'half_open') this.#out--
  }

  #addError(bucket: number): void {
    this.#errors[bucket]! += 1
    this.#errorSum++
  }

  #judge(now: number): void {
    const { minRequests, errorRatio, slowRatio } = this.#settings
    if (this.#totalSum < minRequests) return
    if (this.#errorSum >= errorRatio * this.#totalSum || this.#slowSum >= slowRatio * this.#totalSum)
      this.#open(now)
  }

  /** As soon as the outcome cannot change any more. */
  #judgeProbes(now: number): void {
    const { probes, errorRatio, slowRatio } = this.#settings
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
    const { openMs } = this.#settings
    // Not all gateways of a service may probe it at the same moment.
    const jitter = 0.8 + 0.4 * this.#random()
    this.#openUntil = now + Math.min(openMs * 2 ** this.#opened, openMs * LONGEST) * jitter
    this.#opened++
    this.#highest = -1
    this.#change('open')
  }

  #change(state: BreakerState): void {
    this.#state = state
    this.#epoch++
  }

  #bucket(now: number): number {
    const at = Math.floor(now / (this.#settings.windowMs / BUCKETS))
    if (at !== this.#at) {
      for (let old = Math.max(this.#at + 1, at - BUCKETS + 1, 0); old <= at; old++) this.#empty(old % BUCKETS)
      this.#at = at
    }
    return at % BUCKETS
  }

  #empty(bucket: number): void {
    this.#totalSum -= this.#total[bucket]!
    this.#errorSum -= this.#errors[bucket]!
    this.#slowSum -= this.#slow[bucket]!
    this.#total[bucket] = 0
    this.#errors[bucket] = 0
    this.#slow[bucket] = 0
  }

  #forget(): void {
    for (let bucket = 0; bucket < BUCKETS; bucket++) this.#empty(bucket)
    this.#at = -1
  }
}
