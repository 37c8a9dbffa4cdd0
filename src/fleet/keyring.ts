import { API_KEYS, type StoredKey } from './api-keys.js'
import type { LastUsed } from './last-used.js'
import type { MapShape, ReplicatedMap } from './replicated-map.js'

/** The API keys of the store, as the store's owner has them. */
export interface KeyStore {
  /** Held whole in this process from the first call on: only where they are needed. */
  keys(): ReplicatedMap<StoredKey>
  readonly lastUsed: LastUsed
}

export function createKeyStore(
  open: (shape: MapShape<StoredKey>) => ReplicatedMap<StoredKey>,
  lastUsed: LastUsed,
): KeyStore {
  let opened: ReplicatedMap<StoredKey> | undefined
  return {
    keys() {
      opened ??= open(API_KEYS)
      return opened
    },
    lastUsed,
  }
}

/**
 * What may be known of a key: `unknown`: there is none of that digest; `expired`; `unavailable`: that cannot be told,
 * since the keys have not been loaded yet, or the store has been away for longer than they may be trusted.
 */
export type FoundKey = StoredKey | 'unknown' | 'expired' | 'unavailable'

/** API keys of the store as requests meet them: from memory alone. */
export interface Keyring {
  /** @param graceMs for how long keys are still good that are not known to be what the store has */
  find(digest: string, graceMs: number): FoundKey
  /**
   * Until when somebody who was let in by a key may stay.
   *
   * @param id of the key
   * @returns Unix ms, infinite for one that does not expire; undefined: it is there no longer
   */
  goodUntil(id: string): number | undefined
  /** Calls after each change of the keys that are held here. */
  onChange(listener: () => void): void
  /** Notes that a request came with it. */
  used(key: StoredKey): void
  /** From the first time on that they are needed all keys are held here. Resolves when they are. */
  hold(needed: boolean): Promise<void>
  /** Whether all keys are here that are needed. */
  loaded(): boolean
  /** Tells of what was used and has not been told yet. */
  close(): Promise<void>
}

export interface KeyringOptions {
  /** Asked each time: a restart of the workers may have opened another store. */
  readonly store: () => KeyStore
  /** Unix ms. */
  readonly now?: () => number
}

/** Ms: a key in use is told of once in that time. */
const TOUCH_EVERY = 600_000
/** Ms for which uses are gathered. */
const GATHER_MS = 5000
const BATCH = 1000
/** Keys that are told of in one go; others wait for their next use. */
const MOST_GATHERED = 100_000

export function createKeyring({ store, now = Date.now }: KeyringOptions): Keyring {
  /** Unix ms at which each was told of last: keys are loaded anew now and then. */
  const told = new Map<string, number>()
  let gathered: string[] = []
  const listeners: (() => void)[] = []
  /** Of each store once. */
  const followed = new WeakSet<ReplicatedMap<StoredKey>>()
  let loading: Promise<void> | undefined
  let timer: NodeJS.Timeout | undefined

  async function flush(): Promise<void> {
    timer = undefined
    const ids = gathered
    gathered = []
    const minute = Math.floor(now() / 60_000)
    for (let i = 0; i < ids.length; i += BATCH) {
      // The store is away: the next use is told of.
      await store()
        .lastUsed.touch(ids.slice(i, i + BATCH), minute)
        .catch(() => {})
    }
  }

  function follow(keys: ReplicatedMap<StoredKey>): void {
    if (followed.has(keys)) return
    followed.add(keys)
    keys.onChange(() => {
      for (const listener of listeners) listener()
    })
  }

  return {
    find(digest, graceMs) {
      const keys = store().keys()
      const confirmed = keys.confirmedAt()
      const found = keys.get(digest.slice(0, 16))
      if (found === undefined || found.sha256 !== digest) return confirmed === 0 ? 'unavailable' : 'unknown'
      const present = now()
      if (present - confirmed > graceMs) return 'unavailable'
      return found.expires !== undefined && found.expires <= present ? 'expired' : found
    },
    goodUntil(id) {
      const keys = store().keys()
      const found = keys.get(id)
      if (found !== undefined) return found.expires ?? Number.POSITIVE_INFINITY
      // Before the first load nothing is known, of anybody.
      return keys.confirmedAt() === 0 ? Number.POSITIVE_INFINITY : undefined
    },
    onChange: (listener) => void listeners.push(listener),
    used(key) {
      const present = now()
      if (present - (key.told ?? 0) < TOUCH_EVERY) return
      const { id } = key
      key.told = told.get(id) ?? 0
      if (present - key.told < TOUCH_EVERY || gathered.length >= MOST_GATHERED) return
      // Of keys that are gone by now, mostly.
      if (told.size >= API_KEYS.most) told.clear()
      told.set(id, present)
      key.told = present
      gathered.push(id)
      timer ??= setTimeout(flush, GATHER_MS).unref()
    },
    async hold(needed) {
      if (!needed) return
      const keys = store().keys()
      follow(keys)
      const { ready } = keys
      loading ??= ready
      await ready
      loading = undefined
    },
    loaded: () => loading === undefined,
    async close() {
      clearTimeout(timer)
      await flush()
    },
  }
}
