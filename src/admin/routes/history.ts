import type { FastifyInstance } from 'fastify'
import {
  createHistoryOfAll,
  type HistoryOfAll,
  type MergedEvent,
} from '../../telemetry/history/all-gateways-history.js'
import { COUNTED, EVERY_MS } from '../../telemetry/history/history.js'
import { DURATIONS_MS } from '../../telemetry/metrics/overview.js'
import { refuse } from '../access/problem.js'
import type { AdminDeps } from '../deps.js'
import { momentIn, type QueryOf, readQuery } from './read-request.js'

/** Response of `GET /history`. Times are in ISO 8601. */
export interface HistoryAnswer extends Pick<HistoryOfAll, 'nodes'> {
  readonly from: string
  readonly to: string
  readonly every_ms: number
  /** In the order of time. One is missing if no gateway was running. */
  readonly samples: readonly HistorySample[]
  readonly events: readonly (Omit<MergedEvent, 'at'> & { readonly at: string })[]
}

/** Counts of ten seconds. */
export interface HistorySample {
  readonly at: string
  readonly gateways: number
  readonly responses: Readonly<Record<'ok' | 'client_error' | 'limited' | 'server_error', number>>
  readonly shed: number
  readonly without_store: number
  /** Null: no request has ended. */
  readonly p50_ms: number | null
  readonly p95_ms: number | null
  readonly p99_ms: number | null
}

const KEYS = ['of', 'since'] as const

/** Adds the route that returns the last hour in samples of ten seconds, of this gateway or of all. */
export function historyRoutes(app: FastifyInstance, deps: Pick<AdminDeps, 'store' | 'history'>): void {
  const find = createHistoryOfAll(() => deps.store().fleet, deps.history)

  app.get<QueryOf>('/history', async (request) => {
    const { of = 'gateway', since } = readQuery(request.query, KEYS)
    if (of !== 'gateway' && of !== 'fleet') refuse('bad_request', 'of is one of gateway, fleet.')
    const moment = since === undefined ? 0 : momentIn(since)
    if (moment === undefined)
      refuse('bad_request', 'since is a moment in ISO 8601, such as 2026-11-25T01:40:10Z.')
    const { from, to, nodes, samples, events } = await find(of, moment)
    const answer: HistoryAnswer = {
      from: iso(from),
      to: iso(to),
      every_ms: EVERY_MS,
      nodes,
      samples: samples.map(({ at, gateways, counts }) => ({ at: iso(at), gateways, ...shown(counts) })),
      events: events.map((event) => ({ ...event, at: iso(event.at) })),
    }
    return answer
  })
}

function shown(counts: ArrayLike<number>): Omit<HistorySample, 'at' | 'gateways'> {
  const [ok = 0, client_error = 0, limited = 0, server_error = 0, shed = 0, without_store = 0] =
    Array.from(counts)
  const durations = Array.from(counts).slice(COUNTED.length)
  const at = (share: number) => quantile(DURATIONS_MS, durations, share)
  return {
    responses: { ok, client_error, limited, server_error },
    shed,
    without_store,
    p50_ms: at(0.5),
    p95_ms: at(0.95),
    p99_ms: at(0.99),
  }
}

/**
 * Returns a quantile of a histogram in ms, interpolated linearly in its bucket; null when nothing was counted. Above
 * the last bound, returns that bound.
 *
 * @param share from 0 to 1
 */
export function quantile(bounds: readonly number[], counts: readonly number[], share: number): number | null {
  const total = counts.reduce((sum, count) => sum + count, 0)
  if (total === 0) return null
  let left = share * total
  for (const [i, bound] of bounds.entries()) {
    const count = counts[i]!
    if (left <= count && count > 0) {
      const below = i === 0 ? 0 : bounds[i - 1]!
      return Number((below + ((bound - below) * left) / count).toPrecision(3))
    }
    left -= count
  }
  return bounds.at(-1)!
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}
