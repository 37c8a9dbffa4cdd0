import { addressKey } from '../../net/address-key.js'

/** Wrong tokens that an address may send within the period below, before it has to wait for the end of that period. */
const MOST = 10
const WINDOW_MS = 60_000
/** Most addresses that are remembered; beyond that, the oldest are forgotten. */
const MOST_ADDRESSES = 10_000

interface Failures {
  readonly until: number
  count: number
  last: Buffer
}

/**
 * Counts wrong tokens by address; an IPv6 address counts as its /64.
 *
 * @param now returns the current time in Unix ms
 */
export function createFailedTokens(now: () => number) {
  const failures = new Map<string, Failures>()

  function of(network: string): Failures | undefined {
    const found = failures.get(network)
    if (found === undefined || found.until > now()) return found
    failures.delete(network)
    return undefined
  }

  return {
    /** Returns the ms until the address may try again; 0 means now. */
    waitFor(address: string): number {
      const found = of(addressKey(address))
      return found === undefined || found.count < MOST ? 0 : found.until - now()
    },
    /**
     * Counts a wrong token.
     *
     * @param digest digest of the token: the same one again is not another guess, but a client with an old token
     */
    add(address: string, digest: Buffer): void {
      const network = addressKey(address)
      const found = of(network)
      if (found === undefined) {
        const [first] = failures.keys()
        if (failures.size >= MOST_ADDRESSES && first !== undefined) failures.delete(first)
        failures.set(network, { until: now() + WINDOW_MS, count: 1, last: digest })
      } else if (!found.last.equals(digest)) {
        found.count++
        found.last = digest
      }
    },
  }
}
