/** Values by key, at most `size`: of more, one that was not of use lately goes. */
export interface Memory<T> {
  /** Counts as use. */
  get(key: string): T | undefined
  set(key: string, value: T): void
  readonly size: number
}

interface Slot<T> {
  value: T
  used: boolean
}

/** Slots that are looked at before one goes that was of use all the same: no call takes long. */
const MOST_LOOKED_AT = 16

/**
 * Nearly the least recently used goes (second chance, F. J. Corbató 1968): the oldest, unless it was of use since it
 * was looked at last. A hit writes one boolean, where a list in order of use would be rearranged.
 */
export function createMemory<T>(size: number): Memory<T> {
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
    get(key) {
      const slot = slots.get(key)
      if (slot === undefined) return undefined
      slot.used = true
      return slot.value
    },
    set(key, value) {
      const slot = slots.get(key)
      if (slot !== undefined) {
        slot.value = value
        return
      }
      if (slots.size >= size) evict()
      slots.set(key, { value, used: false })
    },
    get size() {
      return slots.size
    },
  }
}
