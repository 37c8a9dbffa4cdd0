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
  /** Whether it would be refused. Changes nothing. */
  has(keyid: string, nonce: string): boolean
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
  return {
    isNew(keyid, nonce, window, most, now) {
      const hash = hashOf(keyid, nonce)
      if (young.has(hash) || old.has(hash)) return false
      if (now - since >= window || young.size >= most / 2) {
        // Twice a window without any: the older ones are of no use either.
        old = now - since >= 2 * window ? new Set() : young
        young = new Set()
        since = now
      }
      young.add(hash)
      return true
    },
    has(keyid, nonce) {
      const hash = hashOf(keyid, nonce)
      return young.has(hash) || old.has(hash)
    },
  }
}

function hashOf(keyid: string, nonce: string): number {
  return createHash('sha256').update(`${keyid.length} ${keyid}${nonce}`).digest().readUIntBE(0, 6)
}
