import type { Limit } from '../config/snapshot.js'
import type { Counts } from './window.js'

/** Reads what lua/take.lua stores; its contract block has the layout. */

const B = 2 ** 25
const BYTES_PER_LIMIT = 12

/**
 * @param expires unix ms of the key's expiry, which for a single limit tells the window that the value only has mod 8
 * @param now unix ms by the clock that the counts were written by
 * @returns undefined when there is nothing, or nothing that can be read
 */
export function decodeCounts(
  limits: readonly Limit[],
  value: Buffer | null,
  expires: number,
  now: number,
): Counts | undefined {
  if (value === null) return undefined
  const [first] = limits
  if (limits.length === 1 && first !== undefined) return decodeOne(first, value, expires, now)
  if (value.length !== limits.length * BYTES_PER_LIMIT) return undefined
  return limits.flatMap((limit, i) => {
    const at = i * BYTES_PER_LIMIT
    const current = Math.floor(now / limit.windowMs)
    // The stored number is modulo 2^32: the window nearest to the present one is meant.
    const passed = (current - value.readUInt32BE(at)) | 0
    return [current - passed, value.readUInt32BE(at + 4), value.readUInt32BE(at + 8)]
  })
}

function decodeOne(limit: Limit, value: Buffer, expires: number, now: number): Counts | undefined {
  const packed = Number(value.toString('latin1'))
  if (!Number.isSafeInteger(packed) || packed < 0) return undefined
  const previous = packed % B
  const rest = (packed - previous) / B
  const current = rest % B
  const present = Math.floor(now / limit.windowMs)
  const same = (rest - current) / B === present % 8
  return [same ? present : Math.floor(expires / limit.windowMs) - 2, current, previous]
}
