import type { FastifyInstance, FastifyReply } from 'fastify'
import { limitData } from '../../config/snapshot/limit.js'
import { forTenant, type Limit, type Policy, type Service } from '../../config/snapshot/snapshot.js'
import type { LimitUsage } from '../../limiter/limiter.js'
import { isAddressKey } from '../../net/address-key.js'
import { sendProblem } from '../access/problem.js'
import { FOR_SUPPORT } from '../access/roles.js'
import type { AdminDeps } from '../deps.js'
import { storeDown } from '../store-down.js'
import { consumerProblem } from './consumer-id.js'
import { credentialTenant, findTier, isoOf, listed } from './tier-of.js'

interface UsageOf {
  readonly Params: { readonly service: string; readonly consumer: string }
  readonly Querystring: {
    readonly tier?: string | readonly string[]
    readonly tenant?: string | readonly string[]
  }
}

export function usageRoutes(
  app: FastifyInstance,
  deps: Pick<
    AdminDeps,
    'config' | 'limiter' | 'assignments' | 'amounts' | 'keys' | 'plans' | 'audit' | 'log'
  >,
): void {
  /** Where it is not known whose a consumer is, the limits of a tenant are named. */
  function policyOf(
    service: Service,
    ofTier: Policy | undefined,
    consumer: string,
    tenant: string | undefined,
  ): Policy | undefined {
    if (ofTier === undefined) return undefined
    const own = tenant === undefined ? ofTier : forTenant(ofTier, tenant)
    return deps.amounts.policyFor(service, own, consumer, tenant)
  }

  app.get<UsageOf>('/usage/:service/:consumer', async (request, reply) => {
    const snapshot = deps.config.current()
    const { consumer } = request.params
    const service = snapshot.services.find(({ name }) => name === request.params.service)
    if (service === undefined) return unknownService(reply, request.params.service, snapshot.services)
    const bad = consumerProblem(consumer)
    if (bad !== undefined) return sendProblem(reply, bad)
    const asked = request.query.tier
    if (asked !== undefined && (typeof asked !== 'string' || !snapshot.tiers.includes(asked))) {
      const detail = `No tier of that name; the tiers are ${listed(snapshot.tiers)}.`
      return sendProblem(reply, { code: 'unprocessable', detail })
    }
    const { tenant = credentialTenant(snapshot, consumer) } = request.query
    if (tenant !== undefined && typeof tenant !== 'string') {
      return sendProblem(reply, { code: 'bad_request', detail: 'One tenant at a time.' })
    }
    try {
      const assigned = await deps.assignments.read(consumer)
      const { tier, from, stale = false, notes = [] } = await findTier(deps, consumer, assigned?.tier, asked)
      const policy = policyOf(service, service.policies[tier], consumer, tenant)
      const byAddress = isAddressKey(consumer)
      const levels =
        tenant === undefined && !byAddress ? undefined : { ip: consumer, tenant, route: '', byAddress }
      const usageOf = async (of: Policy | undefined) =>
        of === undefined
          ? []
          : (await deps.limiter.usage(service, of, consumer, levels)).filter(({ limit }) => isKnown(limit))
      const [limits, candidates] = await Promise.all([usageOf(policy), usageOf(policy?.candidate)])
      const notShown =
        policy?.limits.filter(({ name }) => !limits.some((one) => one.limit.name === name)) ?? []
      return {
        service: service.name,
        consumer,
        ...(tenant === undefined ? {} : { tenant }),
        tier: snapshot.tiers[tier],
        tier_from: from,
        ...(stale && { tier_stale: true }),
        ...(notes.length > 0 && { tier_notes: notes }),
        ...(from === 'assignment' && assigned?.until !== undefined
          ? { tier_until: isoOf(assigned.until) }
          : {}),
        unlimited: policy === undefined,
        limits: limits.map(shown),
        ...(policy?.candidate === undefined ? {} : { candidates: candidates.map(shown) }),
        // Counted by an address, a tenant or a route, which a consumer's id does not tell.
        ...(notShown.length === 0 ? {} : { not_shown: notShown.map(({ name, by }) => ({ name, by })) }),
      }
    } catch (error) {
      return sendProblem(reply, storeDown(deps.log, error, 'read the usage'))
    }
  })

  app.delete<UsageOf>('/usage/:service/:consumer', FOR_SUPPORT, async (request, reply) => {
    const { services } = deps.config.current()
    const { consumer } = request.params
    const service = services.find(({ name }) => name === request.params.service)
    if (service === undefined) return unknownService(reply, request.params.service, services)
    const bad = consumerProblem(consumer)
    if (bad !== undefined) return sendProblem(reply, bad)
    try {
      const byAddress = isAddressKey(consumer)
      const assigned = await deps.assignments.read(consumer)
      const { tier } = await findTier(deps, consumer, assigned?.tier)
      const policy = service.policies[tier]
      const used =
        policy === undefined
          ? []
          : await deps.limiter.usage(service, policy, consumer, { ip: '', tenant: '', route: '', byAddress })
      const before = Object.fromEntries(used.map(({ limit, used }) => [limit.name, used]))
      await deps.limiter.reset(service, consumer, byAddress)
      const target = `${service.name}/${consumer}`
      await deps.audit.record(request, { action: 'usage.reset', target, before })
    } catch (error) {
      return sendProblem(reply, storeDown(deps.log, error, 'reset the usage'))
    }
    return { service: service.name, consumer, reset: true }
  })
}

/** A consumer's id, and a tenant's, do not lead to the count of an address or a route. */
const isKnown = ({ by }: Limit) => by !== 'ip' && by !== 'route'

function shown({ limit, used, remaining, resetMs }: LimitUsage): object {
  return { ...limitData(limit), used, remaining, reset_ms: resetMs }
}

function unknownService(reply: FastifyReply, name: string, services: readonly Service[]): FastifyReply {
  const detail = `No service ${JSON.stringify(name)}; the services are ${listed(services.map((service) => service.name))}.`
  return sendProblem(reply, { code: 'not_found', detail })
}
