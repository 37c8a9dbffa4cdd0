import type { GuardState } from '../upstream/guard.js'
import type { Families } from './families.js'

const STATES = ['closed', 'open', 'half_open'] as const
const RESULTS = ['succeeded', 'failed', 'no_budget'] as const

/** The figures of what stands between the requests and their services, as they are now. */
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
      for (const state of STATES) families.circuitState.cell(service, state)[0] = state === circuit ? 1 : 0
    }
    if (concurrency !== undefined) {
      families.concurrencyLimit.cell(service)[0] = concurrency.limit
      families.concurrencyInFlight.cell(service)[0] = concurrency.in_flight
    }
    for (const result of RESULTS) families.upstreamRetries.cell(service, result)[0] = retries[result]
  }
  for (const [reason, share] of Object.entries(overload)) families.overload.cell(reason)[0] = share
}
