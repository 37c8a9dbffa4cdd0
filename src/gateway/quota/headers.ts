import type { Limit, Policy, Service } from '../../config/snapshot/snapshot.js'
import type { Decision } from '../../limiter/limiter.js'

/** Whether the response may claim a quota: only when the store (or a memory of its answer) decided. */
export function claimsQuota(decision: Decision | undefined): decision is Decision {
  return decision !== undefined && (decision.decidedBy === 'store' || decision.decidedBy === 'cache')
}

/**
 * RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-11), and the older X-RateLimit-* for the
 * binding limit. Nothing at all for a decision that the store did not make.
 *
 * `t` and X-RateLimit-Reset are whole seconds, rounded up: of a denied request until it could pass, so that they never
 * contradict Retry-After, else until the current window ends. Slots have no window, so no `t`.
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

/** Says that the store did not decide, where the service wants callers to know. It claims no quota. */
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
 * Whole seconds, at least 1, until a denied request could pass, or until the binding limit's window ends. A slot may come
 * free at any moment: a second.
 */
export function waitSeconds({ algorithm }: Limit, { retryMs, resetMs }: Decision): number {
  if (algorithm === 'concurrency') return 1
  return Math.max(1, Math.ceil((retryMs > 0 ? retryMs : resetMs) / 1000))
}

/** Fields of the upstream's own limiter that would contradict what the gateway claims. Lower-case. */
export const QUOTA_FIELDS: ReadonlySet<string> = new Set([
  'ratelimit',
  'ratelimit-policy',
  'x-ratelimit-limit',
  'x-ratelimit-remaining',
  'x-ratelimit-reset',
])
