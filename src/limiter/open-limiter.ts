import type { Config } from '../config/schema/schema.js'
import type { Log } from '../log-throttle.js'
import { countersThatFit } from './heap-room.js'
import type { Limiter } from './limiter.js'
import { createMemoryLimiter } from './memory.js'
import { connectStore } from './redis/connect.js'
import { TIMER_MS } from './redis/gather.js'
import { createHeartbeat, type Heartbeat } from './redis/heartbeat.js'
import { createRedisLimiter } from './redis/redis.js'

/** Counts, and the Redis that holds them. */
export interface OpenedCounts {
  readonly limiter: Limiter
  /** Undefined if the counts are in this process. */
  readonly redis: ReturnType<typeof connectStore> | undefined
  /** Undefined without `redis`. */
  readonly heartbeat: Heartbeat | undefined
  /** Resolves when the store has answered for the first time. Until then decisions are made without it. */
  readonly ready: Promise<void>
  /** Returns the number of connections that were closed because the store broke the protocol. */
  protocolErrors(): number
  close(): Promise<void>
}

/** Returns how long a decision may wait for others: at least nine tenths of its time are left to the store. */
function gatherOf({ gather, timeout }: Config['store']): number | 'auto' {
  if (gather === 'auto') return timeout < 10 * TIMER_MS ? 0 : 'auto'
  return Math.min(gather, timeout / 10)
}

/**
 * Opens the counts that `store` in the configuration names, in the background: the gateway starts even if Redis is
 * unreachable.
 *
 * @param decides true if this process decides on requests, and so has a share of the limits while Redis is away
 */
export function openCounts(config: Config['store'], log: Log, decides: boolean): OpenedCounts {
  const maxKeys = countersThatFit(config.max_keys)
  if (config.redis === undefined) {
    const limiter = createMemoryLimiter({ maxKeys })
    return {
      limiter,
      redis: undefined,
      heartbeat: undefined,
      ready: Promise.resolve(),
      protocolErrors: () => 0,
      close: () => limiter.close(),
    }
  }
  let broken = 0
  const { tls, sentinel, own_connection: ownConnection } = config
  const redis = connectStore({ redis: config.redis, tls, sentinel, ownConnection }, log, () => void broken++)
  const heartbeat = createHeartbeat(redis, { decides })
  const limiter = createRedisLimiter({
    store: redis,
    timeoutMs: config.timeout,
    localKeys: maxKeys,
    decides,
    batch: config.batch,
    merge: config.merge,
    gatherMs: gatherOf(config),
    denials: config.denials,
    // Without decisions it would carry nothing.
    ownConnection: ownConnection && decides,
    gateways: heartbeat.count,
    log,
  })
  return {
    limiter,
    redis,
    heartbeat,
    ready: limiter.ready,
    protocolErrors: () => broken,
    async close() {
      await Promise.all([limiter.close(), heartbeat.close()])
      redis.disconnect()
    },
  }
}
