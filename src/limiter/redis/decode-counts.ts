import type { Limit } from '../../config/snapshot/limit.js'
import type { Counts } from '../algorithms/algorithm.js'
import { ALGORITHMS } from '../algorithms/by-name.js'

/** Reads what the scripts store. */

const B = 2 ** 25

/**
 * Decodes the value of a key.
 *
 * @param expires unix ms of the key's expiry. The value has the window of a single sliding limit only modulo 8. It
 *   means the matching window nearest to the expiry.
 * @param now unix ms by the clock that the counts were written by
 * @returns undefined for an empty or unreadable value
 */
export function decodeCounts(
  limits: readonly Limit[],
  value: Buffer | null,
  expires: number,
  now: number,
): Counts | undefined {
  if (value === null) return undefined
  const [first] = limits
  if (limits.length === 1 && first?.algorithm === 'sliding') return decodeOne(first, value, expires)
  const layouts = limits.map(({ algorithm }) => ALGORITHMS[algorithm].stored)
  if (value.length !== layouts.reduce((size, { bytes }) => size + bytes, 0)) return undefined
  let at = 0
  return limits.flatMap((limit, i) => {
    const counts = layouts[i]!.read(value, at, limit, now)
    at += layouts[i]!.bytes
    return counts
  })
}

function decodeOne(limit: Limit, value: Buffer, expires: number): Counts | undefined {
  const packed = Number(value.toString('latin1'))
  if (!Number.isSafeInteger(packed) || packed < 0) return undefined
  const previous = packed % B
  const rest = (packed - previous) / B
  const about = Math.round(expires / limit.windowMs) - 2
  const further = (((Math.floor(rest / B) - about) % 8) + 8) % 8
  return [about + (further > 3 ? further - 8 : further), rest % B, previous]
}
