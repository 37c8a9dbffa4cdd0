import type { LookUpCounts } from './look-ups.js'

/**
 * Map that lives in the store and, as a whole, in the memory of every gateway. A read costs a request one Map lookup. A
 * change takes effect on every gateway within a second. This file has the interface and the form that lives in one
 * process. `replicated-map-redis.ts` keeps the map in Redis.
 */
export interface ReplicatedMap<V> {
  /** Returns the value, from memory. A value that has ended counts as absent, to the millisecond. */
  get(key: string): V | undefined
  /**
   * Returns all entries, from memory, without ended values. The result is live: do not keep it beyond this turn of the
   * event loop.
   */
  entries(): Entries<V>
  /**
   * Returns true if all values are in memory. Otherwise only those that were asked for lately are, and `get` and
   * `entries` know no others.
   */
  isWhole(): boolean
  /**
   * Returns the value from memory, or looks it up in the store if this process does not know whether there is one.
   * Rejects if the store can't tell.
   */
  find(key: string): V | undefined | Promise<V | undefined>
  /** Stores the value; `undefined` removes it. Rejects with a message for an operator when it can't. */
  set(key: string, value: V | undefined): Promise<void>
  /** Stores many values, in few calls. If it rejects, it may have stored some. */
  setAll(values: readonly (readonly [key: string, value: V])[]): Promise<void>
  /** Does the same as `set` if the key is present or absent in the store now. Resolves with true if the condition held. */
  setIf(only: 'present' | 'absent', key: string, value: V | undefined): Promise<boolean>
  /** Reads the value from the store, for an operator. Rejects when the store is unreachable. */
  read(key: string): Promise<V | undefined>
  /**
   * Reads some of the values from the store, in no particular order. Repeated calls read all; a value that changes
   * meanwhile may come twice. Rejects when the store is unreachable.
   *
   * @param cursor `next` of the page before. Left out, or of a store that was split or joined since: begins anew
   * @param mayFit returns false for a stored text that need not be parsed. Default: all are
   */
  page(cursor?: string, mayFit?: (text: string) => boolean): Promise<MapPage<V>>
  /**
   * Registers a listener that is called after each change of what is held here, whatever caused it. The listener gets
   * the key, also when its value has ended (noticed within a second). After a full load it gets no key: any value may
   * be different.
   */
  onChange(listener: (key: string | undefined) => void): void
  /** Resolves when the first full load is done. Earlier reads see what has arrived so far. */
  readonly ready: Promise<void>
  /**
   * Returns when the values held here were last known to match the store, in unix ms; 0 if never.
   *
   * @param key only those that are stored where this key is
   */
  confirmedAt(key?: string): number
  close(): Promise<void>
}

/** Some of the values of a map. */
export interface MapPage<V> {
  readonly values: readonly (readonly [key: string, value: V])[]
  /** Undefined for the last page. */
  readonly next: string | undefined
}

/**
 * Map whose store may forget what it had: a lagging replica took over, a backup was restored, or Redis restarted empty.
 */
export interface ForgettableMap {
  /** Returns the history as this process knows it. */
  history(): MapHistory
  /** The same as that of `ReplicatedMap`. */
  confirmedAt(key?: string): number
  /** Returns the history after a look at the store. Rejects when the store is unreachable. */
  look(): Promise<MapHistory>
  /** Decides that what the store has is right, on every gateway from now on. */
  accept(): Promise<void>
  /**
   * Writes back what the gateways hold. It is then in force on every gateway. Anything else in the store is removed.
   *
   * @returns the number of values written; undefined if no gateway that could be asked knows them
   */
  restore(): Promise<number | undefined>
}

export interface MapHistory {
  /** Name of the map's content, as in the shape. */
  readonly what: string
  /** Number of values that this process serves from memory. In a recent copy, keys without a value count, too. */
  readonly held: number
  /** False if the process holds only what was asked for lately. */
  readonly isWhole: boolean
  /** Look-ups in the store since the start, by result; undefined if the process always holds all values. */
  readonly lookUps?: Readonly<LookUpCounts> | undefined
  /**
   * Unix ms since which the store has forgotten values and no operator has decided; undefined if there is nothing to
   * decide.
   */
  readonly forgottenAt: number | undefined
  /** True if this process serves what the store had before. */
  readonly known: boolean
  /** Number of times that this process has noticed a store that had forgotten values. */
  readonly rollbacks: number
}

