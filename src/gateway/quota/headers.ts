import type { Limit } from '../../config/snapshot/limit.js'
import type { Policy } from '../../config/snapshot/policy.js'
import type { Service } from '../../config/snapshot/snapshot.js'
import type { Decision } from '../../limiter/limiter.js'

/** Returns true if the response may state a quota: only if the store (or a cached answer of it) decided. */
export function claimsQuota(decision: Decision | undefined): decision is Decision {
  return decision !== undefined && (decision.decidedBy === 'store' || decision.decidedBy === 'cache')
}

/**
 * Adds RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-11), and the older X-RateLimit-* for the
 * binding limit. Adds nothing for a decision that the store did not make.
 *
 * `t` and X-RateLimit-Reset are whole seconds, rounded up. For a denied request they last until it could pass, so that
 * they never contradict Retry-After. Otherwise they last until the current window ends. Slots have no window, so no
 * `t`.
 */
export function pushQuotaHeaders(into: string[], policy: Policy, decision: Decision): void {
  if (!claimsQuota(decision)) return
  const limit = policy.limits[decision.binding]!
  const seconds = waitSeconds(limit, decision)
  const remaining = String(decision.remaining)
  into.push(
    'RateLimit-Policy',
    policy.header,
    'RateLimit',
    limit.algorithm === 'concurrency'
      ? `"${limit.name}";r=${remaining}`
      : `"${limit.name}";r=${remaining};t=${seconds}`,
    'X-RateLimit-Limit',
    String(limit.burst),
    'X-RateLimit-Remaining',
    remaining,
    'X-RateLimit-Reset',
    String(seconds),
  )
}

/** Tells the client that the store did not decide, if the service is configured so. It states no quota. */
export function pushDecidedBy(
  into: string[],
  { showDecidedBy }: Service,
  decision: Decision | undefined,
): void {
  if (!showDecidedBy || decision === undefined) return
  const { decidedBy } = decision
  if (decidedBy === 'open' || decidedBy === 'local') into.push('X-Tidegate-Decided-By', decidedBy)
}

/**
 * Returns the whole seconds, at least 1, until a denied request could pass, or until the binding limit's window ends. A
 * slot may be released at any moment, so its time is one second.
 */
export function waitSeconds({ algorithm }: Limit, { retryMs, resetMs }: Decision): number {
  if (algorithm === 'concurrency') return 1
  return Math.max(1, Math.ceil((retryMs > 0 ? retryMs : resetMs) / 1000))
}

/** Lower-case headers of the upstream's own limiter that would contradict the gateway's. */
export const QUOTA_FIELDS: ReadonlySet<string> = new Set([
  'ratelimit',
  'ratelimit-policy',
  'x-ratelimit-limit',
  'x-ratelimit-remaining',
  'x-ratelimit-reset',
])
