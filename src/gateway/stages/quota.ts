import { performance } from 'node:perf_hooks'
import type { Policy } from '../../config/snapshot/policy.js'
import type { Refusal } from '../../errors.js'
import type { Decision, Levels, Limiter } from '../../limiter/limiter.js'
import { addressKey } from '../../net/address-key.js'
import type { RequestRecord } from '../../telemetry/record/record.js'
import type { Exchange } from '../exchange/exchange.js'
import { beginLimit } from '../exchange/trace.js'
import { changeDenial } from '../extensions/on-denied.js'
import type { HookRunner } from '../extensions/runner.js'
import type { Charges } from '../quota/charges.js'
import { costOf } from '../quota/cost.js'
import { denial } from '../quota/denial.js'
import { claimsQuota, waitSeconds } from '../quota/headers.js'
import { type Later, WAITING } from '../request-lifecycle.js'

export interface QuotaDeps {
  readonly limiter: Pick<Limiter, 'decide'>
  readonly charges: Pick<Charges, 'hold'>
  readonly metrics: { candidate(r: RequestRecord, decision: Decision): void }
  readonly runHooks: HookRunner
}

/**
 * Creates the stage that takes the request's cost from each of its limits, or refuses the request. It waits for the
 * store, at most `store.timeout`.
 */
export function takeQuota({ limiter, charges, metrics, runHooks }: QuotaDeps) {
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

  /**
   * Counts the request against a candidate policy, which is only being tried out. The request does not wait for it, and it
   * refuses nothing.
   */
  function tryOut(x: Exchange, candidate: Policy, cost: number, levels: Levels | undefined): void {
    const decided = (decision: Decision): void => {
      if (claimsQuota(decision)) metrics.candidate(x, decision)
      hold(x, candidate, cost, levels, decision)
    }
    const { quotaOf: service } = x.route!
    const decision = limiter.decide({
      service,
      policy: candidate,
      consumer: x.consumer!,
      cost,
      levels,
      shows: false,
      decided,
    })
    if (decision !== undefined) decided(decision)
  }

  /** Makes the refusal, which the route's hooks may change. */
  function denied(
    x: Exchange,
    policy: Policy,
    decision: Decision,
    cost: number,
    later: Later<Refusal | undefined>,
  ): Refusal | typeof WAITING {
    const refusal = denial(x, policy, decision, cost)
    const hooks = x.route!.hooks?.onDenied
    if (hooks === undefined || x.over || refusal.code !== 'quota_exceeded') return refusal
    const { binding, remaining, retryMs } = decision
    const limit = policy.limits[binding]!
    const retryAfter = retryMs < 0 ? undefined : waitSeconds(limit, decision)
    return changeDenial(
      runHooks,
      x,
      hooks,
      refusal,
      { limit: limit.name, retryAfter, remaining, cost },
      later,
    )
  }

  return function takeQuota(
    x: Exchange,
    later: Later<Refusal | undefined>,
  ): Refusal | undefined | typeof WAITING {
    const route = x.route!
    const { policy } = x
    if (policy === undefined) return undefined
    let { cost } = route
    if (route.costFrom !== undefined || x.alsoRead !== undefined || x.hooks !== undefined) {
      cost = costOf(x, route)
      x.cost = cost
    }
    const levels = x.identifiedBy === 'ip' || needsLevels(policy) ? levelsOf(x) : undefined
    const before = performance.now()
    beginLimit(x, before)
    const settle = (decision: Decision): Refusal | undefined | typeof WAITING => {
      x.limitMs = performance.now() - before
      x.decision = decision
      if (!decision.allowed) return denied(x, policy, decision, cost, later)
      hold(x, policy, cost, levels, decision)
      return undefined
    }
    x.sampled = Math.random() < x.snapshot.config.decisions.sample
    // In the same turn, so that both go to the store together.
    if (policy.candidate !== undefined) tryOut(x, policy.candidate, cost, levels)
    const decision = limiter.decide({
      service: route.quotaOf,
      policy,
      consumer: x.consumer!,
      cost,
      levels,
      // Unlike a denial, a decision that allows does not say by itself how the limits stood.
      shows: x.sampled,
      decided(late) {
        let refusal: Refusal | undefined | typeof WAITING
        try {
          refusal = settle(late)
        } catch (error) {
          later.broken(error)
          return
        }
        if (refusal !== WAITING) later.proceed(refusal)
      },
    })
    return decision === undefined ? WAITING : settle(decision)
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

/** Returns what the request is counted under besides the consumer. */
export function levelsOf(x: Exchange): Levels {
  return {
    ip: addressKey(x.clientIp),
    tenant: x.tenant,
    route: x.route!.label,
    byAddress: x.identifiedBy === 'ip',
  }
}
