import { API_KEYS, type StoredKey } from './api-keys.js'
import type { LastUsed } from './last-used.js'
import type { MapShape, ReplicatedMap } from './replicated-map.js'

export type KeyStore = ReturnType<typeof createKeyStore>

/** Offers the API keys of the store. */
export function createKeyStore(
  open: (shape: MapShape<StoredKey>) => ReplicatedMap<StoredKey>,
  lastUsed: LastUsed,
) {
  let opened: ReplicatedMap<StoredKey> | undefined
  return {
    /**
     * Returns the map of all keys. From the first call on, this process holds all of them, so call it only where keys
     * are needed.
     */
    keys(): ReplicatedMap<StoredKey> {
      opened ??= open(API_KEYS)
      return opened
    },
    lastUsed,
  }
}

/**
 * Result of a key lookup. `unknown`: no key has this digest. `expired`: the key has expired. `unavailable`: the gateway
 * cannot tell, because the keys have not been loaded yet or the store has been away for longer than they may be
 * trusted.
 */
export type FoundKey = StoredKey | 'unknown' | 'expired' | 'unavailable'

export interface KeyringOptions {
  /** Called each time: a restart of the workers may have opened another store. */
  readonly store: () => KeyStore
  /** Clock, in unix ms. */
  readonly now?: () => number
}

/** How often the use of one key is reported to the store, in ms. */
const TOUCH_EVERY = 600_000
/** When a client whose key could not be looked up is judged again, in ms. */
const ASK_AGAIN_MS = 500
/** How long uses are collected before they are reported, in ms. */
const GATHER_MS = 5000
const BATCH = 1000
/** Maximum number of keys in one report. Further keys wait for their next use. */
const MOST_GATHERED = 100_000
/** Keys whose last report is remembered. */
const MOST_TOLD = 500_000

export type Keyring = ReturnType<typeof createKeyring>

/** Looks up API keys for requests: in memory, and in the store if not all of them are there. */
export function createKeyring({ store, now = Date.now }: KeyringOptions) {
  /** When each key was last reported, in unix ms. It outlives the key objects, which a full load replaces. */
  const told = new Map<string, number>()
  let gathered: string[] = []
  const listeners: (() => void)[] = []
  /** Stores whose keys this keyring listens to already, so that each is followed once. */
  const followed = new WeakSet<ReplicatedMap<StoredKey>>()
  let loading: Promise<void> | undefined
  let timer: NodeJS.Timeout | undefined
  let askingAgain: NodeJS.Timeout | undefined

  async function flush(): Promise<void> {
    timer = undefined
    const ids = gathered
    gathered = []
    const minute = Math.floor(now() / 60_000)
    for (let i = 0; i < ids.length; i += BATCH) {
      // The store is away. The next use of each key is reported instead.
      await store()
        .lastUsed.touch(ids.slice(i, i + BATCH), minute)
        .catch(() => {})
    }
  }

  function follow(keys: ReplicatedMap<StoredKey>): void {
    if (followed.has(keys)) return
    followed.add(keys)
    keys.onChange(tellListeners)
  }

  function tellListeners(): void {
    for (const listener of listeners) listener()
  }

  /** Lets the listeners ask again for keys that the store could not look up. */
  function askAgainSoon(): void {
    askingAgain ??= setTimeout(() => {
      askingAgain = undefined
      tellListeners()
    }, ASK_AGAIN_MS).unref()
  }

  function judge(
    keys: ReplicatedMap<StoredKey>,
    found: StoredKey | undefined,
    digest: string,
    graceMs: number,
  ): FoundKey {
    const confirmed = keys.confirmedAt(digest.slice(0, 16))
    if (found === undefined || found.sha256 !== digest) return confirmed === 0 ? 'unavailable' : 'unknown'
    const present = now()
    if (present - confirmed > graceMs) return 'unavailable'
    return found.expires !== undefined && found.expires <= present ? 'expired' : found
  }

  return {
    /**
     * Looks up a key by its digest: in memory, or in the store if this process does not know whether there is one.
     *
     * @param graceMs how long keys stay valid while the gateway cannot confirm them with the store, in ms
     */
    find(digest: string, graceMs: number): FoundKey | Promise<FoundKey> {
      const keys = store().keys()
      const found = keys.find(digest.slice(0, 16))
      return found instanceof Promise
        ? found.then(
            (late) => judge(keys, late, digest, graceMs),
            () => 'unavailable',
          )
        : judge(keys, found, digest, graceMs)
    },
    /** Returns true if all keys are in memory, so that none has to be looked up. */
    isWhole: () => store().keys().isWhole(),
    /**
     * Returns until when a client that was admitted by a key may stay. If the key has to be looked up, the client may
     * stay until then; the listeners are called afterwards.
     *
     * @returns unix ms, infinite for a key that does not expire; undefined if the key no longer exists
     */
    goodUntil(id: string): number | undefined {
      const keys = store().keys()
      const found = keys.find(id)
      if (found instanceof Promise) {
        found.then(tellListeners, askAgainSoon)
        return Number.POSITIVE_INFINITY
      }
      if (found !== undefined) return found.expires ?? Number.POSITIVE_INFINITY
      // Before the first load the gateway knows nothing about any key.
      return keys.confirmedAt(id) === 0 ? Number.POSITIVE_INFINITY : undefined
    },
    /** Registers a listener that is called after each change of the keys held here. */
    onChange: (listener: () => void) => void listeners.push(listener),
    /** Records that a request used the key. */
    used(key: StoredKey): void {
      const present = now()
      if (present - (key.told ?? 0) < TOUCH_EVERY) return
      const { id } = key
      key.told = told.get(id) ?? 0
      if (present - key.told < TOUCH_EVERY || gathered.length >= MOST_GATHERED) return
      // Most of these entries belong to keys that no longer exist.
      if (told.size >= MOST_TOLD) told.clear()
      told.set(id, present)
      key.told = present
      gathered.push(id)
      timer ??= setTimeout(flush, GATHER_MS).unref()
    },
    /** Loads all keys the first time that they are needed, and holds them from then on. Resolves when they are loaded. */
    async hold(needed: boolean): Promise<void> {
      if (!needed) return
      const keys = store().keys()
      follow(keys)
      const { ready } = keys
      loading ??= ready
      await ready
      loading = undefined
    },
    /** Returns true if the keys are loaded, or if none are needed. */
    loaded: () => loading === undefined,
    /** Reports the uses that have not been reported to the store yet. */
    async close(): Promise<void> {
      clearTimeout(timer)
      clearTimeout(askingAgain)
      await flush()
    },
  }
}
