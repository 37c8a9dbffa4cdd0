import type { BreakerState } from '../upstream/guard/breaker.js'
import type { GuardState } from '../upstream/guard/guard.js'

/** What an operator is told of one service: plain data, as `GET /upstreams` gives it. */
export interface ServiceState {
  readonly service: string
  /** Null: it has no circuit breaker. */
  readonly circuit: BreakerState | null
  /** Null: it has no limit of concurrency. */
  readonly concurrency: { readonly limit: number; readonly in_flight: number } | null
  /** Since the process started. */
  readonly retries: { readonly succeeded: number; readonly failed: number; readonly no_budget: number }
}

export function serviceState({ service, circuit, concurrency, retries }: GuardState): ServiceState {
  return { service, circuit: circuit ?? null, concurrency: concurrency ?? null, retries }
}
