import type { Config } from '../schema/schema.js'

/** Converts percentages of the file to shares. */

export interface RetrySettings {
  /** Retries allowed, as a share of the requests of the last 10 s, 0 to 1. */
  readonly budget: number
  /** Maximum number of retries of a request that the upstream may have seen. */
  readonly attempts: number
}

export interface BreakerSettings {
  /** Share of errors, 0 to 1. */
  readonly errorRatio: number
  /** Duration from which a response counts as slow, in ms; Infinity if none does. */
  readonly slowMs: number
  readonly slowRatio: number
  readonly windowMs: number
  readonly minRequests: number
  readonly openMs: number
  readonly probes: number
}

export type ConcurrencySettings = Required<NonNullable<ServiceConfig['concurrency']>>

type ServiceConfig = Config['services'][string]

/** Compiled settings of a service for overload and failures. */
export interface ResilienceSettings {
  readonly retries: RetrySettings
  readonly circuitBreaker: BreakerSettings | undefined
  readonly concurrency: ConcurrencySettings | undefined
}

/** Settings of a route that answers by itself. */
export const NO_RESILIENCE: ResilienceSettings = {
  retries: { budget: 0, attempts: 0 },
  circuitBreaker: undefined,
  concurrency: undefined,
}

export function compileResilience(service: ServiceConfig): ResilienceSettings {
  const { retries, circuit_breaker: breaker, concurrency } = service
  return {
    retries: { budget: retries.budget / 100, attempts: retries.attempts },
    circuitBreaker: breaker && {
      errorRatio: breaker.error_ratio / 100,
      slowMs: breaker.slow === 0 ? Number.POSITIVE_INFINITY : breaker.slow,
      slowRatio: breaker.slow_ratio / 100,
      windowMs: breaker.window,
      minRequests: breaker.min_requests,
      openMs: breaker.open,
      probes: breaker.probes,
    },
    concurrency: concurrency && {
      ...concurrency,
      initial: concurrency.initial ?? Math.min(Math.max(100, concurrency.min), concurrency.max),
    },
  }
}

/** Returns the priority classes of the tiers, from the one that is shed first. */
export function compilePriorities(tiers: Config['tiers']): {
  readonly priorities: readonly number[]
  readonly classes: number
} {
  const said = tiers.map(({ priority }, place) => priority ?? place)
  const ascending = [...new Set(said)].sort((a, b) => a - b)
  return { priorities: said.map((priority) => ascending.indexOf(priority)), classes: ascending.length }
}
