import type { CopySize } from './copy-size.js'
import { createLookUps, type LookUpLimits } from './look-ups.js'
import { createRecentValues, type RecentValues } from './recent-values.js'
import { createHeld, type MapShape } from './replicated-map.js'

/** Part of a map of the store that is in the memory of a process: all of it, or what was asked for lately. */
export type Copy<V> = ReturnType<typeof createCopy<V>>

/** Settings and parts for a copy that may hold less than the whole map. */
export interface RecentOptions {
  /** Decides whether all values are held. */
  readonly size: CopySize
  /** Maximum number of keys that a recent copy holds. */
  readonly room: number
  /** Limits that all look-ups of the process share. */
  readonly limits: LookUpLimits
  /** How long a look-up may take, in ms. */
  readonly timeoutMs: number
}

/**
 * Creates a copy. It is whole, and empty, until `bound` is called.
 *
 * @param recent left out: the copy is always whole
 * @param read reads values from the store, in the order of the keys
 * @param now clock, in unix ms
 */
export function createCopy<V>(
  shape: MapShape<V>,
  recent: RecentOptions | undefined,
  read: (keys: readonly string[]) => Promise<readonly (V | undefined)[]>,
  now: () => number,
) {
  const whole = createHeld(shape, now)
  /** Undefined while the copy is whole. */
  let some: RecentValues<V> | undefined
  const lookUps =
    recent &&
    createLookUps({
      read,
      learned: (key, value) => some?.learn(key, value),
      timeoutMs: recent.timeoutMs,
      limits: recent.limits,
    })

  return {
    get: (key: string): V | undefined => (some === undefined ? whole.get(key) : some.get(key)),
    /** Returns the value, from memory or else from the store. Rejects if the store can't tell. */
    find(key: string): V | undefined | Promise<V | undefined> {
      if (some === undefined) return whole.get(key)
      return some.get(key) ?? (some.knows(key) ? undefined : lookUps!.find(key))
    },
    isWhole: () => some === undefined,
    /** Returns true if it is known here whether the key has a value. */
    knows: (key: string) => some === undefined || some.knows(key),
    entries: () => (some === undefined ? whole.entries() : new Map(some.entries())),
    /** Iterates over the values, without a copy of a recent one. */
    each: (): Iterable<readonly [key: string, value: V]> =>
      some === undefined ? whole.entries() : some.entries(),
    /** Iterates over the keys that are known here, in a recent copy also those without a value. */
    keys: () => (some === undefined ? whole.entries() : some).keys(),
    /** Number of known keys. */
    get size() {
      return (some === undefined ? whole.entries() : some).size
    },
    onChange: whole.onChange,
    /** Changes what is held for a key. Listeners hear of it even if a recent copy does not hold the key. */
    put(key: string, value: V | undefined): void {
      lookUps?.changed(key)
      if (some === undefined) {
        whole.put(key, value)
        return
      }
      some.put(key, value)
      whole.changed(key)
    },
    /** Replaces all values; the copy is whole then. */
    replace(all: Map<string, V>): void {
      const becomesWhole = some !== undefined
      some = undefined
      whole.replace(all)
      if (becomesWhole) whole.changed(undefined)
    },
    /** Replaces what a recent copy holds for these keys. */
    renew(values: ReadonlyMap<string, V | undefined>): void {
      for (const [key, value] of values) some?.put(key, value)
      whole.changed(undefined)
    },
    /** Makes the copy a recent one, which holds as much of what was held before as it has room for. */
    bound(): void {
      if (some !== undefined || recent === undefined) return
      some = createRecentValues(shape, now, recent.room)
      let tooMany = whole.entries().size - recent.room
      for (const [key, value] of whole.entries()) {
        if (tooMany-- > 0) continue
        some.adopt(key, value)
      }
      whole.replace(new Map())
      whole.changed(undefined)
    },
    /** Removes ended values from a whole copy. Returns true if there were any. */
    sweep: () => some === undefined && whole.sweep(),
    /** Results of the look-ups; undefined if the copy is always whole. */
    lookUps: lookUps?.counts,
  }
}
