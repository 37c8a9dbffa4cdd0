import { createHash } from 'node:crypto'

/** Remembers the nonces of accepted signatures, so that each one is accepted once. */
export type SeenNonces = ReturnType<typeof createSeenNonces>

/**
 * Creates the nonces of one process, as two sets. New nonces go into the younger set. When it is full or a window old,
 * it replaces the older one. So each nonce is known for at least a window, unless more than half of `most` arrive
 * within one. A nonce takes about 40 bytes: 48 bits of a hash are kept, so that with a million nonces one new one in
 * 300 million is mistaken for known.
 */
export function createSeenNonces() {
  let young = new Set<number>()
  let old = new Set<number>()
  let since = Number.NEGATIVE_INFINITY

  function replace(older: Set<number>, now: number): void {
    old = older
    young = new Set()
    since = now
  }

  return {
    /**
     * Returns true if the nonce is new, and remembers it.
     *
     * @param window ms for which a signature can be accepted at all
     * @param most most nonces that are kept
     * @param now Unix ms
     */
    isNew(keyid: string, nonce: string, window: number, most: number, now: number): boolean {
      const hash = hashOf(keyid, nonce)
      // Expired sets go first: without new nonces, the old ones would otherwise be kept for ever.
      if (now - since >= window) replace(now - since >= 2 * window ? new Set() : young, now)
      if (young.has(hash) || old.has(hash)) return false
      if (young.size >= most / 2) replace(young, now)
      young.add(hash)
      return true
    },
    /** Returns true if the nonce is known. Changes nothing. */
    has(keyid: string, nonce: string, window: number, now: number): boolean {
      const hash = hashOf(keyid, nonce)
      const age = now - since
      return (age < 2 * window && young.has(hash)) || (age < window && old.has(hash))
    },
  }
}

function hashOf(keyid: string, nonce: string): number {
  return createHash('sha256').update(`${keyid.length} ${keyid}${nonce}`).digest().readUIntBE(0, 6)
}
