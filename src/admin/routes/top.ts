import type { FastifyInstance } from 'fastify'
import { createTopOfAll, type TopOfAll } from '../../telemetry/top/all-gateways-top.js'
import { type TopRow, topRows } from '../../telemetry/top/merge.js'
import { DIMENSIONS, type Dimension } from '../../telemetry/top/top.js'
import { type Problem, sendProblem } from '../access/problem.js'
import type { AdminDeps } from '../deps.js'
import { listed } from './tier-of.js'

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

interface TopOf {
  readonly Querystring: Readonly<Record<string, string | readonly string[] | undefined>>
}

const ROWS = 20
const MOST_ROWS = 100
const KEYS: readonly string[] = ['by', 'service', 'tier', 'n']

/**
 * Adds the route that lists the consumers that are limited now, near a limit, or cost most, on all gateways of the
 * store.
 */
export function topRoutes(app: FastifyInstance, deps: Pick<AdminDeps, 'config' | 'store' | 'ask'>): void {
  const find = createTopOfAll(() => deps.store().fleet, deps.ask)

  app.get<TopOf>('/top', async (request, reply) => {
    const asked = read(request.query, deps.config.current())
    if ('code' in asked) return sendProblem(reply, asked)
    const { by, service, tier, n } = asked
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

function read(
  query: TopOf['Querystring'],
  { services, tiers }: ReturnType<AdminDeps['config']['current']>,
): Asked | Problem {
  const bad = (detail: string): Problem => ({ code: 'bad_request', detail })
  for (const [key, value] of Object.entries(query)) {
    if (!KEYS.includes(key)) return bad(`No parameter ${JSON.stringify(key)}; there are ${listed(KEYS)}.`)
    if (typeof value !== 'string') return bad(`Give ${key} once.`)
  }
  const { by = 'limited', service, tier, n = String(ROWS) } = query as Partial<Record<string, string>>
  if (!(DIMENSIONS as readonly string[]).includes(by)) return bad(`by is one of ${listed(DIMENSIONS)}.`)
  if (!/^[1-9]\d{0,2}$/.test(n) || Number(n) > MOST_ROWS)
    return bad(`n is a number of rows, 1 to ${MOST_ROWS}.`)
  const names = services.map(({ name }) => name)
  if (service !== undefined && !names.includes(service)) {
    const detail = `No service ${JSON.stringify(service)}; the services are ${listed(names)}.`
    return { code: 'not_found', detail }
  }
  if (tier !== undefined && !tiers.includes(tier)) {
    return {
      code: 'unprocessable',
      detail: `No tier ${JSON.stringify(tier)}; the tiers are ${listed(tiers)}.`,
    }
  }
  return { by: by as Dimension, service, tier, n: Number(n) }
}
