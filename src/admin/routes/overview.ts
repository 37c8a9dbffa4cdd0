import type { FastifyInstance } from 'fastify'
import { reuse } from '../../common/reuse.js'
import type { AdminDeps } from '../deps.js'

/** Ms for which counts are reused: any number of people may look. */
const GOOD_FOR = 500

/** Adds the route that returns the state of this gateway in one response, for the page and other clients. */
export function overviewRoutes(
  app: FastifyInstance,
  deps: Pick<AdminDeps, 'config' | 'store' | 'metrics' | 'ready'>,
): void {
  const readTraffic = reuse(GOOD_FOR, async () => {
    const traffic = await deps.metrics.traffic()
    return { at: new Date().toISOString(), traffic }
  })

  app.get('/overview', async () => {
    const { at, traffic: all } = await readTraffic(null)
    const { degraded, extensionErrors, ...traffic } = all
    const names = [...deps.config.current().extensions.keys()]
    const { reloads: _, ...config } = deps.config.status()
    const { ready, reasons } = await deps.ready()
    return {
      at,
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
}
