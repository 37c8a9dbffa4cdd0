import type { FastifyInstance } from 'fastify'
import { consumerProblem } from './consumer-id.js'
import type { AdminDeps } from './deps.js'
import { sendProblem } from './problem.js'
import { FOR_SUPPORT } from './roles.js'
import { storeDown } from './store-down.js'
import { findTier, listed } from './tier-of.js'

interface TierOf {
  readonly Params: { readonly id: string }
  readonly Body: unknown
}

/** Which tier an operator has put a consumer on. A change holds on every node within a second. */
export function tierRoutes(
  app: FastifyInstance,
  deps: Pick<AdminDeps, 'config' | 'assignments' | 'plans' | 'audit' | 'log'>,
): void {
  async function shown(consumer: string, assigned: string | undefined): Promise<object> {
    const { tiers } = deps.config.current()
    const { tier, from, stale = false } = await findTier(deps, consumer, assigned)
    return {
      consumer,
      assigned: assigned ?? null,
      tier: tiers[tier],
      tier_from: from,
      ...(stale && { tier_stale: true }),
    }
  }

  app.get<TierOf>('/consumers/:id/tier', async (request, reply) => {
    const { id } = request.params
    const bad = consumerProblem(id)
    if (bad !== undefined) return sendProblem(reply, bad)
    try {
      return await shown(id, await deps.assignments.read(id))
    } catch (error) {
      return sendProblem(reply, storeDown(deps.log, error, 'read the assignment'))
    }
  })

  app.put<TierOf>('/consumers/:id/tier', FOR_SUPPORT, async (request, reply) => {
    const { id } = request.params
    const bad = consumerProblem(id)
    if (bad !== undefined) return sendProblem(reply, bad)
    const { tiers } = deps.config.current()
    const tier = tierIn(request.body)
    if (tier === undefined) {
      const detail = `Send {"tier":"…"} and nothing else, as JSON; the tiers are ${listed(tiers)}.`
      return sendProblem(reply, { code: 'bad_request', detail })
    }
    if (!tiers.includes(tier)) {
      const detail = `No tier ${JSON.stringify(tier)}; the tiers are ${listed(tiers)}.`
      return sendProblem(reply, { code: 'unprocessable', detail })
    }
    try {
      const before = await deps.assignments.read(id)
      await deps.assignments.set(id, tier)
      await deps.audit.record(request, { action: 'tier.set', target: id, before, after: tier })
    } catch (error) {
      return sendProblem(reply, storeDown(deps.log, error, 'set the tier'))
    }
    return shown(id, tier)
  })

  app.delete<TierOf>('/consumers/:id/tier', FOR_SUPPORT, async (request, reply) => {
    const { id } = request.params
    const bad = consumerProblem(id)
    if (bad !== undefined) return sendProblem(reply, bad)
    try {
      const before = await deps.assignments.read(id)
      await deps.assignments.set(id, undefined)
      await deps.audit.record(request, { action: 'tier.remove', target: id, before })
    } catch (error) {
      return sendProblem(reply, storeDown(deps.log, error, 'remove the assignment'))
    }
    return shown(id, undefined)
  })
}

function tierIn(body: unknown): string | undefined {
  if (typeof body !== 'object' || body === null || Object.keys(body).length !== 1 || !('tier' in body))
    return undefined
  return typeof body.tier === 'string' ? body.tier : undefined
}
