import type { GuardState } from '../../upstream/guard/guard.js'
import type { Families } from './metric-definitions.js'

const STATES = ['closed', 'open', 'half_open'] as const
const RESULTS = ['succeeded', 'failed', 'no_budget'] as const

/** Updates the metrics of the guards (circuit breaker, concurrency limit, retry budget). */
export function readGuards(
  families: Families,
  guards: Iterable<GuardState>,
  overload: Readonly<Record<string, number>>,
): void {
  families.circuitState.clear()
  families.concurrencyLimit.clear()
  families.concurrencyInFlight.clear()
  for (const { service, circuit, concurrency, retries } of guards) {
    if (circuit !== undefined) {
      for (const state of STATES) families.circuitState.set(state === circuit ? 1 : 0, service, state)
    }
    if (concurrency !== undefined) {
      families.concurrencyLimit.set(concurrency.limit, service)
      families.concurrencyInFlight.set(concurrency.in_flight, service)
    }
    for (const result of RESULTS) families.upstreamRetries.set(retries[result], service, result)
  }
  for (const [reason, share] of Object.entries(overload)) families.overload.set(share, reason)
}
