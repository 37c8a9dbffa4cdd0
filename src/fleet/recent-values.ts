import type { MapShape } from './replicated-map.js'

/** Values of a map that are in memory because somebody asked for them lately. */
export type RecentValues<V> = ReturnType<typeof createRecentValues<V>>

interface Slot<V> {
  /** Undefined if the store has no value for the key. */
  value: V | undefined
  /** True if the key was asked for since it was stored or last checked. */
  used: boolean
}

/** Share of the room that keys have which were asked for once: one in eight. */
const NEW_SHARE = 8
/** Slots that are checked before one in use is removed anyway. This bounds the time of a call. */
const MOST_CHECKED = 16

/**
 * Returns a function that returns the oldest entry of a map that is not empty. The caller deletes it before the next
 * call. One iterator does it all: a new one would step over everything that was deleted since the map last grew.
 */
function createOldest<V>(map: ReadonlyMap<string, V>): () => readonly [string, V] {
  let entries = map.entries()
  return () => {
    const { done, value } = entries.next()
    if (!done) return value
    entries = map.entries()
    return entries.next().value!
  }
}

/**
 * Holds the values that were asked for lately, and the keys that are known to have none. It is bounded. A key that was
 * asked for once waits in a short queue, and is dropped at its end. A key that is asked for again moves to the main
 * queue, where keys without recent use are dropped (S3-FIFO: Yang, Zhang, Qiu, Yue and Rashmi, SOSP 2023). So a flood
 * of invented keys displaces only other new ones.
 *
 * @param now clock, in unix ms
 * @param most maximum number of keys, at least 2
 */
export function createRecentValues<V>(
  { until }: Pick<MapShape<V>, 'until'>,
  now: () => number,
  most: number,
) {
  const mostNew = Math.max(1, Math.floor(most / NEW_SHARE))
  const mostKept = Math.max(1, most - mostNew)
  /** Keys that were asked for once, oldest first. */
  const fresh = new Map<string, Slot<V>>()
  /** Keys that were asked for again, oldest first. */
  const kept = new Map<string, Slot<V>>()

  const slotOf = (key: string) => kept.get(key) ?? fresh.get(key)
  function aliveValue(value: V | undefined): V | undefined {
    if (until === undefined || value === undefined) return value
    const end = until(value)
    return end !== undefined && end <= now() ? undefined : value
  }

  const oldestFresh = createOldest(fresh)
  const oldestKept = createOldest(kept)

  function dropKept(): void {
    for (let checked = 1; ; checked++) {
      const [key, slot] = oldestKept()
      kept.delete(key)
      if (!slot.used || checked >= MOST_CHECKED) return
      slot.used = false
      kept.set(key, slot)
    }
  }

  function dropFresh(): void {
    const [key, slot] = oldestFresh()
    fresh.delete(key)
    if (!slot.used) return
    if (kept.size >= mostKept) dropKept()
    slot.used = false
    kept.set(key, slot)
  }

  function* entries(): Generator<readonly [key: string, value: V]> {
    for (const slots of [kept, fresh]) {
      for (const [key, slot] of slots) {
        const value = aliveValue(slot.value)
        if (value !== undefined) yield [key, value]
      }
    }
  }

  return {
    get(key: string): V | undefined {
      const slot = slotOf(key)
      if (slot === undefined) return undefined
      slot.used = true
      return aliveValue(slot.value)
    },
    /** Returns true if it is known here whether the key has a value. */
    knows: (key: string) => kept.has(key) || fresh.has(key),
    /** Holds what the store has for a key; undefined: nothing. */
    learn(key: string, value: V | undefined): void {
      const slot = slotOf(key)
      if (slot !== undefined) {
        slot.value = value
        return
      }
      if (fresh.size >= mostNew) dropFresh()
      fresh.set(ownText(key), { value, used: false })
    },
    /** Holds the value of a key that is not held, as if it had been asked for again. The key must not be a slice of a text. */
    adopt(key: string, value: V): void {
      if (fresh.size >= mostNew) dropFresh()
      fresh.set(key, { value, used: true })
    },
    /** Changes what is held for a key. A key that is not held stays unknown. */
    put(key: string, value: V | undefined): void {
      const slot = slotOf(key)
      if (slot !== undefined) slot.value = value
    },
    /** Iterates over the values, without ended ones. */
    entries,
    /** Iterates over all known keys, with and without a value. */
    *keys(): Generator<string> {
      yield* kept.keys()
      yield* fresh.keys()
    },
    /** Number of known keys. */
    get size() {
      return kept.size + fresh.size
    },
    clear(): void {
      kept.clear()
      fresh.clear()
    },
  }
}

/** Copies a text: a slice of a request's header would keep the whole header in memory. */
export function ownText(text: string): string {
  const own = Buffer.from(text, 'latin1').toString('latin1')
  return own === text ? own : Buffer.from(text, 'utf16le').toString('utf16le')
}
