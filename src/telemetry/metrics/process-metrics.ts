import { collectDefaultMetrics, Registry } from 'prom-client'

/** Gauges that prom-client names `…_total`, which Prometheus keeps for counters; `nodejs_active_resources` says the same. */
const MISNAMED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
]

/** The process's own: memory, CPU, event loop, garbage collection. */
export function createProcessMetrics(): Registry {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  for (const name of MISNAMED) registry.removeSingleMetric(name)
  return registry
}
