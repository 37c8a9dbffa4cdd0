import { performance } from 'node:perf_hooks'
import type { ErrorCode } from '../../errors.js'
import type { Ban, Bans } from '../../fleet/bans.js'
import { throttledWarning } from '../../log-throttle.js'
import { createBlock, type Family, formatBlock, readAddress, setSubscriber } from '../../net/parse-cidr.js'
import type { Exchange } from '../exchange/exchange.js'
import { type AddressBuckets, createAddressBuckets } from './address-buckets.js'

export interface AutoBanDeps {
  readonly bans: Bans
  /** Shares a ban with all gateways. Without it, or if it fails, the ban is valid on this gateway only. */
  readonly share?: ((block: string, ban: Ban) => Promise<void>) | undefined
  readonly log: { warn(fields: object, message: string): void }
  /** Clock in ms that only goes forward. */
  readonly clock?: (() => number) | undefined
  /** Clock in unix ms. */
  readonly now?: (() => number) | undefined
}

/** Number of refused addresses counted: 1 MiB for each of the two reasons, once one is refused. */
const ADDRESSES = 65_536

/**
 * Counts refusals as they are decided: a client that sends many requests at once must not have them all decided before
 * one is counted. Bans the address (IPv6 by its /64) that continues after it was refused.
 */
export function autoBan(deps: AutoBanDeps) {
  const { bans, share, log, clock = () => performance.now(), now = Date.now } = deps
  const words = new Uint32Array(4)
  const block = createBlock()
  let denials: AddressBuckets | undefined
  let failures: AddressBuckets | undefined
  const warn = throttledWarning(log)

  function ban(x: Exchange, family: Family, buckets: AddressBuckets, why: string): void {
    const { autoBan, allowed } = x.snapshot.edge
    if (x.snapshot.isTrustedProxy(x.clientIp)) return
    if (allowed !== undefined && allowed.match(family, words, 0) !== 0) return
    // These requests were in progress when the ban was made.
    if (bans.match(family, words) !== undefined) return
    const { max, forMs, share: forAll } = autoBan!
    if (bans.counts().auto >= max) {
      warn({ client: x.clientIp, max }, 'an address was not banned: edge.auto_ban.max is reached')
      return
    }
    setSubscriber(block, family, words)
    const key = formatBlock(block)
    const since = now()
    const made = { source: 'auto', since, until: since + forMs, reason: why } as const
    bans.add(key, made)
    buckets.forget(family, words)
    warn({ block: key, reason: why, for_ms: forMs }, 'an address was banned for a while')
    if (!forAll || share === undefined) return
    share(key, made).catch((error: Error) => {
      warn(
        { block: key, error: error.message },
        'a ban holds on this gateway only: the store did not accept it',
      )
    })
  }

  return function autoBan(x: Exchange, code: ErrorCode): void {
    const settings = x.snapshot.edge.autoBan
    if (settings === undefined) return
    if (code === 'unauthorized') {
      if (!hasCredential(x)) return
      failures ??= createAddressBuckets(ADDRESSES)
      const family = readAddress(x.clientIp, words)
      if (family === 0 || failures.take(family, words, settings.authFailures, clock()) === 0) return
      ban(x, family, failures, 'it kept sending invalid credentials')
    } else if (code === 'quota_exceeded' || code === 'address_limited') {
      denials ??= createAddressBuckets(ADDRESSES)
      const family = readAddress(x.clientIp, words)
      if (family === 0 || denials.take(family, words, settings.denials, clock()) === 0) return
      ban(x, family, denials, 'it kept sending requests after it was limited')
    }
  }
}

/**
 * Returns true if the request has a credential. Without one, no key was guessed. Also, any page can make its visitors'
 * browsers send requests without one, for example for pictures, until their address is banned. For a custom header, a
 * browser asks the gateway first (CORS).
 */
function hasCredential({ headers, secured }: Exchange): boolean {
  return headers.identity.length > 0 || secured?.certificate !== undefined
}
