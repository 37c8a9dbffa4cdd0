import { isIP, isIPv4, isIPv6 } from 'node:net'

/** Address on which a server listens. */
export interface ListenAddress {
  /** Address or host name; an IPv6 address has no brackets. */
  readonly host: string
  /** Port; 0 means any free port. */
  readonly port: number
}

/** Parses `127.0.0.1:8080`, `localhost:0` or `[::]:8080`; returns undefined for anything else. */
export function parseListen(text: string): ListenAddress | undefined {
  const match = /^(?:\[([^\]]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})$/.exec(text)
  if (match === null) return undefined
  const [, ipv6, name, digits] = match
  const port = Number(digits)
  if (port > 65_535 || (ipv6 !== undefined && !isIPv6(ipv6))) return undefined
  return { host: ipv6 ?? name!, port }
}

export function formatListen({ host, port }: ListenAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/** Returns true if only this machine can reach a listener on this host. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))
}

/** Returns true if others on the network path could read and change the traffic: plain http to another machine. */
export function isOpenToTheWay(url: string): boolean {
  if (!URL.canParse(url)) return false
  const { protocol, hostname } = new URL(url)
  return protocol === 'http:' && !isLoopback(hostname.replace(/^\[|\]$/g, ''))
}

/** A block of addresses, both ends included. IPv4 is a number, IPv6 eight numbers of 16 bits. */
export type AddressRange =
  | { readonly family: 4; readonly first: number; readonly last: number }
  | { readonly family: 6; readonly first: Words; readonly last: Words }

type Words = readonly number[]

/**
 * Parses an address or a CIDR block; IPv4-mapped IPv6 becomes IPv4. `exact` is false when bits are set after the
 * prefix, as in `10.1.2.3/8`; `network` is then the block that was probably meant.
 */
export function parseRange(
  text: string,
): { range: AddressRange; exact: boolean; network: string } | undefined {
  const slash = text.indexOf('/')
  const address = slash < 0 ? text : text.slice(0, slash)
  if (isIP(address) === 0 || address.includes('%')) return undefined
  const length = slash < 0 ? undefined : text.slice(slash + 1)
  if (length !== undefined && !/^(0|[1-9][0-9]{0,2})$/.test(length)) return undefined
  const words: number[] = isIPv4(address) ? [0, 0, 0, 0, 0, 0xffff, 0, 0] : new Array(8).fill(0)
  if (isIPv4(address)) words.splice(6, 2, ...halves(ipv4Number(address)))
  else readIPv6(address, words)
  // All addresses are IPv6 up to here, where an IPv4 prefix is 96 bits longer.
  const prefix = length === undefined ? 128 : Number(length) + (isIPv4(address) ? 96 : 0)
  if (prefix > 128) return undefined
  const first = words.map((word, i) => word & maskWord(prefix, i))
  const last = words.map((word, i) => word | (~maskWord(prefix, i) & 0xffff))
  const exact = words.every((word, i) => word === first[i])
  if (prefix < 96 || !isMapped(first)) {
    return { range: { family: 6, first, last }, exact, network: `${formatIPv6(first)}/${prefix}` }
  }
  const bytes = first.slice(6).flatMap((word) => [word >> 8, word & 0xff])
  const range = { family: 4, first: lowNumber(first), last: lowNumber(last) } as const
  return { range, exact, network: `${bytes.join('.')}/${prefix - 96}` }
}

/**
 * Compiles blocks into a test for an address: a binary search in ranges that are sorted and merged once. The test
 * accepts any text, such as an entry of X-Forwarded-For; text that is no address is in no block.
 */
export function compileAddressSet(blocks: readonly string[]): (address: string) => boolean {
  const ranges = blocks.map((block) => parseRange(block)?.range).filter((range) => range !== undefined)
  if (ranges.length === 0) return () => false
  const v4 = join(
    ranges.filter((range) => range.family === 4),
    compareNumbers,
  )
  const v6 = join(
    ranges.filter((range) => range.family === 6),
    compareWords,
  )
  const words: number[] = new Array(8).fill(0)
  return (address) => {
    if (isIPv4(address)) return contains(v4, ipv4Number(address), compareNumbers)
    // The longest spelling of an IPv6 address without a zone has 45 characters.
    if (address.length > 45 || !isIPv6(address) || address.includes('%')) return false
    readIPv6(address, words)
    return isMapped(words)
      ? contains(v4, lowNumber(words), compareNumbers)
      : contains(v6, words, compareWords)
  }
}

/**
 * Returns the network of an IPv6 address that one subscriber has (a /64, RFC 6177), or the IPv4 address that it
 * carries.
 *
 * @param address valid IPv6 without a zone
 */
export function subscriberNetwork(address: string): string {
  const words: number[] = new Array(8).fill(0)
  readIPv6(address, words)
  if (isMapped(words))
    return words
      .slice(6)
      .flatMap((word) => [word >> 8, word & 0xff])
      .join('.')
  return `${words
    .slice(0, 4)
    .map((word) => word.toString(16))
    .join(':')}::/64`
}

interface Range<T> {
  readonly first: T
  readonly last: T
}

type Compare<T> = (a: T, b: T) => number

/** Sorts ranges and merges those that overlap, so that at most one range can contain an address. */
function join<T>(ranges: readonly Range<T>[], compare: Compare<T>): readonly Range<T>[] {
  const joined: { first: T; last: T }[] = []
  for (const { first, last } of [...ranges].sort((a, b) => compare(a.first, b.first))) {
    const before = joined.at(-1)
    if (before === undefined || compare(first, before.last) > 0) joined.push({ first, last })
    else if (compare(last, before.last) > 0) before.last = last
  }
  return joined
}

function contains<T>(ranges: readonly Range<T>[], value: T, compare: Compare<T>): boolean {
  let low = 0
  let high = ranges.length
  while (low < high) {
    const middle = (low + high) >>> 1
    const range = ranges[middle]!
    if (compare(value, range.first) < 0) high = middle
    else if (compare(value, range.last) > 0) low = middle + 1
    else return true
  }
  return false
}

function compareNumbers(a: number, b: number): number {
  return a - b
}

function compareWords(a: Words, b: Words): number {
  for (let i = 0; i < 8; i++) if (a[i] !== b[i]) return a[i]! - b[i]!
  return 0
}

/** Returns the number of a valid dotted IPv4 address that begins at `start`. */
function ipv4Number(text: string, start = 0): number {
  let number = 0
  let byte = 0
  for (let i = start; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code === 0x2e) {
      number = number * 256 + byte
      byte = 0
    } else byte = byte * 10 + code - 0x30
  }
  return number * 256 + byte
}

