import { STATUS_CODES } from 'node:http'
import type { Limit, Service, Snapshot, Upstream } from '../config/snapshot.js'
import { ERRORS } from '../errors.js'
import type { DecidedBy, Decision, DegradedReason } from '../limiter/limiter.js'
import { type Cell, observe } from './cells.js'
import type { Families } from './families.js'
import type { RequestRecord } from './record.js'

/**
 * The hot path of the metrics: finds a request's cells by array index, in tables made once per snapshot. Every label
 * comes from the configuration or from one of the fixed sets here, so nothing that a caller sends makes a series.
 */

const NONE = 'none'
/** Less than this share of the binding limit left: `near`. */
const NEAR = 0.2

const METHODS = ['_OTHER', 'GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS', 'TRACE', 'CONNECT']
const METHOD_INDEX: ReadonlyMap<string, number> = new Map(METHODS.map((method, i) => [method, i]))

/** An upstream may answer with any three digits: registered codes stand as they are, the rest as their class, `2xx`. */
const STATUSES: (number | string)[] = ['other', ...Array.from({ length: 9 }, (_, i) => `${i + 1}xx`)]
const STATUS_INDEX = new Uint8Array(1000)
for (let status = 100; status < 1000; status++) STATUS_INDEX[status] = Math.floor(status / 100)
for (const status of [...Object.keys(STATUS_CODES).map(Number), 499]) {
  STATUS_INDEX[status] = STATUSES.length
  STATUSES.push(status)
}

const DECIDED_BY: readonly DecidedBy[] = ['store', 'cache', 'local', 'open', 'closed']
const OUTCOMES = ['allowed', 'denied', 'near']
const REASONS: readonly DegradedReason[] = ['timeout', 'error', 'breaker']

/** Why a request is turned away before any quota is taken. */
export type ShedReason = 'concurrency' | 'circuit' | 'event_loop' | 'heap'

interface ServicePlace {
  readonly name: string
  readonly overhead: Cell
  readonly limitDuration: Cell
  readonly upstreams: readonly Upstream[]
  readonly clientDurations: readonly Cell[]
  /** By REASONS. */
  readonly failOpen: readonly Cell[]
  /** By tier + 1, then by (limit + 1, decision, decided by). */
  readonly decisions: (Cell | undefined)[][]
  /** By tier + 1, then by (limit, decision). */
  readonly candidates: (Cell | undefined)[][]
  /** By tier + 1. */
  readonly shed: readonly Map<ShedReason, Cell>[]
}

/** What is known of a request once its route and tier are. */
interface Place {
  readonly route: string
  readonly tier: string
  readonly service: ServicePlace
  /** Of the service whose limits count. */
  readonly quota: ServicePlace
  /** By method, then by status. */
  readonly durations: ((Cell | undefined)[] | undefined)[]
}

interface Table {
  readonly tiers: number
  readonly services: ServicePlace[]
  /** By (route + 1) × (tiers + 1) + tier + 1. */
  readonly places: (Place | undefined)[]
}

export interface Recorder {
  /** Counts one finished request. */
  record(r: RequestRecord): void
  /** Counts what the candidate limits of a request's tier would have decided, finished or not. */
  candidate(r: RequestRecord, decision: Decision): void
  /** Counts a request of which a copy was due for a service. */
  mirrored(service: string, result: MirrorResult): void
  /** Counts a request that is turned away because there is no room for it. It has a route and a tier. */
  shed(r: RequestRecord, reason: ShedReason): void
}

/** It was answered, or not; too many were under way; the body was too large, or did not come to its end. */
export type MirrorResult = 'answered' | 'failed' | 'busy' | 'too_large' | 'aborted'

