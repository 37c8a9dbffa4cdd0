import type { FastifyInstance } from 'fastify'
import { refuse } from '../access/problem.js'
import type { AdminDeps } from '../deps.js'

/**
 * Adds the routes that show the configuration in force and that reload it. `status` holds no secrets:
 * `config/load/reload.ts` removes them.
 */
export function configRoutes(app: FastifyInstance, deps: Pick<AdminDeps, 'config' | 'audit'>): void {
  app.get('/config', async () => deps.config.status())

  app.post('/config/reload', async (request) => {
    const before = deps.config.current().hash
    const { result, messages } = await deps.config.reload('admin', request.actor.who)
    const after = deps.config.current().hash
    const { reloads: _, ...status } = deps.config.status()
    const changed = result === 'applied' ? status.changed : undefined
    await deps.audit.record(request, {
      action: 'config.reload',
      target: 'config',
      before: { hash: before },
      after: { hash: after, result, changed },
    })
    if (result !== 'rejected') return { result, ...status }
    return refuse(
      'unprocessable',
      'The new configuration has errors, so the old one stays in force. Correct the errors and reload again.',
      { result, messages },
    )
  })
}
