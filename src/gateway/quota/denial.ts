import { getOrAdd } from '../../common/maps.js'
import type { Limit } from '../../config/snapshot/limit.js'
import type { Policy } from '../../config/snapshot/policy.js'
import type { Service } from '../../config/snapshot/snapshot.js'
import { prepareRefusal, type Refusal } from '../../errors.js'
import type { Decision } from '../../limiter/limiter.js'
import type { Exchange } from '../exchange/exchange.js'
import { claimsQuota, pushDecidedBy, pushQuotaHeaders, waitSeconds } from './headers.js'

/** Cached refusal, with the values that it was made for. */
interface Made {
  readonly refusal: Refusal
  readonly policy: Policy
  readonly binding: number
  readonly violated: number
  readonly remaining: number
  readonly seconds: number
  /** Cost of a request that can never pass; otherwise -1. */
  readonly cost: number
  readonly claims: boolean
  readonly tier: number
  readonly service: string
}

/** Latest denials by policy and seconds: clients over a limit ask again and again. */
const latest: (Made | undefined)[] = new Array(1024).fill(undefined)
const numbers = new WeakMap<Policy, number>()
let policies = 0
const nextNumber = () => policies++

function slotOf(policy: Policy, seconds: number): number {
  // 61, so that the seconds of a minute, and the rest above one, do not collide with those of the next policy.
  return (getOrAdd(numbers, policy, nextNumber) * 61 + seconds) % latest.length
}

/** Returns the refusal for a denied request. */
export function denial(x: Exchange, policy: Policy, decision: Decision, cost: number): Refusal {
  const { decidedBy, binding, violated, remaining, retryMs } = decision
  if (decidedBy === 'closed') return { code: 'store_unavailable', headers: ['Retry-After', '1'] }
  const seconds = waitSeconds(policy.limits[binding]!, decision)
  const slot = slotOf(policy, seconds)
  const known = latest[slot]
  const service = x.route!.quotaOf.name
  const never = retryMs < 0 ? cost : -1
  const claims = claimsQuota(decision)
  if (
    known !== undefined &&
    known.policy === policy &&
    known.seconds === seconds &&
    known.remaining === remaining &&
    known.binding === binding &&
    known.violated === violated &&
    known.cost === never &&
    known.claims === claims &&
    known.tier === x.tier &&
    known.service === service
  ) {
    return known.refusal
  }
  const plain = makeDenial(x.route!.quotaOf, x.snapshot.tiers[x.tier]!, policy, decision, cost)
  const refusal = { ...plain, prepared: prepareRefusal(plain) }
  const { tier } = x
  latest[slot] = {
    refusal,
    policy,
    binding,
    violated,
    remaining,
    seconds,
    cost: never,
    claims,
    tier,
    service,
  }
  return refusal
}

/** Makes the refusal for a denied request of a tier. */
export function makeDenial(
  service: Service,
  tier: string,
  policy: Policy,
  decision: Decision,
  cost: number,
): Refusal {
  const limit = policy.limits[decision.binding]!
  const headers: string[] = []
  pushQuotaHeaders(headers, policy, decision)
  pushDecidedBy(headers, service, decision)
  const quota = `The quota "${limit.name}" (${amountText(limit)}) of ${whoseText(limit, tier, service.name)}`
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

function whoseText({ by, shareOf }: Limit, tier: string, service: string): string {
  const of = `tier ${tier} on ${service}`
  if (shareOf !== undefined) return `your share of "${shareOf}", ${of},`
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
