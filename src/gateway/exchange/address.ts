import { isIPv4, isIPv6 } from 'node:net'
import { plainAddress } from '../../net/address-key.js'
import type { Exchange } from './exchange.js'
import { fieldOf } from './header-list.js'

/**
 * Returns the client's address: the socket's, then right to left through X-Forwarded-For as long as a trusted proxy
 * wrote the entry. Entries left of the first untrusted address may be forged and are not read.
 */
export function clientAddress(
  peer: string,
  forwardedFor: string | undefined,
  isTrusted: (address: string) => boolean,
): string {
  let client = plainAddress(peer)
  if (forwardedFor === undefined || !isTrusted(client)) return client
  let end = forwardedFor.length
  while (end > 0) {
    const start = forwardedFor.lastIndexOf(',', end - 1)
    const entry = entryAddress(forwardedFor.slice(start + 1, end).trim())
    // A trusted proxy wrote something that is not an address. The last known address stands for the client.
    if (entry === undefined) return client
    client = entry
    if (!isTrusted(client)) return client
    end = start
  }
  return client
}

/**
 * Returns the client's address from a CDN's header, if `edge.cdn` names one, otherwise from X-Forwarded-For. These
 * headers are only present if a trusted proxy sent them.
 */
export function clientOf({ snapshot, headers, peer }: Exchange): string {
  const { isTrustedProxy: isTrusted, edge } = snapshot
  const { address, portBehind, ownEntries } = edge.cdn
  const { cdn, forwardedFor } = headers
  const told = address === undefined ? undefined : fieldOf(cdn, address)
  if (told !== undefined) {
    const text = told.trim()
    const client = entryAddress(portBehind && !text.endsWith(']') ? withoutPort(text) : text)
    if (client !== undefined) return client
  }
  if (ownEntries > 0 && forwardedFor !== undefined && isTrusted(plainAddress(peer))) {
    const entry = forwardedFor.split(',').at(-1 - ownEntries)
    const client = entry === undefined ? undefined : entryAddress(entry.trim())
    if (client !== undefined) return client
  }
  return clientAddress(peer, forwardedFor, isTrusted)
}

/** Removes the port: `2001:db8::1:443` has it after the last colon. */
function withoutPort(text: string): string {
  const colon = text.lastIndexOf(':')
  return colon < 0 ? text : text.slice(0, colon)
}

const ENTRY = /^(?:\[([0-9a-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([0-9a-f:.]*:[0-9a-f:.]*))$/i

/** Parses `1.2.3.4`, `1.2.3.4:5678`, `2001:db8::1`, `[2001:db8::1]:443`; never with a zone. */
function entryAddress(text: string): string | undefined {
  if (text.length > 60) return undefined
  const [, bracketed, ipv4, ipv6 = bracketed] = ENTRY.exec(text) ?? []
  if (ipv4 !== undefined) return isIPv4(ipv4) ? ipv4 : undefined
  return ipv6 !== undefined && isIPv6(ipv6) ? plainAddress(ipv6) : undefined
}
