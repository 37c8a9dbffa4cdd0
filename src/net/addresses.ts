import { isIPv4, isIPv6 } from 'node:net'
import { createBlock, readAddress, readBlock } from './parse-cidr.js'
import { createPrefixTrie } from './prefix-trie.js'

/** Address on which a server listens. */
export interface ListenAddress {
  /** Address or host name; an IPv6 address has no brackets. */
  readonly host: string
  /** Port; 0 means any free port. */
  readonly port: number
}

/** Parses `127.0.0.1:8080`, `localhost:0`, `[::]:8080` or `:8080`, the same; returns undefined for anything else. */
export function parseListen(text: string): ListenAddress | undefined {
  const match = /^(?:\[([^\]]+)\]|([A-Za-z0-9.-]*)):([0-9]{1,5})$/.exec(text)
  if (match === null) return undefined
  const [, ipv6, name, digits] = match
  const port = Number(digits)
  if (port > 65_535 || (ipv6 !== undefined && !isIPv6(ipv6))) return undefined
  return { host: ipv6 ?? (name || '::'), port }
}

/** A unix socket on which a server listens. */
export interface UnixAddress {
  readonly path: string
  /** Permissions of the file. */
  readonly mode: number
}

export function formatListen({ host, port }: ListenAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/** Returns true if only this machine can reach a listener on this host. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))
}

/** Returns true if others on the network path could read and change the traffic: plain http to another machine. */
export function isExposedOnTheWay(url: string): boolean {
  if (!URL.canParse(url)) return false
  const { protocol, hostname } = new URL(url)
  return protocol === 'http:' && !isLoopback(hostname.replace(/^\[|\]$/g, ''))
}

/**
 * Compiles blocks into a test for an address. The test accepts any text, such as an entry of X-Forwarded-For; text that
 * is no address is in no block.
 */
export function compileAddressSet(blocks: readonly string[]): (address: string) => boolean {
  if (blocks.length === 0) return () => false
  const set = createPrefixTrie()
  const block = createBlock()
  const { words } = block
  for (const text of blocks) {
    if (readBlock(text, block) !== 'malformed') set.set(block, Number.POSITIVE_INFINITY)
  }
  return (address) => {
    const family = readAddress(address, words)
    return family !== 0 && set.match(family, words, 0) !== 0
  }
}
