import { isIPv4, isIPv6 } from 'node:net'
import { subscriberNetwork } from './addresses.js'

/**
 * Returns the plain form of an address. An IPv4 address that came over an IPv6 socket (`::ffff:1.2.3.4`) becomes IPv4.
 * The zone of a link-local address (`fe80::1%eth0`) is dropped: it is local to this machine, and no list, limit or ban
 * contains it.
 */
export function plainAddress(address: string): string {
  const zone = address.indexOf('%')
  if (zone >= 0) return plainAddress(address.slice(0, zone))
  if (!address.startsWith('::ffff:') || !address.includes('.')) return address
  const rest = address.slice(7)
  // `::ffff:1:192.0.2.1` is an IPv6 address of its own, not an IPv4 one.
  return rest.includes(':') ? address : rest
}

const known = new Map<string, string>()
const MOST_KNOWN = 10_000

/**
 * Returns the id under which an address is counted. IPv4 stays as it is, also when written as IPv6
 * (`::ffff:192.0.2.1`). IPv6 becomes its /64: one subscriber gets a /64 and can pick from its 2^64 addresses. Other
 * text stays as it is.
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

/** Returns true if a text is a result of `addressKey`. */
export function isAddressKey(text: string): boolean {
  if (isIPv4(text)) return true
  return text.endsWith('::/64') && isIPv6(text.slice(0, -3)) && addressKey(text.slice(0, -3)) === text
}
