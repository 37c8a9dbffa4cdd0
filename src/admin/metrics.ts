import type { FastifyInstance } from 'fastify'
import type { AdminDeps } from './deps.js'

export function metricsRoutes(app: FastifyInstance, deps: Pick<AdminDeps, 'metrics'>): void {
  app.get('/metrics', async (_request, reply) => {
    reply.type('text/plain; version=0.0.4; charset=utf-8')
    return deps.metrics.scrape()
  })
}
