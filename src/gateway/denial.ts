import type { Level, Limit, Policy } from '../config/snapshot.js'
import type { Refusal } from '../errors.js'
import type { Decision } from '../limiter/limiter.js'
import type { Exchange } from './exchange.js'
import { pushQuotaHeaders, waitSeconds } from './quota-headers.js'

/** What the caller of a denied request is told. */
export function denial(x: Exchange, policy: Policy, decision: Decision, cost: number): Refusal {
  if (decision.decidedBy === 'closed') return { code: 'store_unavailable', headers: ['Retry-After', '1'] }
  const limit = policy.limits[decision.binding]!
  const headers: string[] = []
  pushQuotaHeaders(headers, policy, decision)
  const tier = x.snapshot.tiers[x.tier]!
  const quota = `The quota "${limit.name}" (${amountText(limit)}) of ${whoseText(limit.by, tier, x.route!.quotaOf.name)}`
  let detail: string
  if (decision.retryMs < 0) {
    detail = `${quota} never allows a request of cost ${cost}; ask for a higher tier.`
  } else {
    const seconds = waitSeconds(limit, decision)
    headers.push('Retry-After', String(seconds))
    const when = limit.algorithm === 'concurrency' ? 'when one of them has ended' : `in ${seconds} s`
    detail = `${quota} is used up; try again ${when}.`
  }
  return {
    code: 'quota_exceeded',
    detail,
    headers,
    violatedPolicies: policy.limits.filter((_, i) => (decision.violated & (1 << i)) !== 0).map((l) => l.name),
  }
}

function amountText({ algorithm, amount, burst, windowMs, calendar }: Limit): string {
  if (calendar !== undefined) return `${amount} per ${calendar.period}, ${calendar.timeZone}`
  if (algorithm === 'concurrency') return `${amount} request${amount === 1 ? '' : 's'} at once`
  const rate = `${amount} per ${windowMs % 1000 === 0 ? `${windowMs / 1000} s` : `${windowMs} ms`}`
  return algorithm === 'token_bucket' ? `${rate}, ${burst} at once` : rate
}

function whoseText(by: Level, tier: string, service: string): string {
  const of = `tier ${tier} on ${service}`
  switch (by) {
    case 'consumer':
      return of
    case 'ip':
      return `your address, ${of},`
    case 'tenant':
      return `your tenant, ${of},`
    case 'route':
      return `all callers of this route, ${of},`
    case 'service':
      return `all callers of the service, ${of},`
  }
}