/** Reads a valid IPv6 address without a zone into `words`. */
function readIPv6(text: string, words: number[]): void {
  let count = 0
  let gap = -1
  let start = 0
  for (let i = 0; i <= text.length; i++) {
    const code = i === text.length ? 0x3a : text.charCodeAt(i)
    if (code === 0x2e) {
      const [high, low] = halves(ipv4Number(text, start))
      words[count++] = high
      words[count++] = low
      break
    }
    if (code !== 0x3a) continue
    if (i > start) words[count++] = hexNumber(text, start, i)
    else if (i > 0 && i < text.length) gap = count
    start = i + 1
  }
  if (gap < 0) return
  for (let from = count - 1, to = 7; to >= gap; to--, from--) words[to] = from >= gap ? words[from]! : 0
}

function hexNumber(text: string, start: number, end: number): number {
  let value = 0
  for (let i = start; i < end; i++) {
    const code = text.charCodeAt(i)
    value = value * 16 + (code <= 0x39 ? code - 0x30 : (code | 0x20) - 0x57)
  }
  return value
}

/** Returns true for IPv4-mapped IPv6 (`::ffff:1.2.3.4`), but not for the deprecated `::1.2.3.4`. */
function isMapped(words: Words): boolean {
  return (
    words[5] === 0xffff &&
    words[0] === 0 &&
    words[1] === 0 &&
    words[2] === 0 &&
    words[3] === 0 &&
    words[4] === 0
  )
}

function lowNumber(words: Words): number {
  return words[6]! * 65_536 + words[7]!
}

function halves(number: number): readonly [high: number, low: number] {
  return [Math.floor(number / 65_536), number % 65_536]
}

function maskWord(prefix: number, index: number): number {
  const bits = Math.min(16, Math.max(0, prefix - index * 16))
  return (0xffff_0000 >> bits) & 0xffff
}

/** Formats an IPv6 address in its short form (RFC 5952), as URLs write it. */
function formatIPv6(words: Words): string {
  return new URL(`http://[${words.map((word) => word.toString(16)).join(':')}]`).hostname.slice(1, -1)
}
