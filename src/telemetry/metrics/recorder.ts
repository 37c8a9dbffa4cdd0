import { STATUS_CODES } from 'node:http'
import type { Limit } from '../../config/snapshot/limit.js'
import type { Route, Snapshot } from '../../config/snapshot/snapshot.js'
import type { Upstream } from '../../config/snapshot/upstream-settings.js'
import { ERRORS, isFailure } from '../../errors.js'
import type { DecidedBy, Decision, DegradedReason } from '../../limiter/limiter.js'
import { perSnapshot } from '../record/per-snapshot.js'
import type { RequestRecord } from '../record/record.js'
import type { Families } from './metric-definitions.js'
import type { Cell } from './metric-family.js'
import { createSlots, type Slots } from './pair-map.js'

/**
 * The hot path of the metrics: finds a request's cells by numbers, in tables that each snapshot has. Every label comes
 * from the configuration or from one of the fixed sets here, so no text of a client creates a series.
 */

const NONE = 'none'
/** Share of the binding limit that is left at `near`: at most this, so 80 % used. */
const NEAR = 0.2

const KNOWN_METHODS = 'GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS,TRACE,CONNECT,QUERY'

/**
 * Returns the methods that have a value of their own in metrics and spans (OpenTelemetry's conventions for HTTP).
 *
 * @param named value of OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS: it takes the place of the usual ones
 */
export function knownMethods(named: string | undefined): readonly string[] {
  const namesIn = (list: string) => [...new Set(list.match(/[^\s,]+/g))]
  const own = namesIn(named ?? '')
  return own.length === 0 ? namesIn(KNOWN_METHODS) : own
}

export const METHODS = ['_OTHER', ...knownMethods(process.env.OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS)]
const METHOD_INDEX: ReadonlyMap<string, number> = new Map(METHODS.map((method, i) => [method, i]))

/**
 * Status labels. An upstream may send any three digits: registered codes are kept, others become their class, `2xx`.
 */
const STATUSES: (number | string)[] = ['other', ...Array.from({ length: 9 }, (_, i) => `${i + 1}xx`)]
const STATUS_INDEX = new Uint8Array(1000)
for (let status = 100; status < 1000; status++) STATUS_INDEX[status] = Math.floor(status / 100)
for (const status of [...Object.keys(STATUS_CODES).map(Number), 499]) {
  STATUS_INDEX[status] = STATUSES.length
  STATUSES.push(status)
}

const ERROR_CODES = Object.keys(ERRORS)
/** Index of each error code, from 1; 0 means none. */
const ERROR_INDEX: ReadonlyMap<string, number> = new Map(ERROR_CODES.map((code, i) => [code, i + 1]))

const DECIDED_BY: readonly DecidedBy[] = ['store', 'cache', 'local', 'open', 'closed']
const OUTCOMES = ['allowed', 'denied', 'near']
const REASONS: readonly DegradedReason[] = ['timeout', 'error', 'breaker']

const SHED_REASONS = ['concurrency', 'circuit', 'event_loop', 'heap'] as const
/** Reason for which a request is shed before any quota is taken. */
export type ShedReason = (typeof SHED_REASONS)[number]

const EDGE_REASONS = [
  'deny_list',
  'ban',
  'auto_ban',
  'country',
  'user_agent',
  'path',
  'bot_score',
  'ip_limit',
] as const
/** Reason for which a request is denied before any other work. */
export type EdgeReason = (typeof EDGE_REASONS)[number]

interface ServicePlace {
  readonly name: string
  readonly overhead: Cell
  readonly limitDuration: Cell
  readonly upstreams: readonly Upstream[]
  /** Number of upstreams of all services before this one. */
  readonly firstUpstream: number
  /** Cells in the order of REASONS. */
  readonly failOpen: readonly Cell[]
}

/** Cells that requests of one snapshot have used, by the numbers that the snapshot gives to its parts. */
interface Table {
  readonly tiers: number
  /** The last entry is for requests without a route. */
  readonly services: readonly ServicePlace[]
  /** Keyed by route and tier, then by method, status and error. */
  readonly durations: Slots
  /** Keyed by upstream, then by method and outcome. */
  readonly clientDurations: Slots
  /** Keyed by service and tier, then by limit, decision and who decided. */
  readonly decisions: Slots
  /** Keyed by service and tier, then by limit and decision. */
  readonly candidates: Slots
  /** Keyed by service and tier, then by reason. */
  readonly shed: Slots
}

export type Recorder = ReturnType<typeof createRecorder>

/**
 * Outcome of a mirrored request: the upstream responded or failed; too many copies were in flight; the body was too
 * large, or was cut off.
 */
