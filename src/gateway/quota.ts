import { performance } from 'node:perf_hooks'
import type { Policy } from '../config/snapshot.js'
import type { Refusal } from '../errors.js'
import type { Decision, Limiter } from '../limiter/limiter.js'
import type { Exchange } from './exchange.js'
import { pushQuotaHeaders } from './quota-headers.js'

/**
 * Fourth stage: takes what the request costs from every limit of its tier, or refuses it. The one stage that may
 * wait (for the store, at most `store.timeout`).
 */
export function takeQuota(limiter: Pick<Limiter, 'take'>) {
  return function takeQuota(x: Exchange): Refusal | undefined | Promise<Refusal | undefined> {
    const route = x.route!
    const policy = route.service.policies[x.tier]
    if (policy === undefined) return undefined
    const before = performance.now()
    const settle = (decision: Decision): Refusal | undefined => {
      x.limitMs = performance.now() - before
      x.decision = decision
      return decision.allowed ? undefined : denial(x, policy, decision)
    }
    const taken = limiter.take(route.service, policy, x.consumer!, route.cost)
    return taken instanceof Promise ? taken.then(settle) : settle(taken)
  }
}

function denial(x: Exchange, policy: Policy, decision: Decision): Refusal {
  if (decision.decidedBy === 'closed') return { code: 'store_unavailable', headers: ['Retry-After', '1'] }
  const limit = policy.limits[decision.binding]!
  const { cost, service } = x.route!
  const headers: string[] = []
  pushQuotaHeaders(headers, policy, decision)
  const quota = `The quota "${limit.name}" (${limit.amount} per ${windowText(limit.windowMs)}) of tier ${x.snapshot.tiers[x.tier]} on ${service.name}`
  let detail: string
  if (decision.retryMs < 0) {
    detail = `${quota} never allows a request of cost ${cost}; ask for a higher tier.`
  } else {
    const seconds = Math.max(1, Math.ceil(decision.retryMs / 1000))
    headers.push('Retry-After', String(seconds))
    detail = `${quota} is used up; try again in ${seconds} s.`
  }
  return {
    code: 'quota_exceeded',
    detail,
    headers,
    violatedPolicies: policy.limits.filter((_, i) => (decision.violated & (1 << i)) !== 0).map((l) => l.name),
  }
}

function windowText(ms: number): string {
  return ms % 1000 === 0 ? `${ms / 1000} s` : `${ms} ms`
}
