/**
 * A map that lives in the store and whole in every gateway: reading costs a request a Map read, and a change holds on
 * every gateway within a second. Here: what it is, and the form that lives in one process. `replicated-redis.ts` keeps
 * it in Redis.
 */
export interface ReplicatedMap<V> {
  /** From memory. What has ended is none, to the millisecond. */
  get(key: string): V | undefined
  /** All of them, from memory: live, not to be kept beyond this turn of the event loop. What has ended is not there. */
  entries(): ReadonlyMap<string, V>
  /** Stores the value; `undefined` takes it out. Rejects, with a message for an operator, when it can't. */
  set(key: string, value: V | undefined): Promise<void>
  /** The same under a condition on what the store has now. Resolves with whether it held. */
  setIf(only: 'present' | 'absent', key: string, value: V | undefined): Promise<boolean>
  /** The value as the store has it now, for an operator. Rejects when the store is out of reach. */
  read(key: string): Promise<V | undefined>
  /**
   * Calls for each change of what is held here, whoever made it, after it: with its key, also when its value has
   * ended (noticed within a second); without one when all were loaded anew and any may be another.
   */
  onChange(listener: (key: string | undefined) => void): void
  /** Resolves when the first full load is done. Reads before that see what has come so far. */
  readonly ready: Promise<void>
  /** Unix ms at which what is held here was last known to be what the store has; 0: never yet. */
  confirmedAt(): number
  close(): Promise<void>
}

/** A map whose store may forget what it had: a replica that lagged has taken over, a backup was restored, Redis restarted empty. */
export interface ForgettableMap {
  /** As this process knows it. */
  history(): MapHistory
  /** The same, after a look into the store. Rejects when it is out of reach. */
  look(): Promise<MapHistory>
  /** What the store has holds from now on, on every gateway. */
  accept(): Promise<void>
  /**
   * Writes back what the gateways know; it holds on every gateway then. What the store has beyond that goes.
   *
   * @returns how many values; undefined: nobody who could be asked knows them
   */
  restore(): Promise<number | undefined>
}

export interface MapHistory {
  /** As in the shape. */
  readonly what: string
  /** How many values this process serves. */
  readonly held: number
  /** Unix ms since which the store has forgotten some, and nobody has decided what holds; undefined: it has not. */
  readonly forgottenAt: number | undefined
  /** Whether this process serves what the store had before. */
  readonly known: boolean
  /** How often this process has noticed that the store had forgotten some. */
  readonly rollbacks: number
}

/** What a map holds. */
export interface MapShape<V> {
  /** The key of its hash, with a tag that all its keys share: `tier:{assignments}`. The ACL of the store names its beginning. */
  readonly name: string
  /** In messages for an operator, in the plural. */
  readonly what: string
  /** What a key is, in such a message. */
  readonly keyName: string
  /** `undefined`: this is no value of ours. Anybody with access to the store may write anything. Never throws. */
  parse(text: string): V | undefined
  /** Not empty. Throws when such a value can't be stored. */
  write(value: V): string
  /** Unix ms at which the value ends by itself; `undefined`: never. */
  readonly until?: (value: V) => number | undefined
  /** How many values there may be: a write beyond it is refused. */
  readonly most: number
  /** Characters. */
  readonly longestKey: number
  readonly longestValue: number
}

/** Ms that a Date can hold (ECMA-262, 21.4.1.1). Anything later cannot be shown to anybody. */
const LATEST = 8.64e15

/** Whether it is a time: unix ms, whole. */
export function isTime(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= LATEST
}

/** A write that no store takes, whatever its state. The message is for an operator. */
export class MapRefusal extends Error {}

/** @returns how the value is stored, empty for none. Throws MapRefusal. */
export function writeWithin<V>(shape: MapShape<V>, key: string, value: V | undefined): string {
  const { what, keyName, longestKey, longestValue } = shape
  if (key.length > longestKey) {
    throw new MapRefusal(`the ${keyName} is longer than ${longestKey} characters; nothing is stored`)
  }
  const text = value === undefined ? '' : shape.write(value)
  if (text.length > longestValue) {
    throw new MapRefusal(
      `what is to be stored of ${keyName} ${key} is longer than the ${longestValue} characters that ${what} may have`,
    )
  }
  return text
}

