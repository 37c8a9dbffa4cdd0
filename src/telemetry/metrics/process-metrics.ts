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

/** Creates the metrics of the process: memory, CPU, event loop, garbage collection. */
export function createProcessMetrics(): Registry {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  for (const name of MISNAMED) registry.removeSingleMetric(name)
  return registry
}
