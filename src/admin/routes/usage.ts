import type { FastifyInstance } from 'fastify'
import type { Limit } from '../../config/snapshot/limit.js'
import { limitData } from '../../config/snapshot/limit.js'
import { forTenant, type Policy } from '../../config/snapshot/policy.js'
import type { Service } from '../../config/snapshot/snapshot.js'
import { changedPolicy } from '../../fleet/overrides.js'
import type { DecidedBy, Levels, LimitUsage } from '../../limiter/limiter.js'
import type { Standing } from '../../telemetry/decisions/standing.js'
import { FOR_SUPPORT } from '../access/roles.js'
import type { AdminDeps } from '../deps.js'
import { withStore } from '../store-down.js'
import { checkId, checkTier, isoOf, type Query, readQuery, serviceNamed } from './read-request.js'
import { tierPart } from './tier-of.js'

interface UsageOf {
  readonly Params: { readonly service: string; readonly consumer: string }
  readonly Querystring: Query
}

/** Counts of a consumer's limits, as its next request would find them. */
interface Counts {
  readonly by: DecidedBy
  readonly limits: readonly LimitUsage[]
  readonly candidates: readonly LimitUsage[]
}

/** Creates what reads the limits of a consumer on a service, and their counts. */
export function createUsage(deps: Pick<AdminDeps, 'store' | 'log'>) {
  async function policyOf(service: Service, standing: Standing): Promise<Policy | undefined> {
    const { tier, consumer, tenant, byAddress } = standing
    const { amounts } = deps.store()
    const ofTier = service.policies[tier]
    if (ofTier === undefined) return undefined
    // If the tenant of a consumer is unknown, the limits of a tenant are listed by name.
    const own = isTenantKnown(standing) ? forTenant(ofTier, tenant) : ofTier
    return byAddress && !amounts.isWhole() ? own : changedPolicy(amounts, service, own, consumer, tenant)
  }

  async function countsOf(service: Service, policy: Policy, standing: Standing): Promise<Counts> {
    const { consumer } = standing
    const levels = levelsOf(standing)
    const read = async (of: Policy | undefined) =>
      of === undefined
        ? []
        : (await deps.store().limiter.usage(service, of, consumer, levels)).filter(({ limit }) =>
            isKnown(limit, standing),
          )
    try {
      const { decidedBy: by } = await deps.store().limiter.preview(service, policy, consumer, 1, levels)
      if (by === 'open' || by === 'closed') return { by, limits: [], candidates: [] }
      const [limits, candidates] = await Promise.all([read(policy), read(policy.candidate)])
      return { by, limits, candidates }
    } catch (error) {
      deps.log.warn({ err: error }, 'the admin API could not read the usage: the store is out of reach')
      return { by: service.onFailure, limits: [], candidates: [] }
    }
  }

  /** Shows the limits with their counts, as the next request of the consumer would find them. */
  async function usageOf(service: Service, standing: Standing) {
    const policy = await policyOf(service, standing)
    const { by, limits, candidates } =
      policy === undefined
        ? { by: 'store', limits: [], candidates: [] }
        : await countsOf(service, policy, standing)
    const notShown =
      policy?.limits.filter(({ name }) => !limits.some(({ limit }) => limit.name === name)) ?? []
    return {
      unlimited: policy === undefined,
      // The store is unreachable: the response says how the next request would be decided.
      ...(by !== 'store' && { decided_by: by }),
      limits: limits.map(shown),
      ...(policy?.candidate === undefined ? {} : { candidates: candidates.map(shown) }),
      // Counted by address, tenant or route, which the consumer's id does not determine; or not known anywhere.
      ...(notShown.length === 0 ? {} : { not_shown: notShown.map(({ name, by }) => ({ name, by })) }),
    }
  }

  return { policyOf, usageOf }
}

export function usageRoutes(
  app: FastifyInstance,
  deps: Pick<AdminDeps, 'config' | 'store' | 'standing' | 'audit' | 'log'>,
): void {
  const { policyOf, usageOf } = createUsage(deps)

  app.get<UsageOf>('/usage/:service/:consumer', async (request) => {
    const snapshot = deps.config.current()
    const { consumer } = request.params
    const service = serviceNamed(snapshot, request.params.service)
    checkId(consumer)
    const { tier } = request.query
    checkTier(snapshot, tier)
    const { tenant } = readQuery({ tenant: request.query.tenant }, ['tenant'])
    const standing = await deps.standing({ consumer, tier, tenant })
    const { assigned } = standing
    return {
      service: service.name,
      consumer: standing.consumer,
      ...(standing.tenant === undefined ? {} : { tenant: standing.tenant }),
      ...tierPart(snapshot, standing),
      ...(standing.from === 'assignment' && assigned?.until !== undefined
        ? { tier_until: isoOf(assigned.until) }
        : {}),
      ...(await usageOf(service, standing)),
    }
  })

  app.delete<UsageOf>('/usage/:service/:consumer', FOR_SUPPORT, async (request) => {
    const service = serviceNamed(deps.config.current(), request.params.service)
    checkId(request.params.consumer)
    const standing = await deps.standing({ consumer: request.params.consumer })
    const { consumer, byAddress } = standing
    await withStore(deps.log, 'reset the usage', async () => {
      const policy = await policyOf(service, standing)
      const { limiter } = deps.store()
      const used =
        policy === undefined ? [] : await limiter.usage(service, policy, consumer, levelsOf(standing))
      const own = used.filter(({ limit }) => limit.by === 'consumer')
      const before = Object.fromEntries(own.map(({ limit, used }) => [limit.name, used]))
      await limiter.reset(service, consumer, byAddress)
      const target = `${service.name}/${consumer}`
      await deps.audit.record(request, { action: 'usage.reset', target, before })
    })
    return { service: service.name, consumer, reset: true }
  })
}

/** Returns what else the next request of the consumer is counted under, as far as known. */
function levelsOf({ consumer, byAddress, tenant }: Standing): Levels {
  return { ip: byAddress ? consumer : '', tenant, route: '', byAddress }
}

function isTenantKnown({ tenant, identifiedBy }: Standing): boolean {
  return tenant !== undefined || identifiedBy !== undefined
}

/**
 * Returns true if the subject of a limit is known: a consumer's id does not determine an address, a route, or an
 * unknown tenant.
 */
function isKnown({ by }: Limit, standing: Standing): boolean {
  if (by === 'ip') return standing.byAddress
  return by === 'tenant' ? isTenantKnown(standing) : by !== 'route'
}

function shown({ limit, used, remaining, resetMs }: LimitUsage): object {
  return { ...limitData(limit), used, remaining, reset_ms: resetMs }
}
