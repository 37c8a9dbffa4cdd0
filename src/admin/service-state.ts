import type { BreakerState } from '../upstream/guard/breaker.js'
import type { GuardState } from '../upstream/guard/guard.js'

/** State of one service for an operator: plain data, as `GET /upstreams` returns it. */
export interface ServiceState {
  readonly service: string
  /** Null: the service has no circuit breaker. */
  readonly circuit: BreakerState | null
  /** Null: the service has no concurrency limit. */
  readonly concurrency: { readonly limit: number; readonly in_flight: number } | null
  /** Counts since the process started. */
  readonly retries: { readonly succeeded: number; readonly failed: number; readonly no_budget: number }
}

export function serviceState({ service, circuit, concurrency, retries }: GuardState): ServiceState {
  return { service, circuit: circuit ?? null, concurrency: concurrency ?? null, retries }
}
