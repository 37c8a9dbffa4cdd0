import type { Service, Snapshot } from '../../config/snapshot/snapshot.js'
import { Breaker } from './breaker.js'
import { ConcurrencyLimit } from './concurrency.js'
import { RetryBudget } from './retry-budget.js'

/** The guard that denies a request to a service. */
type Barrier = 'circuit' | 'concurrency'

/** State of a guard, for metrics and operators. */
export type GuardState = Readonly<ReturnType<Guard['state']>>

/** Guards the upstreams of one service: circuit breaker, concurrency limit and retry budget. Lives across reloads. */
export class Guard {
  readonly service: string
  readonly budget: RetryBudget
  breaker: Breaker | undefined
  concurrency: ConcurrencyLimit | undefined
  succeeded = 0
  failed = 0
  noBudget = 0

  constructor(service: Service) {
    this.service = service.name
    this.budget = new RetryBudget(service.retries.budget)
    this.configure(service)
  }

  configure({ retries, circuitBreaker, concurrency }: Service): void {
    this.budget.share = retries.budget
    if (circuitBreaker === undefined) this.breaker = undefined
    else if (this.breaker === undefined) this.breaker = new Breaker(circuitBreaker)
    else this.breaker.configure(circuitBreaker)
    if (concurrency === undefined) this.concurrency = undefined
    else if (this.concurrency === undefined) this.concurrency = new ConcurrencyLimit(concurrency)
    else this.concurrency.configure(concurrency)
  }

  /** Returns true if a request may be retried now, and counts the retry. */
  mayRetry({ retries }: Service, now: number): boolean {
    if (this.budget.take(now)) return true
    // With a budget of 0, a denied retry is not an event.
    if (retries.budget > 0) this.noBudget++
    return false
  }

  /** Returns true if requests must ask this guard. */
  get watching(): boolean {
    return this.breaker !== undefined || this.concurrency !== undefined
  }

  /**
   * Asks to let a request pass. The holder of a pass reports the outcome of the request once.
   *
   * @param rank class of the caller among `classes`, from 0: the higher, the more important
   * @param now ms that never go back
   */
  enter(rank: number, classes: number, now: number): Pass | Barrier {
    const { breaker, concurrency } = this
    const epoch = breaker === undefined ? 0 : breaker.enter(rank, now)
    if (epoch < 0) return 'circuit'
    if (concurrency?.enter(rank, classes) === false) {
      breaker?.release(epoch)
      return 'concurrency'
    }
    return new Pass(breaker, epoch, concurrency)
  }

  state(now: number) {
    const { concurrency } = this
    return {
      service: this.service,
      /** Undefined: the service has no circuit breaker. */
      circuit: this.breaker?.state(now),
      /** Undefined: the service has no concurrency limit. */
      concurrency: concurrency && { limit: concurrency.limit, in_flight: concurrency.inFlight },
      /** Retries with a response, without one, and those that the budget denied. */
      retries: { succeeded: this.succeeded, failed: this.failed, no_budget: this.noBudget },
    }
  }
}

/** A request that a guard has let pass, until the headers of its response arrive. Only the first report counts. */
export class Pass {
  #over = false
  /** True once the request was reported as successful. */
  #well = false

  constructor(
    private readonly breaker: Breaker | undefined,
    private readonly epoch: number,
    private readonly concurrency: ConcurrencyLimit | undefined,
  ) {}

  /**
   * Reports a response.
   *
   * @param ms time from the request's last byte to the response's headers; undefined when the headers came first
   */
  answered(status: number, ms: number | undefined, now: number): void {
    if (this.#end()) return
    this.#well = status < 500
    this.breaker?.outcome(this.epoch, status >= 500, ms ?? 0, now)
    if (this.concurrency === undefined) return
    if (status === 503 || status === 504) this.concurrency.lost(now)
    // Other failures may be quick, and say nothing about response times.
    else if (status < 500 && ms !== undefined) this.concurrency.sample(ms, now)
  }

  /**
   * Reports that the upstream was unreachable, broke off, or (`late`) was too slow; also in the middle of its response.
   */
  failed(late: boolean, ms: number, now: number): void {
    if (this.#well) {
      this.#well = false
      this.breaker?.spoiled(this.epoch, now)
    }
    if (this.#end()) return
    this.breaker?.outcome(this.epoch, true, ms, now)
    if (late) this.concurrency?.lost(now)
  }

  /** Reports an end that the upstream did not cause. If the request waited for long, that much is known. */
  left(ms: number, now: number): void {
    if (this.#end()) return
    if (this.breaker?.isSlow(ms) === true) this.breaker.outcome(this.epoch, false, ms, now)
    else this.breaker?.release(this.epoch)
    this.concurrency?.atLeast(ms, now)
  }

  #end(): boolean {
    if (this.#over) return true
    this.#over = true
    this.concurrency?.leave()
    return false
  }
}

export type Guards = ReturnType<typeof createGuards>

/**
 * Creates the guards of all services.
 *
 * @param now returns ms that never go back
 */
export function createGuards(now: () => number = () => performance.now()) {
  const byName = new Map<string, Guard>()
  const tables = new WeakMap<Snapshot, readonly Guard[]>()
  let latest = Number.NEGATIVE_INFINITY
  let snapshot: Snapshot | undefined
  let table: readonly Guard[] = []

  function guardOf(service: Service, configure: boolean): Guard {
    let guard = byName.get(service.name)
    if (guard === undefined) {
      guard = new Guard(service)
      byName.set(service.name, guard)
    } else if (configure) guard.configure(service)
    return guard
  }

  /**
   * Around a reload, requests of the old and the new snapshot alternate for a while; the settings of the new one apply.
   */
  function tableOf(next: Snapshot): readonly Guard[] {
    let found = tables.get(next)
    if (found === undefined) {
      const newer = next.loadedAt >= latest
      if (newer) latest = next.loadedAt
      found = next.services.map((service) => guardOf(service, newer))
      tables.set(next, found)
    }
    snapshot = next
    table = found
    return found
  }

  return {
    /** Returns the guard of a service of the snapshot. */
    of: (of: Snapshot, service: Service): Guard => (of === snapshot ? table : tableOf(of))[service.index]!,
    /** Returns the state of every service of the snapshot, in its order. */
    describe: (of: Snapshot): GuardState[] => tableOf(of).map((guard) => guard.state(now())),
  }
}
