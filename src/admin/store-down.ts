import { MapRefusal } from '../fleet/replicated-map.js'
import type { Problem } from './access/problem.js'
import type { AdminLog } from './deps.js'

/** The refusal for a store that did not answer, or that does not take so much. What it said, an address perhaps, goes to the log only. */
export function storeDown(log: AdminLog, error: unknown, attempt: string): Problem {
  if (error instanceof MapRefusal)
    return { code: 'unprocessable', detail: `Could not ${attempt}: ${error.message}.` }
  log.warn({ err: error }, `the admin API could not ${attempt}: the store is out of reach`)
  return {
    code: 'store_unavailable',
    detail: `Could not ${attempt}: the store is out of reach. Nothing is known to have changed; check store in the configuration, then try again.`,
  }
}