export function fullError({ what, most }: Pick<MapShape<unknown>, 'what' | 'most'>): MapRefusal {
  return new MapRefusal(`there are ${most} ${what}, which is as many as there may be; remove some first`)
}

/** The part of a map that is in the memory of a process. */
export interface Held<V> extends Pick<ReplicatedMap<V>, 'get' | 'entries' | 'onChange'> {
  put(key: string, value: V | undefined): void
  /** All of them, anew. */
  replace(all: Map<string, V>): void
  /** Forgets what has ended. @returns whether there was any */
  sweep(): boolean
}

/** @param now unix ms */
export function createHeld<V>({ until }: Pick<MapShape<V>, 'until'>, now: () => number): Held<V> {
  let values = new Map<string, V>()
  const listeners: ((key: string | undefined) => void)[] = []
  /** No value ends before. */
  let nextEnd = Number.POSITIVE_INFINITY

  const endOf = (value: V) => until?.(value) ?? Number.POSITIVE_INFINITY
  function changed(key: string | undefined): void {
    for (const listener of listeners) listener(key)
  }
  function expect(value: V): void {
    const end = endOf(value)
    if (end < nextEnd) nextEnd = end
  }

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
    get(key) {
      const value = values.get(key)
      if (until === undefined || value === undefined) return value
      const end = endOf(value)
      return end !== Number.POSITIVE_INFINITY && end <= now() ? undefined : value
    },
    entries() {
      sweep()
      return values
    },
    onChange(listener) {
      listeners.push(listener)
    },
    put(key, value) {
      if (value === undefined) values.delete(key)
      else {
        values.set(key, value)
        expect(value)
      }
      changed(key)
    },
    replace(all) {
      values = all
      nextEnd = Number.POSITIVE_INFINITY
      if (until !== undefined) for (const value of all.values()) expect(value)
      changed(undefined)
    },
    sweep,
  }
}

/** Ms between two looks for values that have ended. */
const SWEEP_MS = 500

export interface MemoryMapOptions {
  /** Unix ms. */
  readonly now?: () => number
  /** Told of each change; the write is done when this is. */
  readonly tell?: (key: string, text: string | null) => Promise<void>
}

/** A map of one process, gone with it. */
export function createMemoryMap<V>(shape: MapShape<V>, options: MemoryMapOptions = {}): ReplicatedMap<V> {
  const { now = Date.now, tell } = options
  const held = createHeld(shape, now)
  const sweeping = shape.until === undefined ? undefined : setInterval(held.sweep, SWEEP_MS).unref()

  async function set(key: string, value: V | undefined): Promise<void> {
    const text = writeWithin(shape, key, value)
    const all = held.entries()
    if (value !== undefined && !all.has(key) && all.size >= shape.most) throw fullError(shape)
    held.put(key, value)
    await tell?.(key, text === '' ? null : text)
  }

  return {
    get: held.get,
    entries: held.entries,
    onChange: held.onChange,
    set,
    async setIf(only, key, value) {
      if ((held.get(key) === undefined) !== (only === 'absent')) return false
      await set(key, value)
      return true
    },
    read: async (key) => held.get(key),
    ready: Promise.resolve(),
    confirmedAt: now,
    close: async () => clearInterval(sweeping),
  }
}

/** A map whose values another process tells: reads only. */
export interface FollowedMap<V> extends ReplicatedMap<V> {
  follow(key: string, text: string | null): void
}

/** @param texts what it begins with, by key */
export function createFollowedMap<V>(
  shape: MapShape<V>,
  texts: Iterable<readonly [key: string, text: string]>,
  now: () => number = Date.now,
): FollowedMap<V> {
  const held = createHeld(shape, now)
  const sweeping = shape.until === undefined ? undefined : setInterval(held.sweep, SWEEP_MS).unref()
  const elsewhere = () => Promise.reject(new Error('the primary is asked'))
  const follow = (key: string, text: string | null) =>
    held.put(key, text === null ? undefined : shape.parse(text))
  for (const [key, text] of texts) follow(key, text)
  return {
    get: held.get,
    entries: held.entries,
    onChange: held.onChange,
    set: elsewhere,
    setIf: elsewhere,
    read: async (key) => held.get(key),
    ready: Promise.resolve(),
    confirmedAt: now,
    close: async () => clearInterval(sweeping),
    follow,
  }
}
