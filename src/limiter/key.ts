import { createHash } from 'node:crypto'

/**
 * Formats counter keys: `rl:<service>:{<consumer>}:<policy>`. The hash tag contains the consumer only. So what one
 * consumer has used of every service is in one Cluster slot, and a service spreads over all slots.
 */

const COLON = 0x3a
const TILDE = 0x7e
const LONGEST_PLAIN = 64

/** Returns true for printable ASCII without braces and colons that does not look like a hash. */
function isPlain(id: string): boolean {
  if (id.length === 0 || id.length > LONGEST_PLAIN || id.charCodeAt(0) === TILDE) return false
  for (let i = 0; i < id.length; i++) {
    const code = id.charCodeAt(i)
    if (code < 0x20 || code > 0x7e || code === 0x7b || code === 0x7d || code === COLON) return false
  }
  return true
}

/**
 * Returns the consumer's part of the key, ASCII and at most 64 characters: the id itself, or `~` and 132 bits of its
 * SHA-256 if the id is empty, longer than 64 characters, begins with `~`, or contains a brace, a colon, a control or a
 * non-ASCII character. No hash equals a plain id, since no plain id begins with `~`.
 */
export function consumerPart(id: string): string {
  if (isPlain(id)) return id
  return `~${createHash('sha256').update(id).digest('base64url').slice(0, 22)}`
}

export function limitKey(service: string, consumerPart: string, policyPart: string): string {
  return `rl:${service}:{${consumerPart}}:${policyPart}`
}

/** CRC16-XMODEM of each byte. */
const CRC = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8
  for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1
  return crc
})

/** Returns the Redis Cluster slot for the hash tag `tag` (ASCII): CRC16-XMODEM modulo 16384. */
export function slotOf(tag: string): number {
  let crc = 0
  for (let i = 0; i < tag.length; i++) crc = (crc << 8) ^ CRC[((crc >> 8) ^ tag.charCodeAt(i)) & 0xff]!
  return crc & 0x3fff
}

/** Returns the Redis Cluster slot of a key from `limitKey`. */
export function slotOfKey(key: string): number {
  const begin = key.indexOf('{') + 1
  return slotOf(key.slice(begin, key.indexOf('}', begin)))
}
