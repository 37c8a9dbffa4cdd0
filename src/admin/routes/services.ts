import type { FastifyInstance } from 'fastify'
import { reuse } from '../../common/reuse.js'
import { type LimitData, limitData, limitText } from '../../config/snapshot/limit.js'
import type { Policy } from '../../config/snapshot/policy.js'
import { type RouteData, routeData } from '../../config/snapshot/route-data.js'
import type { Route, Service, Snapshot } from '../../config/snapshot/snapshot.js'
import type { DecisionCounts, LimitCounts } from '../../telemetry/metrics/overview.js'
import { refuse } from '../access/problem.js'
import type { AdminDeps } from '../deps.js'
import { type QueryOf, readQuery } from './read-request.js'

/** Response of `GET /services`. */
export interface ServicesAnswer {
  readonly services: readonly ServiceData[]
  /** Number of routes that match. */
  readonly total: number
  /** Value of `after` for the next page; null: this is the last. */
  readonly next: string | null
}

export interface ServiceData {
  readonly service: string
  /** Number of its upstreams. */
  readonly upstreams: number
  readonly on_failure: Service['onFailure']
  readonly maintenance: boolean
  readonly tiers: readonly TierLimits[]
  readonly routes: readonly (RouteData & { readonly hosts: readonly string[] })[]
}

interface TierLimits {
  readonly tier: string
  readonly default: boolean
  readonly unlimited: boolean
  readonly limits: readonly CountedLimit[]
  readonly candidates?: readonly CountedLimit[]
}

/** A limit with the decisions that it was binding for, in this gateway since its start. */
interface CountedLimit extends LimitData {
  /** As a person would write it: `10/min by tenant`. */
  readonly text: string
  readonly decisions: DecisionCounts
}

/** Ms for which counts are reused: those of the next page are of the same moment. */
const GOOD_FOR = 1000
/** Most routes in a response. A service without routes counts as one. */
const PAGE = 100
const LONGEST_MATCH = 200
const KEYS = ['match', 'after'] as const
const NO_DECISIONS: DecisionCounts = { allowed: 0, near: 0, denied: 0 }

/** Adds the route that shows services with the limits of each tier, and the routes that lead to them. */
export function serviceRoutes(app: FastifyInstance, deps: Pick<AdminDeps, 'config' | 'metrics'>): void {
  const readCounts = reuse(GOOD_FOR, async () => countsByName(await deps.metrics.limitCounts()))

  app.get<QueryOf>('/services', async (request) => {
    const { match = '', after = '0' } = readQuery(request.query, KEYS)
    if (match.length > LONGEST_MATCH) refuse('bad_request', `match has at most ${LONGEST_MATCH} characters.`)
    if (!/^\d{1,9}$/.test(after)) refuse('bad_request', 'after is the value of next in the page before.')
    const snapshot = deps.config.current()
    const pairs = pairsOf(snapshot, match.toLowerCase())
    const start = Number(after)
    const page = pairs.slice(start, start + PAGE)
    const counts = await readCounts(null)
    const answer: ServicesAnswer = {
      services: [...new Set(page.map(({ service }) => service))].map((service) => ({
        ...shown(snapshot, service, counts),
        routes: page.flatMap((pair) =>
          pair.service === service && pair.route !== undefined
            ? [{ hosts: pair.route.hosts, ...routeData(snapshot.config, pair.route) }]
            : [],
        ),
      })),
      total: pairs.reduce((sum, { route }) => sum + (route === undefined ? 0 : 1), 0),
      next: start + PAGE < pairs.length ? String(start + PAGE) : null,
    }
    return answer
  })
}

interface Pair {
  readonly service: Service
  readonly route: Route | undefined
}

/**
 * Pairs each service with each route that leads to it, in the order of the file.
 *
 * @param match text in lower case that is in the name of the service or in host and path of the route
 */
function pairsOf({ services, routes, config }: Snapshot, match: string): readonly Pair[] {
  const leading = new Map<string, Route[]>(services.map(({ name }) => [name, []]))
  for (const route of routes) {
    const { service, split = [{ service }] } = config.routes[route.index]!
    for (const name of new Set(split.map(({ service }) => service))) leading.get(name ?? '')?.push(route)
  }
  return services.flatMap((service): readonly Pair[] => {
    const all = leading.get(service.name)!
    const isNamed = service.name.toLowerCase().includes(match)
    const found = isNamed ? all : all.filter(({ label }) => label.toLowerCase().includes(match))
    return isNamed && all.length === 0
      ? [{ service, route: undefined }]
      : found.map((route) => ({ service, route }))
  })
}

type Counts = ReadonlyMap<string, DecisionCounts>

function countsByName(counts: readonly LimitCounts[]): Counts {
  return new Map(counts.map((one) => [keyOf(one.service, one.tier, one.limit, one.candidate), one.decisions]))
}

function keyOf(service: string, tier: string, limit: string, candidate: boolean): string {
  return JSON.stringify([service, tier, limit, candidate])
}

function shown({ tiers, defaultTier }: Snapshot, service: Service, counts: Counts) {
  const { name, upstreams, onFailure, maintenance, policies } = service
  const limitsIn = (policy: Policy, tier: string, candidate: boolean): CountedLimit[] =>
    policy.limits.map((limit) => ({
      ...limitData(limit),
      text: limitText(limit),
      decisions: counts.get(keyOf(name, tier, limit.name, candidate)) ?? NO_DECISIONS,
    }))
  return {
    service: name,
    upstreams: upstreams.length,
    on_failure: onFailure,
    maintenance: maintenance !== undefined,
    tiers: tiers.map((tier, i) => {
      const policy = policies[i]
      return {
        tier,
        default: i === defaultTier,
        unlimited: policy === undefined,
        limits: policy === undefined ? [] : limitsIn(policy, tier, false),
        ...(policy?.candidate && { candidates: limitsIn(policy.candidate, tier, true) }),
      }
    }),
  }
}
