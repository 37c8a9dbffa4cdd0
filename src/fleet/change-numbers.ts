/** Changes that are remembered as their message told them. */
const TOLD = 1000

/**
 * Tracks the numbers of the changes of a map, as far as a gateway knows them. Messages about changes may be late,
 * missing, or of a store that has forgotten them since.
 */
export function createChangeNumbers() {
  /** Latest changes, by number, that were accepted without asking the store. */
  const told = new Map<number, string>()
  /** Keys set by a message whose number the store has not reached yet, with that number. */
  const unproven = new Map<string, number>()
  /**
   * Keys that messages have changed since the last poll began, with the greatest number. What the poll read of them may
   * be older.
   */
  const heard = new Map<string, number>()
  /** Changes since the last poll whose number was known already. For a store that has forgotten, they are new. */
  let late: [number: number, key: string][] = []

  const numbers = {
    /** Number of the change up to which the held values are complete; -1 while they are not. */
    version: -1,
    /** Greatest number that the store itself reported, or that messages reported before a connection was lost. */
    proven: -1,
    /**
     * True if everything is to be loaded. It is separate from `version`, so that a load in progress does not clear a
     * later request.
     */
    loadAnew: true,
    /** Begins a poll. Returns the changes since the last poll whose number was known already. */
    beginPoll(): readonly (readonly [number: number, key: string])[] {
      heard.clear()
      const lately = late
      late = []
      return lately
    },
    /** Records that the store has reported this number. */
    reached(number: number): void {
      for (const [key, one] of unproven) if (one <= number) unproven.delete(key)
    },
    /** Returns the keys that messages have changed since the last poll began, with numbers after this one. */
    newerThan: (number: number) => [...heard].filter(([, one]) => one > number),
    /** Returns true if a message has changed the key since the last poll began, with a number after this one. */
    isNewer: (key: string, number: number) => (heard.get(key) ?? -1) > number,
    /** Returns true for a key set by a message whose number the store has not reached yet. */
    isUnproven: (key: string) => unproven.has(key),
    /** Returns true if a message has set a key whose number the store has not reached yet. */
    awaitsProof: () => unproven.size > 0,
    /** Makes the held values complete up to this number, except for newer changes. */
    restart(number: number, newer: readonly (readonly [key: string, number: number])[] = []): void {
      numbers.version = number
      // A message that came during the load may have taken a number that the store gives to another change.
      const kept = newer.flatMap(([, one]) => (told.has(one) ? [[one, told.get(one)!] as const] : []))
      told.clear()
      for (const [one, change] of kept) told.set(one, change)
      unproven.clear()
      for (const [key, one] of newer) if (one > numbers.proven) unproven.set(key, one)
    },
    /**
     * Takes a change from a message or from the reply to our own write. Either may arrive after something newer has
     * been read. If two changes with the same number differ, one of them is not the store's: everything is loaded
     * again.
     *
     * @returns true if the value is to be held
     */
    take(number: number, key: string, text: string): boolean {
      const change = `${key}\n${text}`
      const before = told.get(number)
      const isNew = number > numbers.version
      if (!isNew && before === change) return false
      if (isNew) {
        heard.set(key, Math.max(number, heard.get(key) ?? -1))
        if (number > numbers.proven) unproven.set(key, number)
      } else {
        late.push([number, key])
        if (late.length > TOLD) late.shift()
      }
      if (before !== undefined && before !== change) {
        numbers.loadAnew = true
        for (const one of [key, before.slice(0, before.indexOf('\n'))])
          unproven.set(one, Number.POSITIVE_INFINITY)
      }
      if (!isNew) return false
      if (number !== numbers.version + 1) return true
      numbers.version = number
      told.set(number, change)
      if (told.size > TOLD) told.delete(told.keys().next().value!)
      return true
    },
    /**
     * Records that a connection was lost or made again. Changes from earlier messages count as the store's own: it had
     * them, even if it has lost them since. On a connection that lasts, a number that the store does not have was never
     * its own.
     */
    believe(): void {
      numbers.proven = Math.max(numbers.proven, numbers.version)
      for (const [key, number] of unproven) if (number !== Number.POSITIVE_INFINITY) unproven.delete(key)
    },
  }
  return numbers
}
