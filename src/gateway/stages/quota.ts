import { performance } from 'node:perf_hooks'
import { forTenant, type Policy } from '../../config/snapshot/policy.js'
import type { Refusal } from '../../errors.js'
import type { Amounts } from '../../fleet/overrides.js'
import type { Decision, Levels, Limiter } from '../../limiter/limiter.js'
import { addressKey } from '../../net/address-key.js'
import type { RequestRecord } from '../../telemetry/record/record.js'
import type { Exchange } from '../exchange/exchange.js'
import { beginLimit } from '../exchange/trace.js'
import type { Charges } from '../quota/charges.js'
import { costOf } from '../quota/cost.js'
import { denial } from '../quota/denial.js'
import { claimsQuota } from '../quota/headers.js'

export interface QuotaDeps {
  readonly limiter: Pick<Limiter, 'take' | 'preview'>
  readonly amounts: Pick<Amounts, 'policyFor'>
  readonly charges: Pick<Charges, 'hold'>
  readonly metrics: { candidate(r: RequestRecord, decision: Decision): void }
}

/**
 * Takes what the request costs from every limit of its tier, or refuses it. Waits for the store, at most
 * `store.timeout`.
 */
export function takeQuota({ limiter, amounts, charges, metrics }: QuotaDeps) {
  function hold(
    x: Exchange,
    policy: Policy,
    cost: number,
    levels: Levels | undefined,
    decision: Decision,
  ): void {
    const { quotaOf: service, refundOn, costHeader } = x.route!
    const { allowed, decidedBy, at, times } = decision
    if (!allowed || decidedBy === 'open' || decidedBy === 'closed') return
    if (!policy.slots && refundOn === undefined && costHeader === undefined) return
    const consumer = x.consumer!
    charges.hold(x, { service, policy, consumer, levels, cost, decidedBy, at, slotAt: at, times })
  }

  /** Counts what is only tried out. Nobody waits for it, and it refuses nothing. */
  function tryOut(x: Exchange, candidate: Policy, cost: number, levels: Levels | undefined): void {
    const settle = (decision: Decision): void => {
      if (claimsQuota(decision)) metrics.candidate(x, decision)
      hold(x, candidate, cost, levels, decision)
    }
    const taken = limiter.take(x.route!.quotaOf, candidate, x.consumer!, cost, levels)
    // What is only tried out must not end the process when it fails.
    if (taken instanceof Promise) taken.then(settle, () => {})
    else settle(taken)
  }

  /**
   * How the limits stand right before the request is charged, of a sampled one: only a denial says so by itself. Asked on the same
   * connection in front of it. Nobody waits for it: the answer is here before that to the charge, or it is not known.
   */
  function look(x: Exchange, policy: Policy, cost: number, levels: Levels | undefined): void {
    const keep = ({ counted }: Decision): void => {
      x.counted = counted
    }
    limiter.preview(x.route!.quotaOf, policy, x.consumer!, cost, levels).then(keep, () => {})
  }

  return function takeQuota(x: Exchange): Refusal | undefined | Promise<Refusal | undefined> {
    const route = x.route!
    const ofTier = route.quotaOf.policies[x.tier]
    if (ofTier === undefined) return undefined
    const policy = amounts.policyFor(route.quotaOf, forTenant(ofTier, x.tenant), x.consumer!, x.tenant)
    x.policy = policy
    let { cost } = route
    if (route.costFrom !== undefined || x.alsoRead !== undefined) {
      cost = costOf(x, route)
      x.cost = cost
    }
    const levels = x.identifiedBy === 'ip' || needsLevels(policy) ? levelsOf(x) : undefined
    const before = performance.now()
    beginLimit(x, before)
    const settle = (decision: Decision): Refusal | undefined => {
      x.limitMs = performance.now() - before
      x.decision = decision
      if (!decision.allowed) return denial(x, policy, decision, cost)
      hold(x, policy, cost, levels, decision)
      return undefined
    }
    x.sampled = Math.random() < x.snapshot.config.decisions.sample
    if (x.sampled) look(x, policy, cost, levels)
    // In the same turn, so that both go to the store together.
    if (policy.candidate !== undefined) tryOut(x, policy.candidate, cost, levels)
    const taken = limiter.take(route.quotaOf, policy, x.consumer!, cost, levels)
    return taken instanceof Promise ? taken.then(settle) : settle(taken)
  }
}

function needsLevels({ parts, candidate, base }: Policy): boolean {
  return (
    base !== undefined ||
    parts.length > 1 ||
    parts[0]!.by !== 'consumer' ||
    (candidate !== undefined && needsLevels(candidate))
  )
}

/** Who else than the consumer the request is counted under. */
export function levelsOf(x: Exchange): Levels {
  return {
    ip: addressKey(x.clientIp),
    tenant: x.tenant,
    route: x.route!.label,
    byAddress: x.identifiedBy === 'ip',
  }
}
