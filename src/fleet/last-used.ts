import { runTouch } from '../limiter/redis/map-scripts.js'
import type { Client } from '../limiter/redis/run-script.js'
import { askStore } from '../limiter/redis/store-timeout.js'

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
 * Opens the record in Redis.
 *
 * @param map name of the map that the keys belong to
 */
export function createRedisLastUsed(store: Client, map: string): LastUsed {
  return {
    async touch(keys, minute) {
      await askStore(TIMEOUT, runTouch(store, map, keys, minute, minute - KEPT_MINUTES))
    },
    async read(keys) {
      if (keys.length === 0) return []
      const found = await askStore(TIMEOUT, store.zmscore(`${map}:used`, ...keys))
      return found.map((minute) => (minute === null ? undefined : Number(minute)))
    },
    async forget(key) {
      await askStore(TIMEOUT, store.zrem(`${map}:used`, key))
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
