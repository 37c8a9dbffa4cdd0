import { FrozenMap, MapRefusal } from '../fleet/replicated-map.js'
import { ProblemError, refuse } from './access/problem.js'
import type { AdminLog } from './deps.js'

/**
 * Runs what needs the store. Ends the request if the store does not respond, or refuses a value. The message of the
 * store, perhaps with an address, goes only to the log.
 *
 * @param attempt completes "Could not …"
 */
export async function withStore<T>(log: AdminLog, attempt: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof ProblemError) throw error
    if (error instanceof MapRefusal) refuse('unprocessable', `Could not ${attempt}: ${error.message}.`)
    if (error instanceof FrozenMap) refuse('store_frozen', `Could not ${attempt}: ${error.message}.`)
    log.warn({ err: error }, `the admin API could not ${attempt}: the store is out of reach`)
    const unknown = /^(list|read) /.test(attempt) ? '' : ' Whether anything changed is unknown.'
    return refuse(
      'store_unavailable',
      `Could not ${attempt}: the store is out of reach.${unknown} Check store in the configuration, then try again.`,
    )
  }
}
