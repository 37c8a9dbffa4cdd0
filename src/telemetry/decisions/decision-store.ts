import { isFailure } from '../../errors.js'
import { perSnapshot } from '../record/per-snapshot.js'
import type { RequestRecord } from '../record/record.js'
import { type DecisionData, type DecisionQuestion, latestFirst, mostTellingFirst } from './decision-data.js'
import { type ClassKeptSince, createRing, type Place, type Ring } from './decision-ring.js'

/**
 * Keeps the latest decisions, to explain why a request was limited. They lie in memory that is allocated once and
 * overwritten: a flood of denials makes no garbage, and no client can make it larger. Half of the room is for denials,
 * a quarter for failures, and a quarter for other refusals and a sample of successes: a flood of one class leaves the
 * others.
 */
export type KeptDecisions = ReturnType<typeof createKeptDecisions>

export interface FoundDecision {
  readonly decision: DecisionData
  readonly times: number
}

export interface KeptSince {
  readonly denied: ClassKeptSince
  readonly failed: ClassKeptSince
  readonly others: ClassKeptSince
}

export interface KeptDecisionsOptions {
  /** Decisions that are kept in all; 0: none. */
  readonly keep: number
  /** Returns the current time in Unix ms. */
  readonly now?: () => number
  /** Returns a random number from 0 to 1. */
  readonly random?: () => number
}

export function createKeptDecisions(options: KeptDecisionsOptions) {
  const { keep, now = Date.now, random = Math.random } = options
  const quarter = Math.floor(keep / 4)
  const rings = {
    denied: createRing(keep - 2 * quarter, true),
    failed: createRing(quarter, false),
    others: createRing(quarter, true),
  }
  const all = Object.values(rings)
  const placesOf = perSnapshot((): (Place | undefined)[] => [])

  function placeOf(r: RequestRecord): Place {
    const { route, tier, snapshot } = r
    const known = placesOf(snapshot)
    const at = (route === undefined ? 0 : route.index + 1) * (snapshot.tiers.length + 1) + tier + 1
    let place = known[at]
    if (place === undefined) {
      const [service, quotaOf] = [route?.service.name ?? null, route?.quotaOf.name ?? null]
      place = {
        config: snapshot.hash,
        route: route?.label ?? null,
        service,
        quota_of: quotaOf === service ? null : quotaOf,
        tier: snapshot.tiers[tier] ?? null,
      }
      known[at] = place
    }
    return place
  }

  function ringFor(r: RequestRecord): Ring | undefined {
    if (r.decision?.allowed === false) return rings.denied
    if (isFailure(r.status, r.error)) return rings.failed
    // A cause without an error: a stage has answered instead of the upstream.
    if (r.error !== undefined || r.cause !== undefined) return rings.others
    return (r.sampled ?? random() < r.snapshot.config.decisions.sample) ? rings.others : undefined
  }

  return {
    /** Keeps a decision or skips it; called at the end of every request. */
    keep(r: RequestRecord): void {
      const ring = keep === 0 ? undefined : ringFor(r)
      ring?.write(r, placeOf(r), now())
    },
    /**
     * Finds the latest decision with an id; clients may have sent the same id often, and `times` is the number that is
     * kept here. For a consumer, finds the latest denial, or else the latest decision.
     */
    find(question: DecisionQuestion): FoundDecision | undefined {
      if (typeof question !== 'string') {
        const { consumer, service } = question
        const [found] = all.flatMap((ring) => ring.latest(consumer, service, 1)).sort(mostTellingFirst)
        return found && { decision: found, times: 1 }
      }
      const found = all.flatMap((ring) => ring.find(question))
      const [latest] = found.sort(latestFirst)
      return latest && { decision: latest, times: found.length }
    },
    /** Returns the latest denials of a consumer, newest first. */
    denials: (consumer: string, most: number): DecisionData[] =>
      rings.denied.latest(consumer, undefined, most),
    /** Returns how much is kept, and since when. */
    reach: (): KeptSince => ({
      denied: rings.denied.reach(),
      failed: rings.failed.reach(),
      others: rings.others.reach(),
    }),
  }
}
