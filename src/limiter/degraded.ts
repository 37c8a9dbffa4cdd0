import type { Policy } from '../config/snapshot/policy.js'
import type { Service } from '../config/snapshot/snapshot.js'
import type { Decision, DegradedReason, Levels } from './limiter.js'
import type { Local } from './local.js'

/** Retry time for a client that `closed` denies, in ms. The store is probed more often than that. */
const CLOSED_RETRY_MS = 1000

function constant(allowed: boolean, reason: DegradedReason): Decision {
  return Object.freeze({
    allowed,
    decidedBy: allowed ? 'open' : 'closed',
    reason,
    binding: 0,
    violated: 0,
    remaining: 0,
    resetMs: 0,
    retryMs: allowed ? 0 : CLOSED_RETRY_MS,
    at: 0,
  })
}

const OPEN = {
  timeout: constant(true, 'timeout'),
  error: constant(true, 'error'),
  breaker: constant(true, 'breaker'),
}
const CLOSED = {
  timeout: constant(false, 'timeout'),
  error: constant(false, 'error'),
  breaker: constant(false, 'breaker'),
}

/**
 * Decides without the store, by `service.onFailure`. `open` lets the request pass uncounted. `local` counts in this
 * process, each gateway within its share of the limit. `closed` denies.
 */
export function decideDegraded(
  local: Local,
  service: Service,
  policy: Policy,
  consumer: string,
  cost: number,
  levels: Levels | undefined,
  reason: DegradedReason,
): Decision {
  if (service.onFailure === 'local') return local.take(service, policy, consumer, cost, levels, reason)
  return (service.onFailure === 'open' ? OPEN : CLOSED)[reason]
}

/** Returns what it would decide, without charging. */
export async function previewDegraded(
  local: Local,
  service: Service,
  policy: Policy,
  consumer: string,
  cost: number,
  levels: Levels | undefined,
  reason: DegradedReason,
): Promise<Decision> {
  if (service.onFailure === 'local') return local.preview(service, policy, consumer, cost, levels, reason)
  return (service.onFailure === 'open' ? OPEN : CLOSED)[reason]
}
