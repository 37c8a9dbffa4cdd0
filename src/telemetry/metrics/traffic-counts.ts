import type { Families } from './metric-definitions.js'
import type { LabelValue } from './metric-family.js'
import { classOf } from './overview.js'
import type { Reading } from './process-counts.js'
import { REQUEST_METRICS } from './request-metrics.js'

/**
 * What one process has counted since its start: the values that COUNTED names, then the requests by duration, as in
 * DURATIONS_MS and above. Counts of several processes are added place by place.
 */
export type TrafficCounts = readonly number[]

/**
 * Responses by class, requests refused for want of room (503 `overloaded`, 429 `share_exceeded`), and quota decisions
 * made without the store.
 */
export const COUNTED = ['ok', 'client_error', 'limited', 'server_error', 'shed', 'without_store'] as const

/** Upper bounds of the buckets of durations, in ms. Longer requests are in one more bucket. */
export const DURATIONS_MS: readonly number[] = Array.from(REQUEST_METRICS.serverDuration.boundsMs!)

const BUCKETS = DURATIONS_MS.length + 1
const REFUSED: ReadonlySet<LabelValue> = new Set(['overloaded', 'share_exceeded'])
const WITHOUT_STORE: ReadonlySet<LabelValue> = new Set(['local', 'open', 'closed'])
const [SHED, AWAY] = [COUNTED.indexOf('shed'), COUNTED.indexOf('without_store')]

/** The series of one metric. */
interface Series {
  readonly size: number
  readonly labels: readonly LabelValue[]
  readonly figures: ArrayLike<number>
}
const NONE: Series = { size: 0, labels: [], figures: [] }

/** Counts the traffic of this process. It takes 1 ms for 5,000 series. */
export function readTraffic({ serverDuration, limitDecisions, requestsRefused }: Families): TrafficCounts {
  return countTraffic(serverDuration.view(), limitDecisions.view(), requestsRefused.view())
}

/** Counts the traffic in the metrics of another process. */
export function trafficIn({ families }: Reading): TrafficCounts {
  const { serverDuration, limitDecisions, requestsRefused } = REQUEST_METRICS
  const [durations, decisions, refused] = [serverDuration, limitDecisions, requestsRefused].map(
    ({ prometheus }) => families.find(({ name }) => name === prometheus),
  )
  return countTraffic(durations, decisions, refused)
}

/** Returns the number of requests that have ended. */
export function requestsIn(counts: TrafficCounts): number {
  return counts.slice(0, SHED).reduce((sum, count) => sum + count, 0)
}

function countTraffic(durations = NONE, decisions = NONE, refused = NONE): number[] {
  const counts = new Array<number>(COUNTED.length + BUCKETS).fill(0)
  for (let i = 0; i < durations.size; i++) {
    const [, , status, , , error] = labelsOf(durations, i)
    const at = i * (BUCKETS + 1)
    let count = 0
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      const inBucket = durations.figures[at + bucket]!
      count += inBucket
      // A tunnel may last any time.
      if (status !== 101) counts[COUNTED.length + bucket]! += inBucket
    }
    counts[COUNTED.indexOf(error === '' ? classOf(String(status)) : 'server_error')]! += count
  }
  for (let i = 0; i < decisions.size; i++)
    if (WITHOUT_STORE.has(labelsOf(decisions, i).at(-1)!)) counts[AWAY]! += decisions.figures[i]!
  for (let i = 0; i < refused.size; i++)
    if (REFUSED.has(labelsOf(refused, i)[0]!)) counts[SHED]! += refused.figures[i]!
  return counts
}

function labelsOf({ labels, size }: Series, series: number): readonly LabelValue[] {
  const perSeries = labels.length / size
  return labels.slice(series * perSeries, (series + 1) * perSeries)
}
