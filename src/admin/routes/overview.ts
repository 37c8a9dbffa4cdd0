import type { FastifyInstance } from 'fastify'
import { reuse } from '../../common/reuse.js'
import type { AdminDeps } from '../deps.js'

/** Ms for which an answer is reused: any number of people may look. */
const GOOD_FOR = 500

/** Adds the route that returns the state of this gateway in one response, for the page and other clients. */
export function overviewRoutes(
  app: FastifyInstance,
  deps: Pick<AdminDeps, 'config' | 'store' | 'metrics' | 'ready'>,
): void {
  const read = reuse(GOOD_FOR, async () => {
    const { degraded, extensionErrors, ...traffic } = await deps.metrics.traffic()
    const names = [...deps.config.current().extensions.keys()]
    const { reloads: _, ...config } = deps.config.status()
    const { ready, reasons } = await deps.ready()
    return {
      at: new Date().toISOString(),
      node: deps.store().fleet.node,
      status: ready ? 'ready' : 'not_ready',
      store: degraded ? 'degraded' : deps.store().limiter.state(),
      reasons,
      config,
      ...(names.length > 0 && {
        extensions: names.map((name) => ({ name, errors: extensionErrors[name] ?? 0 })),
      }),
      traffic,
    }
  })
  app.get('/overview', () => read(null))
}
