import type { FastifyInstance } from 'fastify'
import type { Assignment } from '../../limiter/limiter.js'
import { refuse } from '../access/problem.js'
import { FOR_SUPPORT } from '../access/roles.js'
import type { AdminDeps } from '../deps.js'
import { withStore } from '../store-down.js'
import { bodyWith, checkId, checkTier, endOf, isoOf, listed } from './read-request.js'
import { tierPart } from './tier-of.js'

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

  app.get<TierOf>('/consumers/:id/tier', async ({ params: { id } }) => {
    checkId(id)
    return shown(id)
  })

  app.put<TierOf>('/consumers/:id/tier', FOR_SUPPORT, async (request) => {
    const { id } = request.params
    checkId(id)
    const snapshot = deps.config.current()
    const { tier, for: period } = bodyWith(request.body, ['tier', 'for']) ?? {}
    if (typeof tier !== 'string') {
      return refuse(
        'bad_request',
        `Send {"tier":"…"} as JSON, with "for":"2h" if it is to end by itself; the tiers are ${listed(snapshot.tiers)}.`,
      )
    }
    const until = endOf(period)
    checkTier(snapshot, tier)
    await withStore(deps.log, 'set the tier', async () => {
      const before = assignmentBody(await deps.store().assignments.read(id))
      await deps.store().assignments.set(id, tier, until)
      const after = assignmentBody({ tier, until })
      await deps.audit.record(request, { action: 'tier.set', target: id, before, after })
    })
    return shown(id, { tier, until })
  })

  app.delete<TierOf>('/consumers/:id/tier', FOR_SUPPORT, async (request) => {
    const { id } = request.params
    checkId(id)
    await withStore(deps.log, 'remove the assignment', async () => {
      const before = assignmentBody(await deps.store().assignments.read(id))
      await deps.store().assignments.set(id, undefined)
      await deps.audit.record(request, { action: 'tier.remove', target: id, before })
    })
    return shown(id, 'none')
  })
}

/** Returns the name of the tier, with its end if it has one, for the audit log. */
export function assignmentBody(assigned: Assignment | undefined): unknown {
  return assigned?.until === undefined
    ? assigned?.tier
    : { tier: assigned.tier, until: isoOf(assigned.until) }
}
