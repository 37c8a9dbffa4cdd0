import { isIP, isIPv4, isIPv6 } from 'node:net'

/** Where a server listens. */
export interface ListenAddress {
  /** An address or a name, an IPv6 address without its brackets. */
  readonly host: string
  /** 0: any free port. */
  readonly port: number
}

/** `127.0.0.1:8080`, `localhost:0`, `[::]:8080`; undefined for anything else. */
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

/** Whether only this machine can reach a listener on this host. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))
}

/** Both ends of a block of addresses. IPv4 as a number, IPv6 as 32 hex digits, so that both compare with `<`. */
export type AddressRange =
  | { readonly family: 4; readonly first: number; readonly last: number }
  | { readonly family: 6; readonly first: string; readonly last: string }

/**
 * An address or a CIDR block, IPv4-mapped IPv6 as IPv4. `exact` is false when bits are set behind the prefix, as
 * in `10.1.2.3/8`; `network` is then the block that was probably meant.
 */
export function parseRange(
  text: string,
): { range: AddressRange; exact: boolean; network: string } | undefined {
  const slash = text.indexOf('/')
  const address = slash < 0 ? text : text.slice(0, slash)
  if (isIP(address) === 0 || address.includes('%')) return undefined
  const length = slash < 0 ? undefined : text.slice(slash + 1)
  if (length !== undefined && !/^(0|[1-9][0-9]{0,2})$/.test(length)) return undefined
  const bytes = addressBytes(address)
  // A mapped block reaches to the end of its IPv4 block, so only the length changes.
  const bits = isIPv6(address) ? 128 : 32
  if (length !== undefined && Number(length) > bits) return undefined
  const prefix = (length === undefined ? bits : Number(length)) - (bits - bytes.length * 8)
  if (prefix < 0) return undefined
  const first = bytes.map((byte, i) => byte & maskByte(prefix, i))
  const last = bytes.map((byte, i) => byte | (~maskByte(prefix, i) & 0xff))
  const exact = bytes.every((byte, i) => byte === first[i])
  const network = `${formatAddress(first)}/${prefix}`
  if (bytes.length === 4)
    return { range: { family: 4, first: toNumber(first), last: toNumber(last) }, exact, network }
  return { range: { family: 6, first: toHex(first), last: toHex(last) }, exact, network }
}

/**
 * Whether an address is in any of the blocks: a binary search in ranges that were sorted and joined once. Takes
 * any text, since it is asked about what stands in X-Forwarded-For; what is no address is in no block.
 */
export function compileAddressSet(blocks: readonly string[]): (address: string) => boolean {
  const ranges = blocks.map((block) => parseRange(block)?.range).filter((range) => range !== undefined)
  if (ranges.length === 0) return () => false
  const v4 = join(ranges.filter((range) => range.family === 4))
  const v6 = join(ranges.filter((range) => range.family === 6))
  return (address) => {
    if (isIPv4(address)) return contains(v4, ipv4Number(address))
    // 45 characters are the longest spelling of an IPv6 address without a zone.
    if (address.length > 45 || address.includes('%') || !isIPv6(address)) return false
    if (address.startsWith('::ffff:') && isIPv4(address.slice(7)))
      return contains(v4, ipv4Number(address.slice(7)))
    const bytes = addressBytes(address)
    return bytes.length === 4 ? contains(v4, toNumber(bytes)) : contains(v6, toHex(bytes))
  }
}

/**
 * The 4 or 16 bytes of a text that is known to be an address without a zone; 4 for IPv4-mapped IPv6, too, but not
 * for the outdated `::1.2.3.4`, which is another address.
 */
function addressBytes(address: string): readonly number[] {
  if (isIPv4(address)) return address.split('.').map(Number)
  const [head = '', tail] = address.split('::')
  const front = groupBytes(head)
  const back = tail === undefined ? [] : groupBytes(tail)
  const bytes = [...front, ...new Array<number>(16 - front.length - back.length).fill(0), ...back]
  return bytes.every((byte, i) => i >= 12 || byte === (i < 10 ? 0 : 0xff)) ? bytes.slice(12) : bytes
}

function groupBytes(groups: string): readonly number[] {
  if (groups === '') return []
  return groups.split(':').flatMap((group) => {
    if (group.includes('.')) return group.split('.').map(Number)
    const value = Number.parseInt(group, 16)
    return [value >> 8, value & 0xff]
  })
}

/** IPv6 in its short form (RFC 5952), as URLs write it. */
function formatAddress(bytes: readonly number[]): string {
  if (bytes.length === 4) return bytes.join('.')
  const groups = Array.from({ length: 8 }, (_, i) => (bytes[2 * i]! * 256 + bytes[2 * i + 1]!).toString(16))
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1)
}

interface Range<T> {
  readonly first: T
  readonly last: T
}

/** Sorts, and joins what overlaps, so that at most one range can hold an address. */
function join<T extends number | string>(ranges: readonly Range<T>[]): readonly Range<T>[] {
  const joined: { first: T; last: T }[] = []
  for (const range of [...ranges].sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0))) {
    const before = joined.at(-1)
    if (before === undefined || range.first > before.last)
      joined.push({ first: range.first, last: range.last })
    else if (range.last > before.last) before.last = range.last
  }
  return joined
}

function contains<T extends number | string>(ranges: readonly Range<T>[], value: T): boolean {
  let low = 0
  let high = ranges.length
  while (low < high) {
    const middle = (low + high) >>> 1
    const range = ranges[middle]!
    if (value < range.first) high = middle
    else if (value > range.last) low = middle + 1
    else return true
  }
  return false
}

/** Of a text that is known to be dotted IPv4, without allocating. */
function ipv4Number(text: string): number {
  let number = 0
  let byte = 0
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code === 0x2e) {
      number = number * 256 + byte
      byte = 0
    } else byte = byte * 10 + code - 0x30
  }
  return number * 256 + byte
}

function maskByte(prefix: number, index: number): number {
  const bits = Math.min(8, Math.max(0, prefix - index * 8))
  return (0xff00 >> bits) & 0xff
}

function toNumber(bytes: readonly number[]): number {
  return bytes.reduce((number, byte) => number * 256 + byte, 0)
}

function toHex(bytes: readonly number[]): string {
  return bytes.map((byte) => byte.toString(16).padStart(2, '0')).join('')
}