/** Entries of a map, in no particular order. */
export type Entries<V> = Pick<ReadonlyMap<string, V>, 'size' | 'keys' | 'values' | typeof Symbol.iterator>

/** Describes what a map holds: its name, format and bounds. */
export interface MapShape<V> {
  /**
   * Key of the hash in Redis, with a tag that all its keys share: `tier:{assignments}`. The store's ACL names the
   * beginning of it.
   */
  readonly name: string
  /** Name of the content in messages for an operator, in the plural. */
  readonly what: string
  /** Name of a key in such a message. */
  readonly keyName: string
  /**
   * Parses a stored value. Returns `undefined` for anything that is not one of ours: any client with access to the
   * store may write. Never throws.
   */
  parse(text: string): V | undefined
  /** Formats a value. The result is not empty. Throws when the value can't be stored. */
  write(value: V): string
  /** Returns the unix ms at which the value ends; `undefined` if it never ends. */
  readonly until?: (value: V) => number | undefined
  /** Channel of its changes, without the number of the database. Default: `<name>:changed`. */
  readonly channel?: string
  /** Maximum number of values. A write beyond it is refused. */
  readonly most: number
  /**
   * Maximum once the store is split into shards. Requests need few values each, so a process may hold only some and look
   * up the others. Undefined: the map is never split, and every process holds all of it.
   */
  readonly mostSplit?: number
  /** Shard only: maximum of the whole map, for messages. */
  readonly mapMost?: number
  /** Longest key, in characters. */
  readonly longestKey: number
  readonly longestValue: number
}

/** Write that no store accepts, whatever its state. The message is for an operator. */
export class MapRefusal extends Error {}

/** Write to a map that takes no changes while an operator splits or joins the store. Nothing was written. */
export class FrozenMap extends Error {
  constructor(what: string) {
    super(`${what} cannot be changed while the store is split or joined; try again when that is done`)
  }
}

/**
 * Checks a write against the bounds of the shape.
 *
 * @returns the value as it is stored, empty for none
 * @throws MapRefusal
 */
export function writeWithin<V>(shape: MapShape<V>, key: string, value: V | undefined): string {
  const { what, keyName, longestKey, longestValue } = shape
  if (key.length > longestKey) {
    throw new MapRefusal(`the ${keyName} is longer than ${longestKey} characters; nothing is stored`)
  }
  const text = value === undefined ? '' : shape.write(value)
  if (text.length > longestValue) {
    throw new MapRefusal(
      `the value of ${keyName} ${key} is longer than ${longestValue} characters, the most for ${what}`,
    )
  }
  return text
}

/** @param orElse another remedy than to remove some values */
export function fullError({ what, most }: Pick<MapShape<unknown>, 'what' | 'most'>, orElse = ''): MapRefusal {
  return new MapRefusal(`there are already ${most} ${what}, which is the most; remove some first${orElse}`)
}

/** Differences of two maps that are listed one by one. */
const FEW = 1000

/** Returns the keys that two maps do not have in common with the same value; undefined if there are many. */
function differing<V>(a: ReadonlyMap<string, V>, b: ReadonlyMap<string, V>): string[] | undefined {
  if (Math.abs(a.size - b.size) > FEW) return undefined
  const keys: string[] = []
  for (const [key, value] of b) if (a.get(key) !== value && keys.push(key) > FEW) return undefined
  for (const key of a.keys()) if (!b.has(key) && keys.push(key) > FEW) return undefined
  return keys
}

/** Part of a map that is in the memory of a process. */
export type Held<V> = ReturnType<typeof createHeld<V>>

/**
 * Holds the values of a map in memory.
 *
 * @param now clock, in unix ms
 */
