import TinyQueue from 'tinyqueue'
import type { Limit } from '../../config/snapshot/limit.js'
import { forTenant } from '../../config/snapshot/policy.js'
import type { Snapshot } from '../../config/snapshot/snapshot.js'
import type { Charge, Decision } from '../../limiter/limiter.js'
import { createMemoryLimiter } from '../../limiter/memory.js'
import { Exchange } from '../exchange/exchange.js'
import { NO_HEADERS } from '../exchange/headers.js'
import { givesBack, renewalMs } from '../quota/charges.js'
import { respondDirectly } from '../stages/direct-response.js'
import { levelsOf } from '../stages/quota.js'
import { matchRoute } from '../stages/route.js'
import { chooseService } from '../stages/service.js'

/** Request of an access log (`docs/logs.md`). */
export interface LoggedRequest {
  /** When it began, and when its response ended, in unix ms. */
  readonly began: number
  readonly ended: number
  readonly requestId: string
  readonly method: string
  readonly host: string
  readonly path: string
  readonly route: string | undefined
  readonly service: string | undefined
  readonly cost: number
  readonly tier: string | undefined
  readonly consumer: string | undefined
  readonly tenant: string | undefined
  readonly clientIp: string
  readonly status: number
  readonly error: string | undefined
  /** True if it reached its limits: they were evaluated, or there were none and it was forwarded. */
  readonly reachedLimits: boolean
}

/**
 * Why no limit is evaluated for a request: its consumer is unknown; it was refused before its limits; it has no route
 * now; it is now answered without limits.
 */
export type Skipped = 'unidentified' | 'refused' | 'unrouted' | 'answered'

/** Result of the limits for a request. */
export interface Planned {
  readonly service: string
  readonly tier: string
  readonly consumer: string
  readonly deniedThen: boolean
  readonly deniedNow: boolean
  /** Limit that denies now. */
  readonly limit: Limit | undefined
}

/** Maximum number of counts held at once, of consumers, addresses, tenants and routes. */
const MOST_KEYS = 2_000_000

/**
 * Runs the requests of a log, in the order in which they began, through the limits of another configuration. It uses
 * the stages of a real request except for consumer and tier, which the log has and its headers do not. Counts are in
 * memory and begin empty.
 */
export function createPlan(snapshot: Snapshot) {
  let now = 0
  const limiter = createMemoryLimiter({ now: () => now, maxKeys: MOST_KEYS })
  const settlements = new TinyQueue<Settlement>([], (a, b) => a.at - b.at)
  const choose = chooseService(() => 0)
  const tiers = new Map(snapshot.tiers.map((name, index) => [name, index]))
  const unknownTiers = new Map<string, number>()
  let forgot = false

  /** Settles what ended before `at`, and renews slots held meanwhile. */
  function settleUntil(at: number): void {
    for (let next = settlements.peek(); next !== undefined && next.at <= at; next = settlements.peek()) {
      settlements.pop()
      now = Math.max(now, next.at)
      const { charge, quota, ends } = next
      if (next.at < ends) {
        limiter.settle(charge, 0, 'renew')
        settlements.push({ ...next, at: renewalOr(ends, next.at, charge) })
      } else limiter.settle(charge, quota, charge.policy.slots ? 'release' : 'keep')
    }
    now = Math.max(now, at)
  }

  function tierOf({ tier }: LoggedRequest): number {
    const found = tier === undefined ? undefined : tiers.get(tier)
    if (tier !== undefined && found === undefined) unknownTiers.set(tier, (unknownTiers.get(tier) ?? 0) + 1)
    return found ?? snapshot.defaultTier
  }

  /**
   * Returns the initial and the final cost of a request, as far as the log has them: its `cost` includes declarations
   * of client and upstream.
   */
  function costsOf({ route, consumer }: Exchange, { cost, status, error }: LoggedRequest) {
    const { cost: own, costFrom, costHeader } = route!
    const said = costFrom?.consumers.has(consumer!) === true && cost > 0
    const asked = said ? Math.min(cost, costFrom!.max) : own
    if (givesBack(route!, status, error)) return { asked, due: 0 }
    // A request denied then had no report from an upstream.
    return { asked, due: costHeader !== undefined && error !== 'quota_exceeded' ? cost : asked }
  }

  function hold(
    { ended }: LoggedRequest,
    { decidedBy, at, times }: Decision,
    taken: Pick<Charge, 'service' | 'policy' | 'consumer' | 'levels' | 'cost'>,
    quota: number,
  ): void {
    const charge = { ...taken, decidedBy, at, slotAt: at, times }
    const ends = Math.max(at, ended)
    settlements.push({ at: renewalOr(ends, at, charge), charge, quota, ends })
  }

  return {
    request(logged: LoggedRequest): Planned | Skipped {
      const { consumer, error } = logged
      if (consumer === undefined) return 'unidentified'
      if (!logged.reachedLimits) return 'refused'
      settleUntil(logged.began)
      const headers = { ...NO_HEADERS, host: logged.host === '' ? undefined : logged.host }
      const x = new Exchange(
        snapshot,
        logged.requestId,
        logged.method,
        logged.path,
        headers,
        logged.clientIp,
        0,
      )
      if (matchRoute(x) !== undefined) return 'unrouted'
      if (respondDirectly(x) !== undefined) return 'answered'
      x.consumer = consumer
      x.tenant = logged.tenant
      x.tier = tierOf(logged)
      if (choose(x) !== undefined) return 'answered'
      const { quotaOf } = x.route!
      const planned = (limit: Limit | undefined): Planned => ({
        service: quotaOf.name,
        tier: snapshot.tiers[x.tier]!,
        consumer,
        deniedThen: error === 'quota_exceeded',
        deniedNow: limit !== undefined,
        limit,
      })
      const ofTier = quotaOf.policies[x.tier]
      if (ofTier === undefined || quotaOf.exempt?.(consumer, logged.clientIp)) return planned(undefined)
      const policy = forTenant(ofTier, x.tenant)
      const levels = levelsOf(x)
      const { asked, due } = costsOf(x, logged)
      const decision = limiter.take(quotaOf, policy, consumer, asked, levels)
      forgot ||= limiter.size() >= MOST_KEYS
      if (!decision.allowed) return planned(policy.limits[decision.binding])
      if (policy.slots || due !== asked)
        hold(logged, decision, { service: quotaOf, policy, consumer, levels, cost: asked }, due - asked)
      return planned(undefined)
    },
    /**
     * Tiers of the log that the configuration does not have, with their number of requests. They count as the default.
     */
    unknownTiers: (): ReadonlyMap<string, number> => unknownTiers,
    /** True if there were more counts than are held at once: some were forgotten, and too few requests denied. */
    forgot: () => forgot,
  }
}

function renewalOr(ends: number, at: number, charge: Charge): number {
  return charge.policy.slots ? Math.min(ends, at + renewalMs(charge)) : ends
}

interface Settlement {
  /** Unix ms. */
  readonly at: number
  readonly charge: Charge
  /** Quota to charge in addition, or below 0 to refund. */
  readonly quota: number
  /** Unix ms at which the response ended. */
  readonly ends: number
}
