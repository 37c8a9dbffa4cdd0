/** Bounds of a memory. Half of each is for what was used lately. */
export interface Most {
  readonly entries: number
  /** Sum of the sizes of all values. */
  readonly size: number
}

/** Values by key, within bounds. */
export type Generations<V> = ReturnType<typeof createGenerations<V>>

/**
 * Creates a memory of two generations. When the younger half is full it becomes the older half, and what was not used
 * since is forgotten.
 *
 * @param sizeOf returns the size of a value, which never changes
 */
export function createGenerations<V>(most: Most, sizeOf: (value: V) => number) {
  let younger = new Map<string, V>()
  let older = new Map<string, V>()
  let size = 0

  function forget(key: string): void {
    const young = younger.get(key)
    if (young === undefined) return
    younger.delete(key)
    size -= sizeOf(young)
  }

  function set(key: string, value: V): void {
    forget(key)
    const more = sizeOf(value)
    if (younger.size >= most.entries / 2 || size + more > most.size / 2) {
      older = younger
      younger = new Map()
      size = 0
    }
    younger.set(key, value)
    size += more
  }

  return {
    /** Returns the value, and counts as a use of it. */
    get(key: string): V | undefined {
      const young = younger.get(key)
      if (young !== undefined) return young
      const old = older.get(key)
      if (old === undefined) return undefined
      older.delete(key)
      set(key, old)
      return old
    },
    set,
    delete(key: string): void {
      forget(key)
      older.delete(key)
    },
  }
}