/** Allocates only when a request is the first with its labels, or the first of a snapshot. */
export function createRecorder(families: Families): Recorder {
  const durationBounds = families.serverDuration.definition.boundsMs!
  const clientBounds = families.clientDuration.definition.boundsMs!
  const overheadBounds = families.overhead.definition.boundsMs!
  const limitBounds = families.limitDuration.definition.boundsMs!
  const errors = new Map(Object.keys(ERRORS).map((code) => [code, families.requestsRefused.cell(code)]))

  // Around a reload, requests of the old and the new snapshot take turns for a while.
  const tables = new WeakMap<Snapshot, Table>()
  let snapshot: Snapshot | undefined
  let table: Table

  function tableOf(next: Snapshot): Table {
    let found = tables.get(next)
    if (found === undefined) {
      const services = next.services.map((service) =>
        createServicePlace(families, service, next.tiers.length),
      )
      services.push(createServicePlace(families, undefined, next.tiers.length))
      const places = new Array((next.routes.length + 1) * (next.tiers.length + 1)).fill(undefined)
      found = { tiers: next.tiers.length, services, places }
      tables.set(next, found)
    }
    snapshot = next
    table = found
    return found
  }

  function makePlace(r: RequestRecord, tier: number): Place {
    const service = table.services[r.route?.service.index ?? table.services.length - 1]!
    return {
      route: r.route?.label ?? NONE,
      tier: r.snapshot.tiers[tier] ?? NONE,
      service,
      quota: table.services[r.route?.quotaOf.index ?? table.services.length - 1]!,
      durations: new Array(METHODS.length).fill(undefined),
    }
  }

  function makeDuration(place: Place, method: number, status: number): Cell {
    const cell = families.serverDuration.cell(
      place.route,
      METHODS[method]!,
      STATUSES[status]!,
      place.service.name,
      place.tier,
    )
    place.durations[method] ??= []
    place.durations[method][status] = cell
    return cell
  }

  function countDecision(r: RequestRecord, place: Place, tier: number, decision: Decision): void {
    const service = place.quota
    observe(service.limitDuration, limitBounds, r.limitMs)
    const by = decision.decidedBy
    if (by === 'open' && decision.reason !== undefined)
      service.failOpen[REASONS.indexOf(decision.reason)]![0]! += 1
    // open and closed look at no limit, so none of them is binding
    const bound = by !== 'open' && by !== 'closed'
    const limit = bound ? r.route?.quotaOf.policies[tier]?.limits[decision.binding] : undefined
    const outcome = outcomeOf(decision, limit)
    const slot =
      ((limit === undefined ? 0 : decision.binding + 1) * OUTCOMES.length + outcome) * DECIDED_BY.length +
      DECIDED_BY.indexOf(by)
    let cell = service.decisions[tier + 1]![slot]
    if (cell === undefined) {
      cell = families.limitDecisions.cell(
        service.name,
        place.tier,
        limit?.name ?? NONE,
        OUTCOMES[outcome]!,
        by,
      )
      service.decisions[tier + 1]![slot] = cell
    }
    cell[0]! += 1
  }

  function countCandidate(r: RequestRecord, decision: Decision): void {
    const tier = tierOf(r)
    const limit = r.route?.quotaOf.policies[tier]?.candidate?.limits[decision.binding]
    if (limit === undefined) return
    const place = placeOf(r, tier)
    const outcome = outcomeOf(decision, limit)
    const cells = place.quota.candidates[tier + 1]!
    const slot = decision.binding * OUTCOMES.length + outcome
    let cell = cells[slot]
    if (cell === undefined) {
      cell = families.candidateDecisions.cell(place.quota.name, place.tier, limit.name, OUTCOMES[outcome]!)
      cells[slot] = cell
    }
    cell[0]! += 1
  }

  /** Index into the tiers of the record's snapshot, whose table is the present one from now on; -1: none. */
  function tierOf(r: RequestRecord): number {
    const { tiers } = r.snapshot === snapshot ? table : tableOf(r.snapshot)
    return r.tier >= 0 && r.tier < tiers ? r.tier : -1
  }

  function placeOf(r: RequestRecord, tier: number): Place {
    const { places, tiers } = table
    const at = (r.route === undefined ? 0 : r.route.index + 1) * (tiers + 1) + tier + 1
    let place = places[at]
    if (place === undefined) {
      place = makePlace(r, tier)
      places[at] = place
    }
    return place
  }

  function record(r: RequestRecord): void {
    const tier = tierOf(r)
    const place = placeOf(r, tier)
    const method = METHOD_INDEX.get(r.method) ?? 0
    const status = STATUS_INDEX[r.status] ?? 0
    observe(
      place.durations[method]?.[status] ?? makeDuration(place, method, status),
      durationBounds,
      r.durationMs,
    )

    const service = place.service
    observe(service.overhead, overheadBounds, r.durationMs - r.upstreamMs)
    if (r.upstream !== undefined) {
      const cell = service.clientDurations[indexOfUpstream(service.upstreams, r.upstream)]
      if (cell !== undefined) observe(cell, clientBounds, r.upstreamMs)
    }
    if (r.decision !== undefined && r.route !== undefined) countDecision(r, place, tier, r.decision)
    if (r.error !== undefined) errors.get(r.error)![0]! += 1
  }

  function mirrored(service: string, result: MirrorResult): void {
    families.mirrored.cell(service, result)[0]! += 1
  }

  function shed(r: RequestRecord, reason: ShedReason): void {
    const tier = tierOf(r)
    const place = placeOf(r, tier)
    const cells = place.service.shed[tier + 1]!
    let cell = cells.get(reason)
    if (cell === undefined) {
      cell = families.shed.cell(place.service.name, place.tier, reason)
      cells.set(reason, cell)
    }
    cell[0]! += 1
  }

  return { record, candidate: countCandidate, mirrored, shed }
}

/** Index into OUTCOMES. */
function outcomeOf(decision: Decision, limit: Limit | undefined): number {
  if (!decision.allowed) return 1
  return isNear(decision, limit) ? 2 : 0
}

/** Whether an allowed request has left less than 20 % of its binding limit. */
export function isNear({ remaining }: Decision, limit: Limit | undefined): boolean {
  return limit !== undefined && remaining < NEAR * limit.burst
}

function createServicePlace(families: Families, service: Service | undefined, tiers: number): ServicePlace {
  const name = service?.name ?? NONE
  return {
    name,
    overhead: families.overhead.cell(name),
    // Without a service there is no quota and no upstream: no series for what cannot happen.
    limitDuration: service === undefined ? new Float64Array(0) : families.limitDuration.cell(name),
    failOpen: service === undefined ? [] : REASONS.map((reason) => families.failOpen.cell(name, reason)),
    upstreams: service?.upstreams ?? [],
    clientDurations: (service?.upstreams ?? []).map((upstream) => {
      const { hostname, port, protocol } = new URL(upstream.origin)
      const number = port === '' ? (protocol === 'https:' ? 443 : 80) : Number(port)
      return families.clientDuration.cell(name, hostname, number)
    }),
    decisions: Array.from({ length: tiers + 1 }, () => []),
    candidates: Array.from({ length: tiers + 1 }, () => []),
    shed: Array.from({ length: tiers + 1 }, () => new Map()),
  }
}

/** By identity, which is how the gateway gets them, or by origin. */
function indexOfUpstream(upstreams: readonly Upstream[], upstream: Upstream): number {
  const index = upstreams.indexOf(upstream)
  return index >= 0 ? index : upstreams.findIndex((candidate) => candidate.origin === upstream.origin)
}
