import type { FastifyInstance } from 'fastify'
import type { Snapshot } from '../../config/snapshot/snapshot.js'
import { createTopOfAll, type TopOfAll } from '../../telemetry/top/all-gateways-top.js'
import { type TopRow, topRows } from '../../telemetry/top/merge.js'
import { DIMENSIONS, type Dimension } from '../../telemetry/top/top.js'
import { refuse } from '../access/problem.js'
import type { AdminDeps } from '../deps.js'
import {
  checkTier,
  countIn,
  listed,
  type Query,
  type QueryOf,
  readQuery,
  serviceNamed,
} from './read-request.js'

/** Response of `GET /top`. */
export interface TopAnswer extends Pick<TopOfAll, 'nodes'> {
  readonly by: Dimension
  /** ISO 8601. */
  readonly from: string
  readonly to: string
  readonly total: number
  /** Highest value that a consumer without a row may have. */
  readonly floor: number
  readonly missed: number
  readonly rows: readonly (Omit<TopRow, 'since'> & { readonly since: string })[]
}

const ROWS = 20
const MOST_ROWS = 100
const KEYS = ['by', 'service', 'tier', 'n'] as const

/**
 * Adds the route that lists the consumers that are limited now, near a limit, or cost most, on all gateways of the
 * store.
 */
export function topRoutes(app: FastifyInstance, deps: Pick<AdminDeps, 'config' | 'store' | 'ask'>): void {
  const find = createTopOfAll(() => deps.store().fleet, deps.ask)

  app.get<QueryOf>('/top', async (request) => {
    const { by, service, tier, n } = read(request.query, deps.config.current())
    const { reading, nodes } = await find({ by, service, tier })
    const { total, floor, rows } = topRows(reading, n)
    const answer: TopAnswer = {
      by,
      from: new Date(reading.from).toISOString(),
      to: new Date(reading.to).toISOString(),
      nodes,
      total,
      floor,
      missed: reading.missed,
      rows: rows.map((row) => ({ ...row, since: new Date(row.since).toISOString() })),
    }
    return answer
  })
}

interface Asked {
  readonly by: Dimension
  readonly service: string | undefined
  readonly tier: string | undefined
  readonly n: number
}

function read(query: Query, snapshot: Snapshot): Asked {
  const { by = 'limited', service, tier, n = String(ROWS) } = readQuery(query, KEYS)
  if (!(DIMENSIONS as readonly string[]).includes(by))
    refuse('bad_request', `by is one of ${listed(DIMENSIONS)}.`)
  const count = countIn(n, 'rows', MOST_ROWS)
  if (service !== undefined) serviceNamed(snapshot, service)
  checkTier(snapshot, tier)
  return { by: by as Dimension, service, tier, n: count }
}
