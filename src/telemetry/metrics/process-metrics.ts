import { collectDefaultMetrics, Registry } from 'prom-client'

/**
 * Gauges that prom-client names `…_total`, a suffix that Prometheus keeps for counters; `nodejs_active_resources` has
 * the same data.
 */
const MISNAMED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
]

let registry: Registry | undefined

/**
 * Returns the metrics of the process: memory, CPU, event loop, garbage collection. All gateways of a process share them:
 * prom-client never ends what it measures with, 370 kB each time.
 */
export function processMetrics(): Registry {
  if (registry === undefined) {
    registry = new Registry()
    collectDefaultMetrics({ register: registry })
    for (const name of MISNAMED) registry.removeSingleMetric(name)
  }
  return registry
}
