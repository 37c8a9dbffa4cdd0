import { randomFillSync } from 'node:crypto'
import type { AddressRate } from '../../config/snapshot/edge.js'
import type { Family } from '../../net/parse-cidr.js'

const WAYS = 8
/** Key word that no source address of IPv6 begins with. It marks IPv4. */
const IPV4 = 0xffff_ffff

/**
 * Token bucket for each address, IPv6 by its /64, in a table of fixed size. A bucket stores only the time at which it
 * will be full again (the theoretical arrival time of GCRA, ITU-T I.371), so a slot is 16 bytes.
 *
 * An unknown address has a full bucket, so a forgotten address gets a fresh one. An address may use eight slots. If all
 * are taken, the fullest bucket there makes room: a drained one stays as long as any other of the eight has more,
 * however many addresses come by. To be forgotten, an address would have to drain seven others in the same eight slots.
 * Which those are depends on a random number of each process.
 */
export type AddressBuckets = ReturnType<typeof createAddressBuckets>

/**
 * Creates the buckets.
 *
 * @param addresses fewest addresses remembered; rounded up to a power of two
 */
export function createAddressBuckets(
  addresses: number,
  seed: number = randomFillSync(new Uint32Array(1))[0]!,
) {
  const slots = Math.max(WAYS, 2 ** Math.ceil(Math.log2(addresses)))
  const mask = slots / WAYS - 1
  const highs = new Uint32Array(slots)
  const lows = new Uint32Array(slots)
  /** Time at which the bucket is full again; 0 for a free slot. */
  const fullAt = new Float64Array(slots)

  /** Returns the slot of an address, or the one that it may take. */
  function slotOf(high: number, low: number): number {
    const first = (hashOf(high, low, seed) & mask) * WAYS
    let fullest = first
    for (let slot = first; slot < first + WAYS; slot++) {
      if (lows[slot] === low && highs[slot] === high) return slot
      if (fullAt[slot]! < fullAt[fullest]!) fullest = slot
    }
    return fullest
  }

  const isOf = (slot: number, high: number, low: number) => lows[slot] === low && highs[slot] === high

  return {
    /**
     * Takes one token.
     *
     * @param words the address, as `readAddress` returns it
     * @param now ms of a clock that only goes forward, from 1 on
     * @returns ms until a token is available; 0 if it was taken
     */
    take(family: Family, words: Uint32Array, { each, burst }: AddressRate, now: number): number {
      const high = family === 4 ? IPV4 : words[0]!
      const low = family === 4 ? words[0]! : words[1]!
      const slot = slotOf(high, low)
      const full = isOf(slot, high, low) ? Math.max(fullAt[slot]!, now) : now
      const wait = full + each - now - burst * each
      // Half a microsecond: the error of times with 15 digits.
      if (wait > 0.0005) return wait
      highs[slot] = high
      lows[slot] = low
      fullAt[slot] = full + each
      return 0
    },
    /** Fills the bucket again. */
    forget(family: Family, words: Uint32Array): void {
      const high = family === 4 ? IPV4 : words[0]!
      const low = family === 4 ? words[0]! : words[1]!
      const slot = slotOf(high, low)
      if (isOf(slot, high, low)) fullAt[slot] = 0
    },
    bytes: highs.byteLength + lows.byteLength + fullAt.byteLength,
  }
}

/** Finalizer of MurmurHash3 over both words. */
function hashOf(high: number, low: number, seed: number): number {
  let hash = seed ^ Math.imul(high, 0xcc9e2d51)
  hash = Math.imul(hash ^ (hash >>> 15), 0x1b873593) ^ low
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return hash ^ (hash >>> 16)
}