export type MirrorResult = 'answered' | 'failed' | 'busy' | 'too_large' | 'aborted'

/** Creates a recorder. It allocates only when a request is the first with its labels, or the first of a snapshot. */
export function createRecorder(families: Families) {
  const { serverDuration, clientDuration, overhead, limitDuration, limitDecisions, candidateDecisions } =
    families
  const errors = new Map(ERROR_CODES.map((code) => [code, families.requestsRefused.cell(code)]))

  const tableOf = perSnapshot((snapshot) => createTable(families, snapshot))
  let table: Table

  /** Returns the index into the tiers of the record's snapshot, whose table becomes the current one; -1: none. */
  function tierOf(r: RequestRecord): number {
    table = tableOf(r.snapshot)
    return r.tier >= 0 && r.tier < table.tiers ? r.tier : -1
  }

  /** Packs two numbers into one; either may be -1 for none. */
  function pairOf(index: number, tier: number): number {
    return (index + 1) * (table.tiers + 1) + tier + 1
  }

  function durationCell(r: RequestRecord, tier: number, method: number, status: number): Cell {
    const failed = r.error !== undefined && isFailure(r.status, r.error) ? ERROR_INDEX.get(r.error)! : 0
    const place = pairOf(r.route === undefined ? -1 : r.route.index, tier)
    const kind = (method * STATUSES.length + status) * (ERROR_CODES.length + 1) + failed
    const known = table.durations.get(place, kind)
    if (known >= 0) return known
    const cell = serverDuration.cell(
      // An attribute that there is not, by the conventions; not one that says so.
      r.route?.label ?? '',
      METHODS[method]!,
      STATUSES[status]!,
      r.route?.service.name ?? NONE,
      r.snapshot.tiers[tier] ?? NONE,
      isFailure(r.status, r.error) ? (r.error ?? STATUSES[status]!) : '',
    )
    table.durations.set(place, kind, cell)
    return cell
  }

  function clientCell(
    r: RequestRecord,
    service: ServicePlace,
    index: number,
    method: number,
    status: number,
  ): Cell {
    // The gateway itself made a status that comes with an error.
    const result = r.error === undefined ? status : STATUSES.length + ERROR_CODES.indexOf(r.error)
    const place = service.firstUpstream + index
    const kind = method * (STATUSES.length + ERROR_CODES.length) + result
    const known = table.clientDurations.get(place, kind)
    if (known >= 0) return known
    const { hostname, port, protocol } = new URL(service.upstreams[index]!.origin)
    const cell = clientDuration.cell(
      service.name,
      hostname,
      port === '' ? (protocol === 'https:' ? 443 : 80) : Number(port),
      METHODS[method]!,
      r.error === undefined ? STATUSES[status]! : '',
      isFailure(r.status, r.error) ? (r.error ?? STATUSES[status]!) : '',
    )
    table.clientDurations.set(place, kind, cell)
    return cell
  }

  function countDecision(r: RequestRecord, route: Route, tier: number, decision: Decision): void {
    const { quotaOf } = route
    const service = table.services[quotaOf.index]!
    limitDuration.observe(service.limitDuration, r.limitMs, r.trace)
    const by = decision.decidedBy
    if (by === 'open' && decision.reason !== undefined) {
      families.failOpen.add(service.failOpen[REASONS.indexOf(decision.reason)]!, 1)
    }
    // open and closed check no limit, so none of them is binding
    const bound = by !== 'open' && by !== 'closed'
    const limit = bound ? r.policy?.limits[decision.binding] : undefined
    const outcome = outcomeOf(decision, limit)
    const place = pairOf(quotaOf.index, tier)
    const kind =
      ((limit === undefined ? 0 : decision.binding + 1) * OUTCOMES.length + outcome) * DECIDED_BY.length +
      DECIDED_BY.indexOf(by)
    let cell = table.decisions.get(place, kind)
    if (cell < 0) {
      const tierName = r.snapshot.tiers[tier] ?? NONE
      cell = limitDecisions.cell(service.name, tierName, limit?.name ?? NONE, OUTCOMES[outcome]!, by)
      table.decisions.set(place, kind, cell)
    }
    limitDecisions.add(cell, 1)
  }

  function countCandidate(r: RequestRecord, decision: Decision): void {
    const tier = tierOf(r)
    const quotaOf = r.route?.quotaOf
    const limit = r.policy?.candidate?.limits[decision.binding]
    if (quotaOf === undefined || limit === undefined) return
    const outcome = outcomeOf(decision, limit)
    const place = pairOf(quotaOf.index, tier)
    const kind = decision.binding * OUTCOMES.length + outcome
    let cell = table.candidates.get(place, kind)
    if (cell < 0) {
      cell = candidateDecisions.cell(quotaOf.name, r.snapshot.tiers[tier]!, limit.name, OUTCOMES[outcome]!)
      table.candidates.set(place, kind, cell)
    }
    candidateDecisions.add(cell, 1)
  }

  function record(r: RequestRecord): void {
    const tier = tierOf(r)
    const { route } = r
    const method = METHOD_INDEX.get(r.method) ?? 0
    const status = STATUS_INDEX[r.status] ?? 0
    serverDuration.observe(durationCell(r, tier, method, status), r.durationMs, r.trace)

    const service = table.services[route === undefined ? table.services.length - 1 : route.service.index]!
    overhead.observe(service.overhead, r.durationMs - r.upstreamMs, r.trace)
    if (r.upstream !== undefined) {
      const index = indexOfUpstream(service.upstreams, r.upstream)
      if (index >= 0)
        clientDuration.observe(clientCell(r, service, index, method, status), r.upstreamMs, r.trace)
    }
    if (r.decision !== undefined && route !== undefined) countDecision(r, route, tier, r.decision)
    if (r.error !== undefined) families.requestsRefused.add(errors.get(r.error)!, 1)
  }

  function shed(r: RequestRecord, reason: ShedReason): void {
    const tier = tierOf(r)
    const service = r.route?.service
    const place = pairOf(service?.index ?? -1, tier)
    const kind = SHED_REASONS.indexOf(reason)
    let cell = table.shed.get(place, kind)
    if (cell < 0) {
      cell = families.shed.cell(service?.name ?? NONE, r.snapshot.tiers[tier] ?? NONE, reason)
      table.shed.set(place, kind, cell)
    }
    families.shed.add(cell, 1)
  }

  // Starts at 0, so that the first event is an increase.
  const denied = new Map(EDGE_REASONS.map((reason) => [reason, families.edgeDenied.cell(reason)]))
  const thrown = families.internalErrors.cell()

  return {
    /** Counts one finished request. */
    record,
    /** Counts what the candidate limits of a request's tier would have decided, finished or not. */
    candidate: countCandidate,
    /** Counts a request that is shed because there is no room for it. It has a route and a tier. */
    shed,
    /** Counts a request that was due to be mirrored to a service. */
    mirrored: (service: string, result: MirrorResult): void =>
      families.mirrored.add(families.mirrored.cell(service, result), 1),
    /** Counts a hook of an extension that failed. */
    extensionFailed: (extension: string, hook: string): void =>
      families.extensionErrors.add(families.extensionErrors.cell(extension, hook), 1),
    /** Counts an exception in the handling of one request. */
    internalError: (): void => families.internalErrors.add(thrown, 1),
    /** Counts a request that is denied at the edge. */
    edgeDenied: (reason: EdgeReason): void => families.edgeDenied.add(denied.get(reason)!, 1),
  }
}

