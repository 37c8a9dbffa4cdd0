import { runTouch } from '../limiter/redis/map-scripts.js'
import type { Client } from '../limiter/redis/run-script.js'
import { askStore } from '../limiter/redis/store-timeout.js'
import type { LayoutFollower } from './layout.js'
import type { MapShape } from './replicated-map.js'
import { byShard, shardsOf } from './shards.js'

/**
 * Stores when each key of a map was last used, to about ten minutes. It is in the store only, because only operators
 * read it. Rejects when the store is unreachable: a caller that reports a use ignores that, since another use will
 * follow.
 */
export interface LastUsed {
  /**
   * Records that the keys were used.
   *
   * @param keys at most 1000
   * @param minute unix time, in minutes
   */
  touch(keys: readonly string[], minute: number): Promise<void>
  /** Returns unix minutes in the order of the keys; undefined for a key with no known use. */
  read(keys: readonly string[]): Promise<readonly (number | undefined)[]>
  forget(key: string): Promise<void>
}

/** How long a use is kept: 400 days, so that a key used once a year still counts as used. */
const KEPT_MINUTES = 400 * 1440
const TIMEOUT = 1000

/**
 * Opens the record in Redis, beside the shards that the keys are in.
 *
 * @param shape of the map that the keys belong to
 */
export function createRedisLastUsed<V>(
  store: Client,
  shape: MapShape<V>,
  layout: Pick<LayoutFollower, 'shards'>,
): LastUsed {
  /** Asks each shard about its keys. */
  async function inShards<T>(keys: readonly string[], ask: (map: string, some: string[]) => Promise<T>) {
    const count = await layout.shards()
    const parts = byShard(keys, (key) => key, count)
    const names = shardsOf(shape, count)
    return Promise.all(
      [...parts].map(
        async ([k, some]) => [some, await askStore(TIMEOUT, ask(names[k]!.name, some))] as const,
      ),
    )
  }
  return {
    async touch(keys, minute) {
      await inShards(keys, (map, some) => runTouch(store, map, some, minute, minute - KEPT_MINUTES))
    },
    async read(keys) {
      const found = new Map<string, number | undefined>()
      for (const [some, minutes] of await inShards(keys, (map, some) =>
        store.zmscore(`${map}:used`, ...some),
      ))
        for (const [i, minute] of minutes.entries())
          found.set(some[i]!, minute === null ? undefined : Number(minute))
      return keys.map((key) => found.get(key))
    },
    async forget(key) {
      await inShards([key], (map, some) => store.zrem(`${map}:used`, ...some))
    },
  }
}

/**
 * Keeps the record in memory.
 *
 * @param most maximum number of keys. Beyond it, the keys whose last use is oldest are forgotten.
 */
export function createMemoryLastUsed(most: number): LastUsed {
  const used = new Map<string, number>()
  return {
    async touch(keys, minute) {
      for (const key of keys) {
        used.delete(key)
        used.set(key, minute)
      }
      for (const key of used.keys()) {
        if (used.size <= most) break
        used.delete(key)
      }
    },
    read: async (keys) => keys.map((key) => used.get(key)),
    forget: async (key) => void used.delete(key),
  }
}
