import { askStore } from '../../limiter/redis/store-timeout.js'
import type { AdminDeps } from '../deps.js'

/** Ms for the first load of all keys. Commands wait 5 s for an answer, and would say then that no gateway is there. */
const PATIENCE = 4500
/** Ms, while the store is known to be away. */
const WHILE_AWAY = 1000

/** Resolves when the keys of the store are all here. Rejects when the store is out of reach. */
export function keysHeld({ keys, limiter }: Pick<AdminDeps, 'keys' | 'limiter'>): Promise<void> {
  return askStore(limiter.state() === 'degraded' ? WHILE_AWAY : PATIENCE, keys.keys().ready)
}
