/**
 * Memory of Redis, as jemalloc hands it out: in steps of 16 bytes up to 128, and four to each doubling beyond. It agrees with every row
 * of `npm run bench:memory` (Redis 8.0).
 */

/** Entries of the two hash tables of a key: of keys, and of expiries. */
const ENTRIES = 2 * 32
const SLOTS = 16_384

function allocated(bytes) {
  if (bytes <= 128) return 16 * Math.ceil(bytes / 16)
  const step = 2 ** (Math.floor(Math.log2(bytes - 1)) - 2)
  return step * Math.ceil(bytes / step)
}

/** Returns the bytes of a key with its value and expiry, without its places in hash tables. */
export function bytesOfKey(keyLength, valueBytes) {
  const key = allocated(keyLength + 1 + (keyLength < 32 ? 1 : 3))
  const value = valueBytes === 0 ? 16 : allocated(16 + 3 + valueBytes + 1)
  return key + value + ENTRIES
}

/**
 * Returns the bytes of both hash tables of a server: 8 for each place, and the places of a table are a power of two. A server of a
 * Cluster has tables for each of its slots.
 */
export function bytesOfTables(keys, primaries = 1) {
  const tables = primaries > 1 ? SLOTS / primaries : 1
  return keys < 1 ? 0 : tables * 2 * 8 * 2 ** Math.ceil(Math.log2(Math.max(4, keys / tables)))
}
