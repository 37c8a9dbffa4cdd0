import type { FastifyInstance } from 'fastify'
import type { AdminDeps } from './deps.js'
import { sendProblem } from './problem.js'

/** What configuration is in force, and the order to read it again. `status` holds no secrets: `config/reload.ts` sees to it. */
export function configRoutes(app: FastifyInstance, deps: Pick<AdminDeps, 'config' | 'log'>): void {
  app.get('/config', async () => deps.config.status())

  app.post('/config/reload', async (_request, reply) => {
    const { result, messages } = await deps.config.reload('admin')
    if (result !== 'rejected') return { result, ...deps.config.status() }
    const detail =
      'The new configuration has errors; the one that was in force still is. Correct them and reload again.'
    return sendProblem(reply, { code: 'unprocessable', detail, more: { result, messages } })
  })
}
