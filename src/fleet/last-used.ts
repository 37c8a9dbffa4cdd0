import { type Client, runTouch } from '../limiter/redis/scripts.js'
import { askStore } from '../limiter/redis/store-timeout.js'

/**
 * When each key of a map was used last, to ten minutes or so. It is in the store alone, as only operators ask. Rejects
 * when the store is out of reach: whoever tells of a use lets that go by, as another will follow.
 */
export interface LastUsed {
  /** @param minute unix time; @param keys 1000 at most */
  touch(keys: readonly string[], minute: number): Promise<void>
  /** Unix minutes, in the order of the keys; undefined: not known to have been used. */
  read(keys: readonly string[]): Promise<readonly (number | undefined)[]>
  forget(key: string): Promise<void>
}

/** 400 days: a key that is used once a year is still seen to be. */
const KEPT_MINUTES = 400 * 1440
const TIMEOUT = 1000

/** @param map name of the map whose keys they are */
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

/** @param most of how many keys: those that are the oldest here are forgotten */
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
