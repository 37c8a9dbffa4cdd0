import type { Bans } from '../../fleet/bans.js'
import type { Keyring } from '../../fleet/keyring.js'
import type { Exchange } from '../exchange/exchange.js'

interface Objection {
  /** For the log. */
  readonly cause: string
  /** For the client, if it should know: what its next request would be told, in less than 123 bytes. */
  readonly reason?: string
}

interface StayDeps {
  /** Returns the ban that holds for an address now, if there is one. */
  readonly banOf: (address: string) => string | undefined
  readonly keyring?: Pick<Keyring, 'goodUntil'> | undefined
  /** Returns the current time in Unix ms. */
  readonly unixTime?: (() => number) | undefined
}

/** Ms after which a tunnel that a token opened is checked again: no event says that an issuer has taken a key back. */
const LOOK_AT_KEYS = 10_000

/** Decides whether an accepted client may stay. A request is over soon, a tunnel may last for ever. */
export type SessionRevocation = ReturnType<typeof createSessionRevocation>

export function createSessionRevocation({ banOf, keyring, unixTime: now = Date.now }: StayDeps) {
  function ofCredential({ keyId, token }: Exchange): Objection | undefined {
    const time = now()
    if (keyId !== undefined && keyring !== undefined) {
      const end = keyring.goodUntil(keyId)
      if (end === undefined) return { cause: 'its API key is no longer valid' }
      if (end <= time) return { cause: 'its API key has expired', reason: 'The API key has expired.' }
    }
    if (token === undefined) return undefined
    if (token.until <= time) return { cause: 'its token has expired', reason: 'The token has expired.' }
    return token.signedWith.gone ? { cause: 'the issuer of its token has withdrawn the key' } : undefined
  }

  return {
    /**
     * Returns why the client may not stay.
     *
     * @returns undefined: it may
     */
    objection(x: Exchange): Objection | undefined {
      const found = ofCredential(x)
      if (found !== undefined) return found
      const cause = banOf(x.clientIp)
      return cause === undefined ? undefined : { cause }
    },
    /**
     * Returns the Unix ms at which `objection` must be called again, whatever else happens. Infinite if only a change can
     * make a difference.
     */
    askAgainAt({ keyId, token }: Exchange): number {
      if (token !== undefined) return Math.min(token.until, now() + LOOK_AT_KEYS)
      return (keyId === undefined ? undefined : keyring?.goodUntil(keyId)) ?? Number.POSITIVE_INFINITY
    },
    /** Returns the current time in Unix ms. */
    now,
  }
}

/** How long changes are gathered, in ms: there may be many tunnels to check, and many bans in a flood. */
const GATHER_MS = 200

/** Calls back when an accepted client may have been banned, or its API key revoked. */
export function onRevocation(
  {
    bans,
    keyring,
  }: { bans?: Pick<Bans, 'onBanned'> | undefined; keyring?: Pick<Keyring, 'onChange'> | undefined },
  turnAway: () => void,
): void {
  let awaited = false
  const soon = (): void => {
    if (awaited) return
    awaited = true
    const look = (): void => {
      awaited = false
      turnAway()
    }
    setTimeout(look, GATHER_MS).unref()
  }
  bans?.onBanned(soon)
  keyring?.onChange(soon)
}
