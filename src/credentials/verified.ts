import { createGenerations, type Most } from './generations.js'
import type { VerificationKey } from './keys.js'

/** Most tokens that are kept, half of them recent, and most characters in all. */
const MOST: Most = { entries: 50_000, size: 32 * 1024 * 1024 }
/**
 * Characters at the end of a token that serve as its lookup key: most or all of any signature. Hashing the whole of a
 * long token would take longer than everything else.
 */
const TAIL = 64

export interface Entry<T> {
  readonly value: T
  /** Unix ms from which the token is no longer valid. */
  readonly until: number
  /** Key that the token was signed with. */
  readonly key: VerificationKey
}

/**
 * Remembers tokens that were found valid, and forgets those not used lately when there are too many. The whole text is
 * compared: two tokens that differ in one character are two. Only valid tokens are added, so that strangers cannot fill
 * it.
 */
export type VerifiedTokens<T> = ReturnType<typeof createVerifiedTokens<T>>

interface Held<T> {
  readonly token: string
  readonly entry: Entry<T>
}

export function createVerifiedTokens<T>(most = MOST) {
  const held = createGenerations<Held<T>>(most, ({ token }) => token.length)

  return {
    get(token: string, now: number): Entry<T> | undefined {
      const tail = token.slice(-TAIL)
      const found = held.get(tail)
      if (found === undefined || found.token !== token) return undefined
      const { entry } = found
      if (now < entry.until && !entry.key.gone) return entry
      held.delete(tail)
      return undefined
    },
    set(token: string, entry: Entry<T>): void {
      // Copied: a slice of a request header would keep the whole header in memory. A valid token is ASCII.
      const own = Buffer.from(token, 'latin1').toString('latin1')
      held.set(own.slice(-TAIL), { token: own, entry })
    },
  }
}
