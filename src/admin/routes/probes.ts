import type { FastifyInstance } from 'fastify'
import type { AdminDeps } from '../deps.js'

/** Served without a token; the public keys are no secret. */
export const PROBES: ReadonlySet<string> = new Set(['/healthz', '/readyz', '/jwks.json'])

/** Tells whether a request is one that the last connections of the admin port are kept for. */
export function isProbeOrScrape(url: string | undefined): boolean {
  return url === '/healthz' || url === '/readyz' || url === '/metrics'
}

/**
 * `/healthz`: the process lives and its event loop turns. `/readyz`: it should be given traffic. A store that is out of
 * reach is told but leaves the gateway ready: traffic goes on without it, and 503 would take every node out at once.
 */
export function probeRoutes(app: FastifyInstance, deps: Pick<AdminDeps, 'ready' | 'limiter'>): void {
  app.get('/healthz', async () => ({ status: 'ok' }))

  app.get('/readyz', async (_request, reply) => {
    const { ready, reasons } = await deps.ready()
    reply.code(ready ? 200 : 503)
    return { status: ready ? 'ready' : 'not_ready', store: deps.limiter.state(), reasons }
  })
}
