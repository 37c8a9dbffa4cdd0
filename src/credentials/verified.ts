import type { VerificationKey } from './keys.js'

/** Most tokens that are kept, half of them recent, and most characters in all. */
const MOST = { tokens: 50_000, characters: 32 * 1024 * 1024 }
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
 * Remembers tokens that were found valid. The whole text is compared: two tokens that differ in one character are two.
 * When the younger half is full it becomes the older half, and tokens not used since are forgotten. Only valid tokens
 * are added, so that strangers cannot fill it.
 */
export interface VerifiedTokens<T> {
  get(token: string, now: number): Entry<T> | undefined
  set(token: string, entry: Entry<T>): void
}

interface Held<T> {
  readonly token: string
  readonly entry: Entry<T>
}

export function createVerifiedTokens<T>(most = MOST): VerifiedTokens<T> {
  let younger = new Map<string, Held<T>>()
  let older = new Map<string, Held<T>>()
  let characters = 0

  function put(tail: string, held: Held<T>): void {
    characters -= younger.get(tail)?.token.length ?? 0
    if (younger.size >= most.tokens / 2 || characters + held.token.length > most.characters / 2) {
      older = younger
      younger = new Map()
      characters = 0
    }
    younger.set(tail, held)
    characters += held.token.length
  }

  return {
    get(token, now) {
      const tail = token.slice(-TAIL)
      const young = younger.get(tail)
      const held = young ?? older.get(tail)
      if (held === undefined || held.token !== token) return undefined
      const { entry } = held
      if (now < entry.until && !entry.key.gone) {
        if (young === undefined) {
          older.delete(tail)
          put(tail, held)
        }
        return entry
      }
      if (young === undefined) older.delete(tail)
      else {
        younger.delete(tail)
        characters -= token.length
      }
      return undefined
    },
    set(token, entry) {
      // Copied: a slice of a request header would keep the whole header in memory. A valid token is ASCII.
      const own = Buffer.from(token, 'latin1').toString('latin1')
      put(own.slice(-TAIL), { token: own, entry })
    },
  }
}
