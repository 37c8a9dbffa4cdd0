import type { Snapshot } from '../config/snapshot/snapshot.js'
import type { Question } from '../fleet/question.js'
import type { BreakerState } from '../upstream/guard/breaker.js'
import type { GuardState } from '../upstream/guard/guard.js'

/** Circuit states, the worst first. */
const CIRCUITS: readonly BreakerState[] = ['open', 'half_open', 'closed']

/** Asks for the guards of each service: circuit breaker, concurrency limit and retry budget. */
export const GUARDS: Question<
  { guards: { describe(snapshot: Snapshot): readonly GuardState[] }; snapshot: () => Snapshot },
  null,
  readonly GuardState[]
> = {
  name: 'guards',
  answer: ({ guards, snapshot }) => guards.describe(snapshot()),
  merge: guardsOfAll,
}

/** Merges the guards of all workers: each worker has its own circuit breakers, and the worst state is shown. */
export function guardsOfAll(told: readonly (readonly GuardState[])[]): GuardState[] {
  const each = new Map<string, GuardState>()
  for (const one of told.flat()) {
    const known = each.get(one.service)
    each.set(one.service, known === undefined ? one : joined(known, one))
  }
  return [...each.values()]
}

function joined(a: GuardState, b: GuardState): GuardState {
  return {
    service: a.service,
    circuit: CIRCUITS.find((circuit) => a.circuit === circuit || b.circuit === circuit),
    concurrency: together(a.concurrency, b.concurrency),
    retries: {
      succeeded: a.retries.succeeded + b.retries.succeeded,
      failed: a.retries.failed + b.retries.failed,
      no_budget: a.retries.no_budget + b.retries.no_budget,
    },
  }
}

function together(a: GuardState['concurrency'], b: GuardState['concurrency']): GuardState['concurrency'] {
  if (a === undefined || b === undefined) return a ?? b
  return { limit: a.limit + b.limit, in_flight: a.in_flight + b.in_flight }
}
