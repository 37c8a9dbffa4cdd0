import type { Config } from '../config/schema.js'
import { createMemoryAssignments, createRedisAssignments } from './assignments.js'
import { connectStore } from './connect.js'
import type { Log } from './degraded.js'
import type { Limiter, TierAssignments } from './limiter.js'
import { createMemoryLimiter } from './memory.js'
import { createNodes } from './nodes.js'
import { createRedisLimiter } from './redis.js'

/** Where counts and tier assignments live. */
export interface Store {
  readonly limiter: Limiter
  readonly assignments: TierAssignments
  /** Resolves when the store has answered for the first time; decisions before that are made without it. */
  readonly ready: Promise<void>
  close(): Promise<void>
}

/**
 * Opens what `store` in the configuration says, in the background: an unreachable Redis is no reason not to start.
 *
 * @param serves whether this process decides on requests, and so has a share of the limits while Redis is away
 */
export function openStore(config: Config['store'], log: Log, serves = true): Store {
  if (config.redis === undefined) {
    const limiter = createMemoryLimiter({ maxKeys: config.max_keys })
    const assignments = createMemoryAssignments()
    return { limiter, assignments, ready: Promise.resolve(), close: () => limiter.close() }
  }
  const store = connectStore({ redis: config.redis, tls: config.tls, sentinel: config.sentinel }, log)
  const nodes = serves ? createNodes(store) : undefined
  const limiter = createRedisLimiter({
    store,
    timeoutMs: config.timeout,
    localKeys: config.max_keys,
    batch: config.batch,
    merge: config.merge,
    denials: config.denials,
    gateways: nodes?.count ?? (() => 1),
    log,
  })
  const assignments = createRedisAssignments({ store, log })
  return {
    limiter,
    assignments,
    ready: limiter.ready,
    async close() {
      await Promise.all([limiter.close(), assignments.close(), nodes?.close()])
      store.disconnect()
    },
  }
}
