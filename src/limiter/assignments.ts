import type { TierAssignments } from './limiter.js'
import { createMemoryMap, type MapShape } from './replicated.js'
import { createRedisMap, type RedisMapOptions } from './replicated-redis.js'

/** Which consumer was put on which tier by an operator. */
export const ASSIGNMENTS: MapShape<string> = {
  name: 'tier:{assignments}',
  what: 'tier assignments',
  keyName: 'consumer id',
  parse: (text) => text,
  write(tier) {
    if (tier === '') throw new Error('a tier has a name; leave it undefined to remove the assignment')
    return tier
  },
  most: 1_000_000,
  longestKey: 1024,
  longestValue: 1024,
}

/** Assignments of one process, gone with it. */
export function createMemoryAssignments(): TierAssignments {
  return createMemoryMap(ASSIGNMENTS)
}

export function createRedisAssignments(options: RedisMapOptions): TierAssignments {
  return createRedisMap(ASSIGNMENTS, options)
}
