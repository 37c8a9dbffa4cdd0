import { isIPv4, isIPv6 } from 'node:net'
import { subscriberNetwork } from './addresses.js'

/**
 * An IPv4 address that came over an IPv6 socket (`::ffff:1.2.3.4`) is the IPv4 address. The zone of a link-local one (`fe80::1%eth0`)
 * is this machine's own name for the way there: no list, limit or ban knows it.
 */
export function plainAddress(address: string): string {
  const zone = address.indexOf('%')
  if (zone >= 0) return plainAddress(address.slice(0, zone))
  if (!address.startsWith('::ffff:') || !address.includes('.')) return address
  const rest = address.slice(7)
  // `::ffff:1:192.0.2.1` is an address of its own, and what it ends in is none.
  return rest.includes(':') ? address : rest
}

const known = new Map<string, string>()
const MOST_KNOWN = 10_000

/**
 * Returns the id under which an address is counted: IPv4 as it is, also where it is written as IPv6 (`::ffff:192.0.2.1`), and
 * IPv6 by its /64, which is what one subscriber gets and can pick 2^64 addresses from. Other text stays as it is.
 */
export function addressKey(address: string): string {
  if (!address.includes(':')) return address
  let id = known.get(address)
  if (id === undefined) {
    const zone = address.indexOf('%')
    const bare = zone < 0 ? address : address.slice(0, zone)
    id = isIPv6(bare) ? subscriberNetwork(bare) : address
    if (known.size >= MOST_KNOWN) known.clear()
    known.set(address, id)
  }
  return id
}

/** Whether a text is what `addressKey` makes of an address. */
export function isAddressKey(text: string): boolean {
  if (isIPv4(text)) return true
  return text.endsWith('::/64') && isIPv6(text.slice(0, -3)) && addressKey(text.slice(0, -3)) === text
}
