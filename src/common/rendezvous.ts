/**
 * Consistent hashing by the highest score (rendezvous, Thaler and Ravishankar 1998): every upstream, or member of a split, draws a number from
 * the key, and the highest wins. When one goes, only its own keys move, each to its second best upstream, so that all
 * others get a part of them. When a weight grows, keys move to that upstream only. There is no table to build, and
 * gateways agree without communication.
 */

/** Returns a hash of 32 bits of a text (FNV-1a over its UTF-16 units). */
export function hashText(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return mix(hash)
}

/** Spreads a change in any bit over all of them (the end of MurmurHash3). */
function mix(hash: number): number {
  let h = hash
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/**
 * Returns the index of the upstream that has the key.
 *
 * @param seeds `hashText` of each upstream's address
 * @param weights 0 for those that are passed over; at least one is not 0
 */
export function bestFor(key: number, seeds: ArrayLike<number>, weights: ArrayLike<number>): number {
  let best = -1
  let highest = Number.NEGATIVE_INFINITY
  for (let i = 0; i < seeds.length; i++) {
    const weight = weights[i]!
    if (weight === 0) continue
    // Between 0 and 1, both excluded. With -weight / ln(draw), each one wins in proportion to its weight.
    const draw = (mix(key ^ seeds[i]!) + 0.5) / 0x1_0000_0000
    const score = -weight / Math.log(draw)
    if (score > highest) {
      highest = score
      best = i
    }
  }
  return best
}
