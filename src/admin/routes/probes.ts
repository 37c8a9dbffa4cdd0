import type { FastifyInstance } from 'fastify'
import type { Question } from '../../fleet/question.js'
import type { AdminDeps } from '../deps.js'

/** Asks for the faults that do not stop a process from serving requests. */
export const FAULTS: Question<{ faults(): readonly string[] }, null, readonly string[]> = {
  name: 'outOfOrder',
  answer: ({ faults }) => faults(),
  merge: (answers) => answers.flat(),
  // The client of a probe waits a second at most: a worker that is too busy to answer is left out.
  timeoutMs: 200,
}

/** Paths served without a token; the public keys are not secret. */
export const PROBES: ReadonlySet<string> = new Set(['/healthz', '/readyz', '/jwks.json'])

/** Returns true for a request that may use the reserved connections of the admin port. */
export function isProbeOrScrape(url: string | undefined): boolean {
  return url === '/healthz' || url === '/readyz' || url === '/metrics'
}

/**
 * Adds `/healthz` (the process is alive and its event loop turns) and `/readyz` (the gateway should get traffic). An
 * unreachable store is reported but leaves the gateway ready: traffic goes on without it, and a 503 would take every
 * node out at once.
 */
export function probeRoutes(app: FastifyInstance, deps: Pick<AdminDeps, 'ready' | 'store'>): void {
  app.get('/healthz', async () => ({ status: 'ok' }))

  app.get('/readyz', async (_request, reply) => {
    const { ready, reasons } = await deps.ready()
    reply.code(ready ? 200 : 503)
    return { status: ready ? 'ready' : 'not_ready', store: deps.store().limiter.state(), reasons }
  })
}
