import type { FastifyInstance } from 'fastify'
import { reuse } from '../../common/reuse.js'
import { limitConcurrency } from '../../common/wait.js'
import { createHoursOfAll } from '../../metering/all-gateways-hours.js'
import { createDenialsOfAll } from '../../telemetry/decisions/all-gateways-denials.js'
import type { Standing } from '../../telemetry/decisions/standing.js'
import { ProblemError, refuse } from '../access/problem.js'
import type { AdminDeps } from '../deps.js'
import { bansOf } from './bans.js'
import { createKeyList } from './keys.js'
import { createAmountList } from './overrides.js'
import { checkId, isoOf, type QueryOf, readQuery } from './read-request.js'
import { tierPart } from './tier-of.js'
import { createUsage } from './usage.js'

interface ConsumerOf extends QueryOf {
  readonly Params: { readonly id: string }
}

/** Most services in a response, in the order of the configuration. */
const MOST_SERVICES = 100
/** Services whose counts are read at the same time. */
const AT_ONCE = 20
const MOST_KEYS = 100
/** Ms for which the answers of other gateways are reused. They keep the hours of a consumer for 30 s themselves. */
const GOOD_FOR = { denials: 1000, hours: 10_000 }
/** Least ms between two questions: with those for credentials, `/top` and `/history`, nine a second at most. */
const APART = { denials: 550, hours: 550 }

/** Adds the route that answers, at once, what a support desk asks about a consumer. */
export function consumerRoutes(
  app: FastifyInstance,
  deps: Pick<AdminDeps, 'config' | 'store' | 'ask' | 'standing' | 'log'>,
): void {
  const { usageOf } = createUsage(deps)
  const amounts = createAmountList(deps)
  const keys = createKeyList(deps)
  const fleet = () => deps.store().fleet
  const denialsOf = reuse(GOOD_FOR.denials, createDenialsOfAll(fleet, deps.ask), APART.denials)
  const hoursOf = reuse(GOOD_FOR.hours, createHoursOfAll(fleet, deps.ask), APART.hours)

  async function servicesOf(standing: Standing): Promise<object[]> {
    const limited = limitConcurrency(AT_ONCE)
    const services = deps.config.current().services.slice(0, MOST_SERVICES)
    return Promise.all(
      services.map(async (service) => ({
        service: service.name,
        ...(await limited(() => usageOf(service, standing))),
      })),
    )
  }

  /** Lists the boosts or overrides of a consumer and of its tenant. */
  async function amountsOf(kind: 'boost' | 'override', { consumer, tenant }: Standing): Promise<object[]> {
    const lists = [amounts.list(kind, { consumer })]
    if (tenant !== undefined) lists.push(amounts.list(kind, { tenant }))
    return (await Promise.all(lists)).flatMap((list) => list.amounts)
  }

  app.get<ConsumerOf>('/consumers/:id', async (request) => {
    const { id } = request.params
    checkId(id)
    const { tenant } = readQuery(request.query, ['tenant'])
    const snapshot = deps.config.current()
    const standing = await deps.standing({ consumer: id, tenant, polled: true })
    const { consumer, byAddress, assigned } = standing
    const problems: Record<string, string> = {}
    /** Reads a part. The other parts are shown even if this one cannot be read. */
    async function part<T>(name: string, work: () => T | Promise<T>): Promise<T | null> {
      try {
        return await work()
      } catch (error) {
        if (!(error instanceof ProblemError)) deps.log.error({ err: error, part: name }, FAILED)
        problems[name] = error instanceof ProblemError ? error.problem.detail : "The gateway's log says why."
        return null
      }
    }
    const [services, boosts, overrides, found, denied, used] = await Promise.all([
      part('services', () => servicesOf(standing)),
      part('boosts', () => amountsOf('boost', standing)),
      part('overrides', () => amountsOf('override', standing)),
      part('keys', () => keys.list(consumer, undefined, MOST_KEYS)),
      part('denials', () => denialsOf(consumer)),
      part('hours', () =>
        byAddress && snapshot.config.metering?.addresses === false
          ? refuse('unprocessable', 'All addresses are metered as one: see metering.addresses.')
          : hoursOf(consumer),
      ),
    ])
    return {
      consumer,
      by_address: byAddress,
      tenant: standing.tenant ?? null,
      ...tierPart(snapshot, standing),
      assigned: assigned?.tier ?? null,
      until: isoOf(assigned?.until),
      tiers: snapshot.tiers,
      services,
      services_left_out: Math.max(0, snapshot.services.length - MOST_SERVICES),
      boosts,
      overrides,
      keys: found?.keys.slice(0, MOST_KEYS) ?? null,
      more_keys: found !== null && (found.more || found.keys.length > MOST_KEYS),
      bans: byAddress ? await part('bans', () => bansOf(deps.store().bans.map, consumer)) : [],
      denials: denied?.denials ?? null,
      nodes: denied?.nodes ?? null,
      hours: used?.hours ?? null,
      hours_since: used?.since ?? null,
      hours_nodes: used?.nodes ?? null,
      problems,
    }
  })
}

const FAILED = 'the admin API could not read a part of what is known about a consumer'
