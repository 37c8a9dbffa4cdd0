import type { Test } from 'tap'
import { connectStore, type StoreAddress } from '../../../src/limiter/redis/connect.js'
import {
  createRedisLimiter,
  type RedisLimiter,
  type RedisLimiterOptions,
} from '../../../src/limiter/redis/redis.js'

export interface LogLine {
  readonly level: 'info' | 'warn'
  readonly fields: Record<string, unknown>
  readonly message: string
}

export interface OpenLimiter {
  readonly limiter: RedisLimiter
  readonly log: readonly LogLine[]
}

/** Opens a limiter on a connection of its own, as the gateway does, with its log lines. Closes it at the end of the test. */
export function openLimiter(
  t: Test,
  redis: StoreAddress | StoreAddress['redis'],
  timeoutMs = 100,
  options: Partial<RedisLimiterOptions> = {},
): OpenLimiter {
  const lines: LogLine[] = []
  const write = (level: LogLine['level']) => (fields: object, message: string) => {
    lines.push({ level, fields: { ...fields }, message })
  }
  const log = { info: write('info'), warn: write('warn') }
  const store = connectStore(typeof redis === 'object' && 'redis' in redis ? redis : { redis }, log)
  const limiter = createRedisLimiter({ store, timeoutMs, log, localKeys: 1000, ...options })
  t.teardown(async () => {
    await limiter.close()
    store.disconnect()
  })
  return { limiter, log: lines }
}
