import type { Asking, Decision, DegradedReason } from './limiter.js'
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

const ofEachReason = (allowed: boolean): Readonly<Record<DegradedReason, Decision>> => ({
  timeout: constant(allowed, 'timeout'),
  error: constant(allowed, 'error'),
  breaker: constant(allowed, 'breaker'),
})
const CONSTANT = { open: ofEachReason(true), closed: ofEachReason(false) }

/**
 * Decides without the store, by `service.onFailure`. `open` lets the request pass uncounted. `local` counts in this
 * process, each gateway within its share of the limit. `closed` denies.
 */
export function decideDegraded(local: Local, reason: DegradedReason, ...asking: Asking): Decision {
  const { onFailure } = asking[0]
  return onFailure === 'local' ? local.take(reason, ...asking) : CONSTANT[onFailure][reason]
}

/** Returns what it would decide, without charging. */
export async function previewDegraded(
  local: Local,
  reason: DegradedReason,
  ...asking: Asking
): Promise<Decision> {
  const { onFailure } = asking[0]
  return onFailure === 'local' ? local.preview(reason, ...asking) : CONSTANT[onFailure][reason]
}
