import type { FastifyInstance, FastifyReply } from 'fastify'
import { limitData } from '../config/limit.js'
import type { Policy, Service } from '../config/snapshot.js'
import type { LimitUsage } from '../limiter/limiter.js'
import { consumerProblem } from './consumer-id.js'
import type { AdminDeps } from './deps.js'
import { sendProblem } from './problem.js'
import { FOR_SUPPORT } from './roles.js'
import { storeDown } from './store-down.js'
import { findTier, listed } from './tier-of.js'

interface UsageOf {
  readonly Params: { readonly service: string; readonly consumer: string }
  readonly Querystring: { readonly tier?: string | readonly string[] }
}

export function usageRoutes(
  app: FastifyInstance,
  deps: Pick<AdminDeps, 'config' | 'limiter' | 'assignments' | 'plans' | 'audit' | 'log'>,
): void {
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
    try {
      const assigned = await deps.assignments.read(consumer)
      const { tier, from, stale = false } = await findTier(deps, consumer, assigned, asked)
      const policy = service.policies[tier]
      const usageOf = (of: Policy | undefined) =>
        of === undefined ? [] : deps.limiter.usage(service, of, consumer)
      const [limits, candidates] = await Promise.all([usageOf(policy), usageOf(policy?.candidate)])
      const notShown = policy?.limits.filter((limit) => !limits.some((one) => one.limit === limit)) ?? []
      return {
        service: service.name,
        consumer,
        tier: snapshot.tiers[tier],
        tier_from: from,
        ...(stale && { tier_stale: true }),
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
      const { tier } = await findTier(deps, consumer, await deps.assignments.read(consumer))
      const policy = service.policies[tier]
      const used = policy === undefined ? [] : await deps.limiter.usage(service, policy, consumer)
      const before = Object.fromEntries(used.map(({ limit, used }) => [limit.name, used]))
      await deps.limiter.reset(service, consumer)
      const target = `${service.name}/${consumer}`
      await deps.audit.record(request, { action: 'usage.reset', target, before })
    } catch (error) {
      return sendProblem(reply, storeDown(deps.log, error, 'reset the usage'))
    }
    return { service: service.name, consumer, reset: true }
  })
}

function shown({ limit, used, remaining, resetMs }: LimitUsage): object {
  return { ...limitData(limit), used, remaining, reset_ms: resetMs }
}

function unknownService(reply: FastifyReply, name: string, services: readonly Service[]): FastifyReply {
  const detail = `No service ${JSON.stringify(name)}; the services are ${listed(services.map((service) => service.name))}.`
  return sendProblem(reply, { code: 'not_found', detail })
}
