import type { FastifyInstance } from 'fastify'
import type { Assignment } from '../../limiter/limiter.js'
import { sendProblem } from '../access/problem.js'
import { FOR_SUPPORT } from '../access/roles.js'
import type { AdminDeps } from '../deps.js'
import { storeDown } from '../store-down.js'
import { consumerProblem } from './consumer-id.js'
import { bodyWith, periodOf } from './expiry.js'
import { isoOf, listed, tierPart } from './tier-of.js'

interface TierOf {
  readonly Params: { readonly id: string }
  readonly Body: unknown
}

/** Adds the routes that assign a tier to a consumer. A change takes effect on every gateway within a second. */
export function tierRoutes(
  app: FastifyInstance,
  deps: Pick<AdminDeps, 'config' | 'store' | 'standing' | 'audit' | 'log'>,
): void {
  /**
   * Shows the tier of a consumer.
   *
   * @param assigned if left out, the assignment that the gateway has
   */
  async function shown(consumer: string, assigned?: Assignment | 'none'): Promise<object> {
    const standing = await deps.standing({ consumer, assigned })
    return {
      consumer,
      assigned: standing.assigned?.tier ?? null,
      until: isoOf(standing.assigned?.until),
      ...tierPart(deps.config.current(), standing),
    }
  }

  app.get<TierOf>('/consumers/:id/tier', async (request, reply) => {
    const { id } = request.params
    const bad = consumerProblem(id)
    if (bad !== undefined) return sendProblem(reply, bad)
    return shown(id)
  })

  app.put<TierOf>('/consumers/:id/tier', FOR_SUPPORT, async (request, reply) => {
    const { id } = request.params
    const bad = consumerProblem(id)
    if (bad !== undefined) return sendProblem(reply, bad)
    const { tiers } = deps.config.current()
    const { tier, for: period } = bodyWith(request.body, ['tier', 'for']) ?? {}
    if (typeof tier !== 'string') {
      const detail = `Send {"tier":"…"}, with "for":"2h" when it ends by itself, and nothing else, as JSON; the tiers are ${listed(tiers)}.`
      return sendProblem(reply, { code: 'bad_request', detail })
    }
    const ms = periodOf(period)
    if (typeof ms === 'object') return sendProblem(reply, ms)
    if (!tiers.includes(tier)) {
      const detail = `No tier ${JSON.stringify(tier)}; the tiers are ${listed(tiers)}.`
      return sendProblem(reply, { code: 'unprocessable', detail })
    }
    const until = ms === undefined ? undefined : Date.now() + ms
    try {
      const before = tierTold(await deps.store().assignments.read(id))
      await deps.store().assignments.set(id, tier, until)
      await deps.audit.record(request, {
        action: 'tier.set',
        target: id,
        before,
        after: tierTold({ tier, until }),
      })
    } catch (error) {
      return sendProblem(reply, storeDown(deps.log, error, 'set the tier'))
    }
    return shown(id, { tier, until })
  })

  app.delete<TierOf>('/consumers/:id/tier', FOR_SUPPORT, async (request, reply) => {
    const { id } = request.params
    const bad = consumerProblem(id)
    if (bad !== undefined) return sendProblem(reply, bad)
    try {
      const before = tierTold(await deps.store().assignments.read(id))
      await deps.store().assignments.set(id, undefined)
      await deps.audit.record(request, { action: 'tier.remove', target: id, before })
    } catch (error) {
      return sendProblem(reply, storeDown(deps.log, error, 'remove the assignment'))
    }
    return shown(id, 'none')
  })
}

/** Returns the name of the tier, with its end if it has one, for the audit log. */
export function tierTold(assigned: Assignment | undefined): unknown {
  return assigned?.until === undefined
    ? assigned?.tier
    : { tier: assigned.tier, until: isoOf(assigned.until) }
}