export function createHeld<V>({ until }: Pick<MapShape<V>, 'until'>, now: () => number) {
  let values = new Map<string, V>()
  const listeners: ((key: string | undefined) => void)[] = []
  /** Unix ms before which no value ends. */
  let nextEnd = Number.POSITIVE_INFINITY

  const endOf = (value: V) => until?.(value) ?? Number.POSITIVE_INFINITY
  function changed(key: string | undefined): void {
    for (const listener of listeners) listener(key)
  }
  function expect(value: V): void {
    const end = endOf(value)
    if (end < nextEnd) nextEnd = end
  }

  /**
   * Removes ended values.
   *
   * @returns true if there were any
   */
  function sweep(): boolean {
    const present = now()
    if (present < nextEnd) return false
    nextEnd = Number.POSITIVE_INFINITY
    const ended: string[] = []
    for (const [key, value] of values) {
      if (endOf(value) <= present) ended.push(key)
      else expect(value)
    }
    for (const key of ended) values.delete(key)
    for (const key of ended) changed(key)
    return ended.length > 0
  }

  return {
    get(key: string): V | undefined {
      const value = values.get(key)
      if (until === undefined || value === undefined) return value
      const end = endOf(value)
      return end !== Number.POSITIVE_INFINITY && end <= now() ? undefined : value
    },
    entries(): ReadonlyMap<string, V> {
      sweep()
      return values
    },
    onChange(listener: (key: string | undefined) => void): void {
      listeners.push(listener)
    },
    /** Tells the listeners of a change; undefined: any value may be different. */
    changed,
    put(key: string, value: V | undefined): void {
      if (value === undefined) values.delete(key)
      else {
        values.set(key, value)
        expect(value)
      }
      changed(key)
    },
    /** Replaces all values. If few are other objects than before, listeners hear of each. */
    replace(all: Map<string, V>): void {
      const others = differing(values, all)
      values = all
      nextEnd = Number.POSITIVE_INFINITY
      if (until !== undefined) for (const value of all.values()) expect(value)
      if (others === undefined) changed(undefined)
      else for (const key of others) changed(key)
    },
    sweep,
  }
}

/** Interval between two searches for ended values, in ms. */
const SWEEP_MS = 500

export interface MemoryMapOptions {
  /** Clock, in unix ms. */
  readonly now?: () => number
  /** Called with each change. The write is complete when the returned promise resolves. */
  readonly tell?: (key: string, text: string | null) => Promise<void>
}

/** Keeps a map in the memory of one process. It is lost when the process ends. */
export function createMemoryMap<V>(shape: MapShape<V>, options: MemoryMapOptions = {}): ReplicatedMap<V> {
  const { now = Date.now, tell } = options
  const { put, ...map } = openHeld(shape, now)

  async function set(key: string, value: V | undefined): Promise<void> {
    const text = writeWithin(shape, key, value)
    const all = map.entries()
    if (value !== undefined && !all.has(key) && all.size >= shape.most) throw fullError(shape)
    put(key, value)
    await tell?.(key, text === '' ? null : text)
  }

  return {
    ...map,
    set,
    async setAll(values) {
      for (const [key, value] of values) await set(key, value)
    },
    async setIf(only, key, value) {
      if ((map.get(key) === undefined) !== (only === 'absent')) return false
      await set(key, value)
      return true
    },
  }
}

/** Read-only map whose values another process sends. */
export interface FollowedMap<V> extends ReplicatedMap<V> {
  follow(key: string, text: string | null): void
}

/**
 * Creates a map that follows another process.
 *
 * @param texts initial values, by key
 */
export function createFollowedMap<V>(
  shape: MapShape<V>,
  texts: Iterable<readonly [key: string, text: string]>,
  now: () => number = Date.now,
): FollowedMap<V> {
  const { put, ...map } = openHeld(shape, now)
  const elsewhere = () => Promise.reject(new Error('only the primary can do this'))
  const follow = (key: string, text: string | null) => put(key, text === null ? undefined : shape.parse(text))
  for (const [key, text] of texts) follow(key, text)
  return { ...map, set: elsewhere, setAll: elsewhere, setIf: elsewhere, follow }
}

/** Opens a map that is only in the memory of this process. */
function openHeld<V>(shape: MapShape<V>, now: () => number) {
  const { get, entries, onChange, put, sweep } = createHeld(shape, now)
  const sweeping = shape.until === undefined ? undefined : setInterval(sweep, SWEEP_MS).unref()
  return {
    get,
    entries,
    onChange,
    put,
    isWhole: () => true,
    find: get,
    read: async (key: string) => get(key),
    page: async () => ({ values: [...entries()], next: undefined }),
    ready: Promise.resolve(),
    confirmedAt: now,
    close: async () => clearInterval(sweeping),
  }
}
