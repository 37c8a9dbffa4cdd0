import { byText } from '../../common/by-text.js'
import { getOrAdd } from '../../common/maps.js'
import type { Limit } from '../../config/snapshot/limit.js'
import type { LoggedRequest, Planned, Skipped } from '../../gateway/simulate/log-replay.js'

/** Maximum number of consumers with denials that are kept. Other consumers are not kept. */
const MOST_CONSUMERS = 1_000_000
const MOST_ROUTES = 1000
const MINUTE = 60_000

const NO_COUNTS = {
  requests: 0,
  deniedThen: 0,
  deniedNow: 0,
  /** Denied by the plan, allowed when logged. */
  newlyDenied: 0,
  newlyAllowed: 0,
}

export type TallyCounts = typeof NO_COUNTS

export interface TierCounts extends TallyCounts {
  readonly service: string
  readonly tier: string
  consumersNewlyDenied: number
}

export interface ConsumerCounts extends Pick<TallyCounts, 'deniedThen' | 'deniedNow' | 'newlyDenied'> {
  readonly service: string
  readonly tier: string
  readonly consumer: string
}

export interface LimitCounts {
  readonly service: string
  readonly tier: string
  readonly limit: Limit
  deniedNow: number
}

/** Accumulates the results of a log. */
export type Tally = ReturnType<typeof createTally>

export function createTally() {
  const all = { ...NO_COUNTS }
  const skipped = { unidentified: 0, refused: 0, unrouted: 0, answered: 0 }
  const tiers = new Map<string, TierCounts>()
  const limits = new Map<string, LimitCounts>()
  const consumers = new Map<string, ConsumerCounts>()
  const unrouted = new Map<string, number>()
  const minutes = new Map<number, number>()
  let from = Number.POSITIVE_INFINITY
  let to = Number.NEGATIVE_INFINITY
  let more = false

  function consumerOf({ service, tier, consumer }: Planned): ConsumerCounts | undefined {
    const key = `${service} ${tier} ${consumer}`
    if (!consumers.has(key) && consumers.size >= MOST_CONSUMERS) {
      more = true
      return undefined
    }
    const counts = { deniedThen: 0, deniedNow: 0, newlyDenied: 0 }
    return getOrAdd(consumers, key, () => ({ service, tier, consumer, ...counts }))
  }

  function skip(request: LoggedRequest, why: Skipped): void {
    skipped[why]++
    if (why !== 'unrouted' || request.service === undefined) return
    const route = request.route ?? request.path
    if (unrouted.has(route) || unrouted.size < MOST_ROUTES)
      unrouted.set(route, (unrouted.get(route) ?? 0) + 1)
  }

  return {
    add(request: LoggedRequest, outcome: Planned | Skipped): void {
      from = Math.min(from, request.began)
      to = Math.max(to, request.began)
      if (typeof outcome === 'string') {
        skip(request, outcome)
        return
      }
      const { service, tier: name, limit, deniedThen, deniedNow } = outcome
      const key = `${service} ${name}`
      const none = () => ({ service, tier: name, ...NO_COUNTS, consumersNewlyDenied: 0 })
      const tier = getOrAdd(tiers, key, none)
      const newly = deniedNow && !deniedThen
      for (const counts of [all, tier]) {
        counts.requests++
        counts.deniedThen += Number(deniedThen)
        counts.deniedNow += Number(deniedNow)
        counts.newlyDenied += Number(newly)
        counts.newlyAllowed += Number(deniedThen && !deniedNow)
      }
      if (deniedNow) {
        const none = () => ({ service, tier: name, limit: limit!, deniedNow: 0 })
        getOrAdd(limits, `${key} ${limit!.name}`, none).deniedNow++
      }
      if (newly) {
        const minute = Math.floor(request.began / MINUTE)
        minutes.set(minute, (minutes.get(minute) ?? 0) + 1)
      }
      if (!deniedThen && !deniedNow) return
      const consumer = consumerOf(outcome)
      if (consumer === undefined) return
      if (newly && consumer.newlyDenied === 0) tier.consumersNewlyDenied++
      consumer.deniedThen += Number(deniedThen)
      consumer.deniedNow += Number(deniedNow)
      consumer.newlyDenied += Number(newly)
    },
    all,
    skipped,
    /** Unix ms of the first and the last request; undefined if there was none. */
    span: (): { readonly from: number; readonly to: number } | undefined =>
      from <= to ? { from, to } : undefined,
    /** Returns counts by tier, sorted by name. */
    tiers: (): readonly TierCounts[] =>
      [...tiers.values()].sort(byText(({ service, tier }) => `${service}\0${tier}`)),
    /** Returns counts by limit, the one with most denials first. */
    limits: (): readonly LimitCounts[] => [...limits.values()].sort((a, b) => b.deniedNow - a.deniedNow),
    /** Returns counts by consumer, the one with most new denials first. */
    consumers: (): readonly ConsumerCounts[] =>
      [...consumers.values()].sort(
        (a, b) => b.newlyDenied - a.newlyDenied || b.deniedNow - a.deniedNow || b.deniedThen - a.deniedThen,
      ),
    /** Returns true if there were more consumers than are kept. */
    moreConsumers: (): boolean => more,
    /** Returns requests that had a route when logged and have none now, by their route then. */
    unrouted: (): readonly { readonly route: string; readonly requests: number }[] =>
      [...unrouted].map(([route, requests]) => ({ route, requests })).sort((a, b) => b.requests - a.requests),
    /** Returns the minute with most new denials, as the unix ms of its start. */
    worstMinute(): { readonly at: number; readonly newlyDenied: number } | undefined {
      let worst: { at: number; newlyDenied: number } | undefined
      for (const [minute, newlyDenied] of minutes)
        if (newlyDenied > (worst?.newlyDenied ?? 0)) worst = { at: minute * MINUTE, newlyDenied }
      return worst
    },
  }
}