/** Returns the index into OUTCOMES. */
function outcomeOf(decision: Decision, limit: Limit | undefined): number {
  if (!decision.allowed) return 1
  return isNear(decision, limit) ? 2 : 0
}

/** Returns true if an allowed request has used 80 % of its binding limit, or more. */
export function isNear({ remaining }: Decision, limit: Limit | undefined): boolean {
  return limit !== undefined && remaining <= NEAR * limit.burst
}

function createTable(families: Families, { services, tiers }: Snapshot): Table {
  let firstUpstream = 0
  return {
    tiers: tiers.length,
    services: [...services, undefined].map((service) => {
      const name = service?.name ?? NONE
      const upstreams = service?.upstreams ?? []
      const place = {
        name,
        overhead: families.overhead.cell(name),
        // Without a service there is no quota and no upstream, so these series are not created.
        limitDuration: service === undefined ? 0 : families.limitDuration.cell(name),
        failOpen: service === undefined ? [] : REASONS.map((reason) => families.failOpen.cell(name, reason)),
        upstreams,
        firstUpstream,
      }
      firstUpstream += upstreams.length
      return place
    }),
    durations: createSlots(),
    clientDurations: createSlots(),
    decisions: createSlots(),
    candidates: createSlots(),
    shed: createSlots(),
  }
}

/** Finds an upstream by identity, which is how the gateway passes it, or else by origin. */
function indexOfUpstream(upstreams: readonly Upstream[], upstream: Upstream): number {
  const index = upstreams.indexOf(upstream)
  return index >= 0 ? index : upstreams.findIndex((candidate) => candidate.origin === upstream.origin)
}
