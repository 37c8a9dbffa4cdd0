import type { Policy } from '../config/snapshot/policy.js'
import { createRecent } from './generational-cache.js'
import type { Decision } from './limiter.js'

/**
 * Cache of denials. While no quota is given back, a denied cost stays denied until the time that the store named, so
 * the store need not be asked again. Use in the meantime only makes that time later.
 *
 * The cache is exact: it holds for the same cost under the same policy, until the earliest possible moment by the clock
 * when the store was asked. Code that gives quota back in this process calls `clear`. What another gateway gives back
 * by hand (a reset), or another process with its own limiter, takes effect within MOST_MS. Policies that regularly give
 * charges back must not be cached.
 */
export type Denials = ReturnType<typeof createDenials>

interface Denial {
  readonly policy: Policy
  readonly cost: number
  readonly decision: Decision
  /** Start and end of validity: from `asked` to `until`, in ms of the clock. */
  readonly asked: number
  readonly until: number
  readonly answered: number
}

/** Longest validity of a cached denial, in ms. */
const MOST_MS = 1000

/**
 * Creates a cache.
 *
 * @param size fewest denials kept; at most twice as many are
 * @param clock in ms, never stepping back except in tests
 */
export function createDenials(size: number, clock: () => number) {
  const denials = createRecent<Denial>(size)

  return {
    find(key: string, policy: Policy, cost: number): Decision | undefined {
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
    /**
     * Remembers a denial that the store has just answered.
     *
     * @param asked time of the clock when the request was sent to the store, in ms
     */
    remember(key: string, policy: Policy, cost: number, decision: Decision, asked: number): void {
      const { resetMs, retryMs } = decision
      // Beyond the end of the window, the answer would describe another window. The store's clock is read in whole ms:
      // it may have been almost 1 ms further.
      const until = asked + Math.min(resetMs, retryMs < 0 ? resetMs : retryMs, MOST_MS) - 1
      denials.set(key, { policy, cost, decision, asked, until, answered: clock() })
    },
    clear: denials.clear,
  }
}
