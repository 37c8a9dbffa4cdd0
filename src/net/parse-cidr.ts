/**
 * Parses addresses and blocks into 32-bit numbers without allocating: one for IPv4, four for IPv6. Meant for lookups on
 * every request and for lists of a hundred thousand entries.
 */
export type Family = 4 | 6

/** A block of addresses, or one address: all addresses that share the first `length` bits. */
export interface Block {
  /** Family of the block; 0: none has been read. */
  family: Family | 0
  /** Address words; IPv4 uses the first. Bits after `length` are 0. */
  readonly words: Uint32Array
  length: number
}

export function createBlock(): Block {
  return { family: 0, words: new Uint32Array(4), length: 0 }
}

/**
 * Fault in the text of a block: not a block at all, or bits set after the prefix (the block is read without those
 * bits).
 */
export type BlockFault = 'malformed' | 'inexact'

const DOT = 0x2e
const COLON = 0x3a
const ZERO = 0x30
/** Characters of the longest spelling of an IPv6 address. */
const LONGEST = 45

const groups = new Uint16Array(8)
let dotted = 0

/**
 * Reads an address; IPv4-mapped IPv6 (`::ffff:192.0.2.1`) becomes IPv4. Accepts any text: returns 0 for text that is no
 * address or has a zone.
 *
 * @param words array of length 4; its content is undefined when 0 is returned
 */
export function readAddress(text: string, words: Uint32Array): Family | 0 {
  const { length } = text
  if (length < 2 || length > LONGEST) return 0
  if (readDotted(text, 0, length)) {
    words[0] = dotted
    return 4
  }
  if (!readGroups(text, length)) return 0
  for (let i = 0; i < 4; i++) words[i] = groups[2 * i]! * 65_536 + groups[2 * i + 1]!
  if (words[0] === 0 && words[1] === 0 && words[2] === 0xffff) {
    words[0] = words[3]!
    return 4
  }
  return 6
}

/** Reads `203.0.113.0/24`, `2001:db8::/32` or a single address into a block. */
export function readBlock(text: string, block: Block): BlockFault | undefined {
  const { words } = block
  const slash = text.lastIndexOf('/')
  const address = slash < 0 ? text : text.slice(0, slash)
  const family = readAddress(address, words)
  block.family = 0
  if (family === 0) return 'malformed'
  const most = family === 4 ? 32 : 128
  let length = most
  if (slash >= 0) {
    const digits = text.slice(slash + 1)
    if (!/^(?:0|[1-9][0-9]{0,2})$/.test(digits)) return 'malformed'
    length = Number(digits)
    // The prefix of an IPv4 address written as IPv6 is 96 bits longer.
    if (family === 4 && address.includes(':')) length -= 96
    if (length < 0 || length > most) return 'malformed'
  }
  block.family = family
  block.length = length
  return clear(words, family === 4 ? 1 : 4, length) ? undefined : 'inexact'
}

/**
 * Clears the bits after a prefix.
 *
 * @returns true if none of them was set
 */
function clear(words: Uint32Array, count: number, length: number): boolean {
  let exact = true
  for (let i = 0; i < count; i++) {
    const bits = Math.min(32, Math.max(0, length - 32 * i))
    const kept = bits === 0 ? 0 : (words[i]! & (0xffff_ffff << (32 - bits))) >>> 0
    if (kept !== words[i]) exact = false
    words[i] = kept
  }
  return exact
}

/** Formats a block as `203.0.113.0/24` or `2001:db8::/32` (RFC 5952). A single address has its length, too. */
export function formatBlock({ family, words, length }: Block): string {
  if (family !== 6) return `${writeIPv4(words)}/${length}`
  const parts = [...words].map((word) => `${(word >>> 16).toString(16)}:${(word & 0xffff).toString(16)}`)
  // The short form, as URLs write it.
  return `${new URL(`http://[${parts.join(':')}]`).hostname.slice(1, -1)}/${length}`
}

/** Formats an IPv4 address, which is in the first word. */
export function writeIPv4([word = 0]: Uint32Array): string {
  return `${word >>> 24}.${(word >>> 16) & 255}.${(word >>> 8) & 255}.${word & 255}`
}

/** Makes a block of what one subscriber has: an IPv4 address, or the /64 of an IPv6 address (RFC 6177). */
export function setSubscriber(block: Block, family: Family, words: Uint32Array): void {
  block.family = family
  block.words.set(words)
  block.length = family === 4 ? 32 : 64
  if (family === 6) block.words.fill(0, 2)
}

/** Reads dotted IPv4. Refuses leading zeros: some programs take those for octal. */
function readDotted(text: string, from: number, end: number): boolean {
  let value = 0
  let part = 0
  let digits = 0
  let parts = 1
  for (let i = from; i < end; i++) {
    const code = text.charCodeAt(i)
    if (code === DOT) {
      if (digits === 0 || parts === 4) return false
      value = value * 256 + part
      parts++
      part = 0
      digits = 0
      continue
    }
    const digit = code - ZERO
    if (digit < 0 || digit > 9 || (digits > 0 && part === 0)) return false
    part = part * 10 + digit
    digits++
    if (part > 255) return false
  }
  if (parts !== 4 || digits === 0) return false
  dotted = value * 256 + part
  return true
}

/** Reads eight groups of hexadecimal digits. `::` replaces some of them, and the last two may be dotted IPv4. */
function readGroups(text: string, end: number): boolean {
  let count = 0
  let gap = -1
  let i = 0
  if (text.charCodeAt(0) === COLON) {
    if (text.charCodeAt(1) !== COLON) return false
    gap = 0
    i = 2
  }
  while (i < end) {
    if (count === 8) return false
    const start = i
    let value = 0
    for (; i < end; i++) {
      const code = text.charCodeAt(i)
      const digit = code < 128 ? DIGITS[code]! : -1
      if (digit < 0) break
      value = value * 16 + digit
    }
    if (i === start) return false
    if (i < end && text.charCodeAt(i) === DOT) {
      if (count > 6 || !readDotted(text, start, end)) return false
      groups[count++] = dotted >>> 16
      groups[count++] = dotted & 0xffff
      break
    }
    if (i - start > 4) return false
    groups[count++] = value
    if (i === end) break
    if (text.charCodeAt(i++) !== COLON || i === end) return false
    if (text.charCodeAt(i) !== COLON) continue
    if (gap >= 0) return false
    gap = count
    i++
  }
  if (gap < 0) return count === 8
  if (count > 7) return false
  groups.copyWithin(gap + 8 - count, gap, count)
  groups.fill(0, gap, gap + 8 - count)
  return true
}

/** Value of each character as a hexadecimal digit; below 0 if it is none. */
const DIGITS = new Int8Array(128).fill(-1)
for (let value = 0; value < 16; value++) {
  const digit = value.toString(16)
  DIGITS[digit.charCodeAt(0)] = value
  DIGITS[digit.toUpperCase().charCodeAt(0)] = value
}
