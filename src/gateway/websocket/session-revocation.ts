import type { Keyring } from '../../fleet/keyring.js'
import type { Exchange } from '../exchange/exchange.js'

/** Whether somebody who was let in is to stay. A request is over soon, a tunnel may never be. */
export interface Stay {
  /** @returns undefined: it may go on */
  objection(x: Exchange): Objection | undefined
  /** Unix ms at which `objection` is to be asked again, whatever else happens; infinite where only a change can make a difference. */
  askAgainAt(x: Exchange): number
  /** Unix ms. */
  now(): number
}

export interface Objection {
  /** For the log. */
  readonly cause: string
  /** For the client, where it is to know: what a request of its would be told, in less than 123 bytes. */
  readonly reason?: string
}

export interface StayDeps {
  /** Of an address: which ban holds for it now, if one does. */
  readonly banOf: (address: string) => string | undefined
  readonly keyring?: Pick<Keyring, 'goodUntil'> | undefined
  /** Unix ms. */
  readonly unixTime?: (() => number) | undefined
}

/** Ms after which a tunnel that a token has opened is looked at again: nobody tells when an issuer takes a key back. */
const LOOK_AT_KEYS = 10_000

export function createStay({ banOf, keyring, unixTime: now = Date.now }: StayDeps): Stay {
  function ofCredential({ keyId, token }: Exchange): Objection | undefined {
    const time = now()
    if (keyId !== undefined && keyring !== undefined) {
      const end = keyring.goodUntil(keyId)
      if (end === undefined) return { cause: 'its API key does not hold any more' }
      if (end <= time) return { cause: 'its API key has expired', reason: 'The API key has expired.' }
    }
    if (token === undefined) return undefined
    if (token.until <= time) return { cause: 'its token has expired', reason: 'The token has expired.' }
    return token.signedWith.gone ? { cause: "its token's issuer has taken the key back" } : undefined
  }

  return {
    objection(x) {
      const found = ofCredential(x)
      if (found !== undefined) return found
      const cause = banOf(x.clientIp)
      return cause === undefined ? undefined : { cause }
    },
    askAgainAt({ keyId, token }) {
      if (token !== undefined) return Math.min(token.until, now() + LOOK_AT_KEYS)
      return (keyId === undefined ? undefined : keyring?.goodUntil(keyId)) ?? Number.POSITIVE_INFINITY
    },
    now,
  }
}
