import { askStore } from '../../limiter/redis/store-timeout.js'
import type { AdminStore } from '../deps.js'

/**
 * Timeout of the first load of all keys, in ms. Commands wait 5 s for a response, and would then report that no gateway
 * is running.
 */
const PATIENCE = 4500
/** Timeout in ms while the store is known to be down. */
const WHILE_AWAY = 1000

/** Resolves when all keys of the store are loaded. Rejects when the store is unreachable. */
export function keysHeld({ keys, limiter }: Pick<AdminStore, 'keys' | 'limiter'>): Promise<void> {
  return askStore(limiter.state() === 'degraded' ? WHILE_AWAY : PATIENCE, keys.keys().ready)
}
