/**
 * Maps pairs of small integers to an integer ≥ 0. Memory grows with the pairs that exist, not with those that are
 * possible.
 */
export type Slots = ReturnType<typeof createSlots>

/** Pairs that the first table has room for; a power of two. */
const ROOM = 16
const FREE = -1
const OF_ENTRY = 3

/**
 * Creates a table with open addressing in one Int32Array, at most two thirds full: 18 to 36 bytes a pair, and no
 * object.
 */
export function createSlots() {
  let table = new Int32Array(OF_ENTRY * ROOM).fill(FREE)
  let mask = ROOM - 1
  let size = 0

  function find(a: number, b: number): number {
    let hash = Math.imul(a, 0x9e3779b1) ^ Math.imul(b, 0x85ebca6b)
    hash ^= hash >>> 15
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const at = slot * OF_ENTRY
      if (table[at] === FREE || (table[at] === a && table[at + 1] === b)) return at
    }
  }

  function put(a: number, b: number, value: number): void {
    const at = find(a, b)
    if (table[at] === FREE) size++
    table[at] = a
    table[at + 1] = b
    table[at + 2] = value
  }

  function grow(): void {
    const old = table
    mask = 2 * mask + 1
    table = new Int32Array(OF_ENTRY * (mask + 1)).fill(FREE)
    size = 0
    for (let at = 0; at < old.length; at += OF_ENTRY) {
      if (old[at] !== FREE) put(old[at]!, old[at + 1]!, old[at + 2]!)
    }
  }

  return {
    /** Returns the value; -1: none. */
    get: (a: number, b: number): number => table[find(a, b) + 2]!,
    set(a: number, b: number, value: number): void {
      if (3 * (size + 1) > 2 * (mask + 1)) grow()
      put(a, b, value)
    },
  }
}
