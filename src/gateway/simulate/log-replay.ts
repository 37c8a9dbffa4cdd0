import TinyQueue from 'tinyqueue'
import { forTenant, type Limit, type Snapshot } from '../../config/snapshot/snapshot.js'
import type { Charge, Decision } from '../../limiter/limiter.js'
import { createMemoryLimiter } from '../../limiter/memory.js'
import { createExchange, type Exchange } from '../exchange/exchange.js'
import { NO_HEADERS } from '../exchange/headers.js'
import { givesBack, renewalMs } from '../quota/charges.js'
import { answerHere } from '../stages/direct-response.js'
import { levelsOf } from '../stages/quota.js'
import { matchRoute } from '../stages/route.js'
import { chooseService } from '../stages/service.js'

/** What an access log says of a request (`docs/logs.md`). */
export interface LoggedRequest {
  /** Unix ms at which it began and at which its response ended. */
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
  /** Whether it got as far as its limits: they were asked, or there were none and it was forwarded. */
  readonly reachedLimits: boolean
}

/**
 * Why no limit is asked about a request: its consumer is not known; it was refused before its limits were asked; it has no
 * route now; it is answered without them now.
 */
export type Skipped = 'unidentified' | 'refused' | 'unrouted' | 'answered'

/** What the limits make of a request. */
export interface Planned {
  readonly service: string
  readonly tier: string
  readonly consumer: string
  readonly deniedThen: boolean
  readonly deniedNow: boolean
  /** The one that denies now. */
  readonly limit: Limit | undefined
}

/** Counts that are held at once, of consumers, addresses, tenants and routes. */
const MOST_KEYS = 2_000_000

/**
 * Runs the requests of a log, in the order in which they began, past the limits of another configuration: by the stages of a real
 * request, but for who is calling and on which tier, which the log knows and its headers do not. Counts are in memory, and begin at none.
 */
export function createPlan(snapshot: Snapshot) {
  let now = 0
  const limiter = createMemoryLimiter({ now: () => now, maxKeys: MOST_KEYS })
  const settlements = new TinyQueue<Settlement>([], (a, b) => a.at - b.at)
  const choose = chooseService(() => 0)
  const tiers = new Map(snapshot.tiers.map((name, index) => [name, index]))
  const unknownTiers = new Map<string, number>()
  let forgot = false

  /** What ended before `at`, and slots that were held on to meanwhile. */
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

  /** What it takes, and what it has cost in the end, as far as the log knows: the callers' and the upstreams' word is in its `cost`. */
  function costsOf({ route, consumer }: Exchange, { cost, status, error }: LoggedRequest) {
    const { cost: own, costFrom, costHeader } = route!
    const said = costFrom?.consumers.has(consumer!) === true && cost > 0
    const asked = said ? Math.min(cost, costFrom!.max) : own
    if (givesBack(route!, status, error)) return { asked, due: 0 }
    // Of what was denied then no upstream has said anything.
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
      const x = createExchange(
        snapshot,
        logged.requestId,
        logged.method,
        logged.path,
        headers,
        logged.clientIp,
        0,
      )
      if (matchRoute(x) !== undefined) return 'unrouted'
      if (answerHere(x) !== undefined) return 'answered'
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
      if (ofTier === undefined) return planned(undefined)
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
    /** Tiers of the log that the configuration does not have, and how many requests came with them; they count as the default. */
    unknownTiers: (): ReadonlyMap<string, number> => unknownTiers,
    /** Whether there were more counts than are held at once: some were forgotten, and denied too few. */
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
  /** Taken besides, or below 0 given back. */
  readonly quota: number
  /** Unix ms at which the response ended. */
  readonly ends: number
}
