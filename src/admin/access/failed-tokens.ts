import { isIPv6 } from 'node:net'
import { subscriberNetwork } from '../../net/addresses.js'

/** Wrong tokens that an address may send within the time below, before it has to wait for its end. */
const MOST = 10
const WINDOW_MS = 60_000
/** Addresses that are remembered; of more, the ones that began first are forgotten. */
const MOST_ADDRESSES = 10_000

export interface FailedTokens {
  /** Ms until the address may try again; 0: now. */
  waitFor(address: string): number
  /** @param digest of the token that was wrong: the same one again is no other guess, but a client with an old token */
  add(address: string, digest: Buffer): void
}

interface Failures {
  readonly until: number
  count: number
  last: Buffer
}

/** Counts wrong tokens by address, an IPv6 one by its /64. @param now unix ms */
export function createFailedTokens(now: () => number): FailedTokens {
  const failures = new Map<string, Failures>()

  function of(network: string): Failures | undefined {
    const found = failures.get(network)
    if (found === undefined || found.until > now()) return found
    failures.delete(network)
    return undefined
  }

  return {
    waitFor(address) {
      const found = of(networkOf(address))
      return found === undefined || found.count < MOST ? 0 : found.until - now()
    },
    add(address, digest) {
      const network = networkOf(address)
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

function networkOf(address: string): string {
  const [bare = ''] = address.split('%')
  return isIPv6(bare) ? subscriberNetwork(bare) : bare
}
