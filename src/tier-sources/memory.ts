/** Values by key, at most `size`. When it is full, a value without recent use is removed. */
export type Memory<T> = ReturnType<typeof createMemory<T>>

interface Slot<T> {
  value: T
  used: boolean
}

/** Slots that are checked before one in use is removed anyway. This bounds the time of a call. */
const MOST_LOOKED_AT = 16

/**
 * Creates a memory that removes nearly the least recently used value (second chance, F. J. Corbató 1968): the oldest,
 * unless it was used since the last check. A hit writes one boolean, where a list in order of use would be rearranged.
 */
export function createMemory<T>(size: number) {
  const slots = new Map<string, Slot<T>>()

  function evict(): void {
    let looked = 0
    for (const [key, slot] of slots) {
      slots.delete(key)
      if (!slot.used || ++looked >= MOST_LOOKED_AT) return
      slot.used = false
      slots.set(key, slot)
    }
  }

  return {
    /** Returns the value, and counts as a use of it. */
    get(key: string): T | undefined {
      const slot = slots.get(key)
      if (slot === undefined) return undefined
      slot.used = true
      return slot.value
    },
    set(key: string, value: T): void {
      const slot = slots.get(key)
      if (slot !== undefined) {
        slot.value = value
        return
      }
      if (slots.size >= size) evict()
      slots.set(key, { value, used: false })
    },
    get size(): number {
      return slots.size
    },
  }
}
