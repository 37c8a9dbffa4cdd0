import { compareText } from '../../common/by-text.js'
import { getOrAdd } from '../../common/maps.js'
import { GATEWAY_METRICS } from './gateway-metrics.js'
import type { Families } from './metric-definitions.js'
import type { LabelValue } from './metric-family.js'
import type { Reading } from './process-counts.js'
import { REQUEST_METRICS } from './request-metrics.js'

/** Data for a page that shows the traffic: counts since the start. A client that reads them twice can compute rates. */
export interface Traffic {
  readonly services: readonly ServiceTraffic[]
  /** Requests refused for want of room: 503 `overloaded`, 429 `share_exceeded`. */
  readonly shed: number
  /** Durations of all requests except tunnels, which may last any time. */
  readonly duration: Distribution
  readonly connections: number
  /** Failures of hooks by the name of their extension. One without failures may be missing. */
  readonly extensionErrors: Readonly<Record<string, number>>
  /** True if any worker decides without the store. */
  readonly degraded: boolean
}

export interface ServiceTraffic {
  readonly service: string
  readonly tier: string
  /** Responses by class. A 429 is not a `client_error`. */
  readonly responses: Record<'ok' | 'limited' | 'client_error' | 'server_error', number>
  readonly decisions: Record<string, number>
  readonly decided_by: Record<string, number>
}

export interface Distribution {
  /** Upper bounds of the buckets in ms. Larger values go into one more bucket. */
  readonly bounds_ms: readonly number[]
  readonly counts: readonly number[]
}

/** Decisions by result. `near` are allowed, with 80 % of the limit used or more. */
export type DecisionCounts = Record<'allowed' | 'near' | 'denied', number>

/** Decisions that a limit was binding for, or those that a candidate limit would have been binding for. */
export interface LimitCounts {
  readonly service: string
  readonly tier: string
  readonly limit: string
  readonly candidate: boolean
  readonly decisions: DecisionCounts
}

/** Returns the decisions of every limit since the start. Limits without any are left out. */
export function limitCountsOf({ limitDecisions, candidateDecisions }: Families): readonly LimitCounts[] {
  const rows = new Map<string, LimitCounts>()
  for (const family of [limitDecisions, candidateDecisions]) {
    const candidate = family === candidateDecisions
    eachSeries(family.view(), (labels, figures, at) => {
      const [service, tier, limit, decision] = labels.map(String)
      const name = JSON.stringify([service, tier, limit, candidate])
      const row = getOrAdd(rows, name, () => ({
        ...{ service: service!, tier: tier!, limit: limit!, candidate },
        decisions: { allowed: 0, near: 0, denied: 0 },
      }))
      row.decisions[decision as keyof DecisionCounts] += figures[at]!
    })
  }
  return [...rows.values()]
}

/** Metrics that the traffic is read from. */
const SOURCES = {
  durations: REQUEST_METRICS.serverDuration,
  decisions: REQUEST_METRICS.limitDecisions,
  refused: REQUEST_METRICS.requestsRefused,
  failedHooks: REQUEST_METRICS.extensionErrors,
  connections: GATEWAY_METRICS.connections,
  store: GATEWAY_METRICS.storeState,
}

/** Upper bounds of the buckets of durations, in ms. */
export const DURATIONS_MS: readonly number[] = Array.from(SOURCES.durations.boundsMs!)
/** Error codes of requests for which there was no room. */
const SHED: ReadonlySet<LabelValue> = new Set(['overloaded', 'share_exceeded'])

/** Reads the traffic of this process. It takes 1 ms for 5,000 series. */
export function trafficOf(families: Families): Traffic {
  return readTraffic({
    durations: families.serverDuration.view(),
    decisions: families.limitDecisions.view(),
    refused: families.requestsRefused.view(),
    failedHooks: families.extensionErrors.view(),
    connections: families.connections.view(),
    store: families.storeState.view(),
  })
}

/** Reads the traffic in the metrics of another process. */
export function trafficIn({ families }: Reading): Traffic {
  const byName = new Map(families.map((one) => [one.name, one]))
  const entries = Object.entries(SOURCES).map(([key, { prometheus }]) => [
    key,
    byName.get(prometheus) ?? NO_SERIES,
  ])
  return readTraffic(Object.fromEntries(entries) as Readonly<Record<keyof typeof SOURCES, Series>>)
}

