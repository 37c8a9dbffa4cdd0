import { MapRefusal } from '../fleet/replicated-map.js'
import type { Problem } from './access/problem.js'
import type { AdminLog } from './deps.js'

/**
 * Returns the error for a store that did not respond, or that refuses so much. The message of the store, perhaps with
 * an address, goes only to the log.
 */
export function storeDown(log: AdminLog, error: unknown, attempt: string): Problem {
  if (error instanceof MapRefusal)
    return { code: 'unprocessable', detail: `Could not ${attempt}: ${error.message}.` }
  log.warn({ err: error }, `the admin API could not ${attempt}: the store is out of reach`)
  return {
    code: 'store_unavailable',
    detail: `Could not ${attempt}: the store is out of reach. Nothing is known to have changed; check store in the configuration, then try again.`,
  }
}
