import type { VerificationKey } from './keys.js'

/** Tokens that are held at most, half of them of late; and of their characters. */
const MOST = { tokens: 50_000, characters: 32 * 1024 * 1024 }
/**
 * Characters at the end of a token that it is looked up by: of every signature the greater part, or the whole. Hashing all of a
 * long token would take longer than everything else.
 */
const TAIL = 64

export interface Entry<T> {
  readonly value: T
  /** Unix ms from which it is good no longer. */
  readonly until: number
  /** What it was signed with. */
  readonly key: VerificationKey
}

/**
 * Tokens that were found good. The whole text counts: two that differ in one character are two. When the younger half is
 * full it becomes the older one, and what nobody has asked for since is forgotten. Only good tokens come in, so that
 * strangers cannot fill it.
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
      // A copy: what is cut out of a request's header would hold on to the whole of it. A good token is ASCII.
      const own = Buffer.from(token, 'latin1').toString('latin1')
      put(own.slice(-TAIL), { token: own, entry })
    },
  }
}