function readTraffic(from: Readonly<Record<keyof typeof SOURCES, Series>>): Traffic {
  const rows = createRows()
  const counts = new Array<number>(DURATIONS_MS.length + 1).fill(0)
  eachSeries(from.durations, ([, , status, service, tier, error], figures, at) => {
    let count = 0
    for (let i = 0; i < counts.length; i++) {
      const inBucket = figures[at + i]!
      count += inBucket
      if (status !== 101) counts[i]! += inBucket
    }
    rows.of(service!, tier!).responses[error === '' ? classOf(String(status)) : 'server_error'] += count
  })
  eachSeries(from.decisions, ([service, tier, , decision, by], figures, at) => {
    const row = rows.of(service!, tier!)
    add(row.decisions, decision!, figures[at]!)
    add(row.decided_by, by!, figures[at]!)
  })
  const extensionErrors: Record<string, number> = {}
  eachSeries(from.failedHooks, ([extension], figures, at) => add(extensionErrors, extension!, figures[at]!))
  let shed = 0
  eachSeries(from.refused, ([code], figures, at) => {
    if (SHED.has(code!)) shed += figures[at]!
  })
  let degraded = false
  eachSeries(from.store, ([state], figures, at) => {
    if (state === 'degraded' && figures[at]! > 0) degraded = true
  })
  return {
    services: rows.sorted(),
    shed,
    duration: { bounds_ms: DURATIONS_MS, counts },
    connections: from.connections.figures[0] ?? 0,
    extensionErrors,
    degraded,
  }
}

/** Adds up the traffic of several processes. */
export function mergeTraffic(all: readonly Traffic[]): Traffic {
  const rows = createRows()
  for (const one of all.flatMap(({ services }) => services)) {
    const row = rows.of(one.service, one.tier)
    for (const part of ['responses', 'decisions', 'decided_by'] as const) addAll(row[part], one[part])
  }
  const extensionErrors: Record<string, number> = {}
  for (const one of all) addAll(extensionErrors, one.extensionErrors)
  const sum = (of: (one: Traffic) => number) => all.reduce((total, one) => total + of(one), 0)
  return {
    services: rows.sorted(),
    shed: sum((one) => one.shed),
    duration: {
      bounds_ms: DURATIONS_MS,
      counts: Array.from({ length: DURATIONS_MS.length + 1 }, (_, i) =>
        sum(({ duration }) => duration.counts[i] ?? 0),
      ),
    },
    connections: sum((one) => one.connections),
    extensionErrors,
    degraded: all.some((one) => one.degraded),
  }
}

/** Returns the number of requests that have ended. */
export function requestsIn({ services }: Traffic): number {
  let count = 0
  for (const { responses } of services) for (const one of Object.values(responses)) count += one
  return count
}

/** Creates the rows of services and tiers: each is made when it is first asked for. */
function createRows() {
  const rows = new Map<string, ServiceTraffic>()
  return {
    of(service: LabelValue, tier: LabelValue): ServiceTraffic {
      return getOrAdd(rows, `${service}\n${tier}`, () => {
        const responses = { ok: 0, limited: 0, client_error: 0, server_error: 0 }
        return { service: String(service), tier: String(tier), responses, decisions: {}, decided_by: {} }
      })
    },
    sorted: () =>
      [...rows.values()].sort((a, b) => compareText(a.service, b.service) || compareText(a.tier, b.tier)),
  }
}

function add(counts: Record<string, number>, name: LabelValue, count: number): void {
  counts[name] = (counts[name] ?? 0) + count
}

function addAll(counts: Record<string, number>, more: Readonly<Record<string, number>>): void {
  for (const [name, count] of Object.entries(more)) add(counts, name, count)
}

/** Series of one metric, of this process or of another. */
interface Series {
  readonly size: number
  readonly labels: readonly LabelValue[]
  readonly figures: ArrayLike<number>
}
const NO_SERIES: Series = { size: 0, labels: [], figures: [] }

/** Calls `use` for each series, with its labels and the place of its first figure. */
function eachSeries(
  { size, labels, figures }: Series,
  use: (labels: readonly LabelValue[], figures: ArrayLike<number>, at: number) => void,
): void {
  const perSeries = labels.length / size
  const width = figures.length / size
  for (let i = 0; i < size; i++) use(labels.slice(i * perSeries, (i + 1) * perSeries), figures, i * width)
}

/** Returns the class of a status label of the metrics: `429`, `5xx`, `other`. */
function classOf(status: string): keyof ServiceTraffic['responses'] {
  if (status === '429') return 'limited'
  if (status.startsWith('4')) return 'client_error'
  return status.startsWith('5') ? 'server_error' : 'ok'
}
