import type { Policy } from '../config/snapshot/snapshot.js'
import { createRecent } from './generational-cache.js'
import type { Decision } from './limiter.js'

/**
 * Denials that are remembered: as long as nobody gives anything back, a cost that was denied is denied until the moment
 * that the store named, so it need not be asked again. What is spent meanwhile only makes that later.
 *
 * Exact: the same cost under the same policy only, until the earliest moment by the clock of when it was asked; whoever
 * gives something back here calls `clear`. What another gateway gives back by hand (a reset), or another process that uses
 * the limiter by itself, is seen within MOST_MS. Policies whose charges are given back in the course of things are not to be remembered.
 */
export interface Denials {
  find(key: string, policy: Policy, cost: number): Decision | undefined
  /** @param asked ms of the clock when it was sent to the store; now it is answered */
  remember(key: string, policy: Policy, cost: number, denied: Decision, asked: number): void
  clear(): void
}

interface Denial {
  readonly policy: Policy
  readonly cost: number
  readonly decision: Decision
  /** Ms of the clock: from `asked` to `until` it holds. */
  readonly asked: number
  readonly until: number
  readonly answered: number
}

/** Ms for which a denial is believed at most. */
const MOST_MS = 1000

/**
 * @param size how many are kept at least; twice as many at most
 * @param clock ms that never step back, but in tests
 */
export function createDenials(size: number, clock: () => number): Denials {
  const denials = createRecent<Denial>(size)

  return {
    find(key, policy, cost) {
      const denial = denials.get(key)
      if (denial === undefined || denial.policy !== policy || denial.cost !== cost) return undefined
      const at = clock()
      if (at < denial.asked || at >= denial.until) return undefined
      const { binding, violated, remaining, resetMs, retryMs, at: decidedAt, counted } = denial.decision
      const passed = at - denial.answered
      return {
        allowed: false,
        decidedBy: 'cache',
        reason: undefined,
        binding,
        violated,
        remaining,
        resetMs: Math.max(1, Math.ceil(resetMs - passed)),
        retryMs: retryMs < 0 ? retryMs : Math.max(1, Math.ceil(retryMs - passed)),
        at: decidedAt + Math.max(0, Math.floor(passed)),
        counted,
      }
    },
    remember(key, policy, cost, decision, asked) {
      const { resetMs, retryMs } = decision
      // Past the end of the window, what the caller is told would be of another. And the store's clock is read in whole ms: it may have been almost one further than it said.
      const until = asked + Math.min(resetMs, retryMs < 0 ? resetMs : retryMs, MOST_MS) - 1
      denials.set(key, { policy, cost, decision, asked, until, answered: clock() })
    },
    clear: denials.clear,
  }
}
