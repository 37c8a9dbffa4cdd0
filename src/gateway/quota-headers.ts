import type { Policy } from '../config/snapshot.js'
import type { Decision } from '../limiter/limiter.js'

/** Whether the response may claim a quota: only when the store (or a memory of its answer) decided. */
export function claimsQuota(decision: Decision | undefined): decision is Decision {
  return decision !== undefined && (decision.decidedBy === 'store' || decision.decidedBy === 'cache')
}

/**
 * RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-11), and the older X-RateLimit-* for the
 * binding limit. Nothing at all for a decision that the store did not make.
 *
 * `t` and X-RateLimit-Reset are whole seconds, rounded up: of a denied request until it could pass, so that they never
 * contradict Retry-After, else until the current window ends.
 */
export function pushQuotaHeaders(into: string[], policy: Policy, decision: Decision): void {
  if (!claimsQuota(decision)) return
  const limit = policy.limits[decision.binding]!
  const ms = decision.retryMs > 0 ? decision.retryMs : decision.resetMs
  const seconds = Math.max(1, Math.ceil(ms / 1000))
  const remaining = String(decision.remaining)
  into.push(
    'RateLimit-Policy',
    policy.header,
    'RateLimit',
    `"${limit.name}";r=${remaining};t=${seconds}`,
    'X-RateLimit-Limit',
    String(limit.amount),
    'X-RateLimit-Remaining',
    remaining,
    'X-RateLimit-Reset',
    String(seconds),
  )
}

/** Fields of the upstream's own limiter that would contradict what the gateway claims. Lower-case. */
export const QUOTA_FIELDS: ReadonlySet<string> = new Set([
  'ratelimit',
  'ratelimit-policy',
  'x-ratelimit-limit',
  'x-ratelimit-remaining',
  'x-ratelimit-reset',
])
