import { createHash } from 'node:crypto'

/** The nonces of signatures that were accepted, so that none is twice. */
export interface SeenNonces {
  /**
   * @param window ms for which a signature can be accepted at all
   * @param most how many are kept
   * @param now Unix ms
   * @returns whether this one is new; it is not, from now on
   */
  isNew(keyid: string, nonce: string, window: number, most: number, now: number): boolean
  /** Whether `isNew` would say that it is not. Changes nothing. */
  has(keyid: string, nonce: string, window: number, now: number): boolean
}

/**
 * In this process: two sets, of which the younger one takes what comes and takes the other one's place when it is full or a
 * window old. So each nonce is known for a window at least, unless more than half of the most come within one. Some 40 bytes each: what
 * is kept is 48 bits of a hash, so that of a million one in 300 million new ones is taken for known.
 */
export function createSeenNonces(): SeenNonces {
  let young = new Set<number>()
  let old = new Set<number>()
  let since = Number.NEGATIVE_INFINITY

  function replace(older: Set<number>, now: number): void {
    old = older
    young = new Set()
    since = now
  }

  return {
    isNew(keyid, nonce, window, most, now) {
      const hash = hashOf(keyid, nonce)
      // First what is over: or where nobody comes with a new one, the old ones would be known for ever.
      if (now - since >= window) replace(now - since >= 2 * window ? new Set() : young, now)
      if (young.has(hash) || old.has(hash)) return false
      if (young.size >= most / 2) replace(young, now)
      young.add(hash)
      return true
    },
    has(keyid, nonce, window, now) {
      const hash = hashOf(keyid, nonce)
      const age = now - since
      return (age < 2 * window && young.has(hash)) || (age < window && old.has(hash))
    },
  }
}

function hashOf(keyid: string, nonce: string): number {
  return createHash('sha256').update(`${keyid.length} ${keyid}${nonce}`).digest().readUIntBE(0, 6)
}
