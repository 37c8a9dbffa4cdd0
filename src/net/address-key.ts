import { isIPv4 } from 'node:net'
import { readAddress, writeIPv4 } from './parse-cidr.js'

/** Address of a client that connects to a unix socket. It is in no block, and `trusted_proxies` may name it. */
export const UNIX_PEER = 'unix'

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
const words = new Uint32Array(4)
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
    const family = readAddress(zone < 0 ? address : address.slice(0, zone), words)
    id = family === 0 ? address : family === 4 ? writeIPv4(words) : `${halves(0)}:${halves(1)}::/64`
    if (known.size >= MOST_KNOWN) known.clear()
    known.set(address, id)
  }
  return id
}

/**
 * Returns the function that maps an address to the caller of its shares: the address itself, or its /64. A trusted proxy
 * stands for many callers, and is exempt.
 */
export function callerByAddress(isTrustedProxy: (address: string) => boolean) {
  return (address: string): string | undefined => {
    const plain = plainAddress(address)
    return isTrustedProxy(plain) ? undefined : addressKey(plain)
  }
}

function halves(index: 0 | 1): string {
  const word = words[index]!
  return `${(word >>> 16).toString(16)}:${(word & 0xffff).toString(16)}`
}

/** Returns true if a text is a result of `addressKey`. */
export function isAddressKey(text: string): boolean {
  return isIPv4(text) || (text.endsWith('::/64') && addressKey(text.slice(0, -3)) === text)
}
