import type { Families } from './metric-definitions.js'
import type { Family } from './metric-family.js'

/** Data for a page that shows the traffic: counts since the start. A client that reads them twice can compute rates. */
export interface Traffic {
  readonly services: readonly ServiceTraffic[]
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
    for (const [[service, tier, limit, decision], [count]] of seriesOf(family)) {
      const name = JSON.stringify([service, tier, limit, candidate])
      const row = rows.get(name) ?? {
        ...{ service: service!, tier: tier!, limit: limit!, candidate },
        decisions: { allowed: 0, near: 0, denied: 0 },
      }
      row.decisions[decision as keyof DecisionCounts] += count!
      rows.set(name, row)
    }
  }
  return [...rows.values()]
}

export function trafficOf(families: Families): Traffic {
  const rows = new Map<string, ServiceTraffic>()
  const rowOf = (service: string, tier: string): ServiceTraffic => {
    const name = JSON.stringify([service, tier])
    const row = rows.get(name) ?? {
      service,
      tier,
      responses: { ok: 0, limited: 0, client_error: 0, server_error: 0 },
      decisions: {},
      decided_by: {},
    }
    rows.set(name, row)
    return row
  }
  const bounds = Array.from(families.serverDuration.definition.boundsMs!)
  const counts = new Array<number>(bounds.length + 1).fill(0)
  for (const [[, , status, service, tier, error], figures] of seriesOf(families.serverDuration)) {
    let count = 0
    for (let i = 0; i < counts.length; i++) {
      count += figures[i]!
      if (status !== '101') counts[i]! += figures[i]!
    }
    rowOf(service!, tier!).responses[error ? 'server_error' : classOf(status!)] += count
  }
  for (const [[service, tier, , decision, by], [count]] of seriesOf(families.limitDecisions)) {
    const row = rowOf(service!, tier!)
    row.decisions[decision!] = (row.decisions[decision!] ?? 0) + count!
    row.decided_by[by!] = (row.decided_by[by!] ?? 0) + count!
  }
  const extensionErrors: Record<string, number> = {}
  for (const [[extension], [count]] of seriesOf(families.extensionErrors))
    extensionErrors[extension!] = (extensionErrors[extension!] ?? 0) + count!
  const services = [...rows.values()].sort((a, b) => compare(a.service, b.service) || compare(a.tier, b.tier))
  return {
    services,
    duration: { bounds_ms: bounds, counts },
    connections: families.connections.get() ?? 0,
    extensionErrors,
    degraded: (families.storeState.get('degraded') ?? 0) > 0,
  }
}

function* seriesOf(family: Family): Iterable<[labels: string[], figures: Float64Array]> {
  const { size, width, figures, labels, definition } = family.view()
  const perSeries = definition.labels.length
  for (let i = 0; i < size; i++) {
    const own = labels.slice(i * perSeries, (i + 1) * perSeries).map(String)
    yield [own, figures.subarray(i * width, (i + 1) * width)]
  }
}

/** Returns the class of a status label of the metrics: `429`, `5xx`, `other`. */
export function classOf(status: string): keyof ServiceTraffic['responses'] {
  if (status === '429') return 'limited'
  if (status.startsWith('4')) return 'client_error'
  return status.startsWith('5') ? 'server_error' : 'ok'
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
