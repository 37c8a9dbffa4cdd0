import type { Limit } from '../../config/snapshot/limit.js'
import type { Counts } from '../algorithms/algorithm.js'
import { periodAt } from '../algorithms/period.js'

/** Reads what the scripts store. The contract blocks of lua/take.lua and lua/algorithms.lua describe the layout. */

const B = 2 ** 25
const PARTS = 16

interface Layout {
  readonly bytes: number
  read(value: Buffer, at: number, limit: Limit, now: number): Counts
}

/** Returns the number for one stored modulo 2^32: the nearest to the present one. */
function whole(stored: number, present: number): number {
  return present - ((present - stored) | 0)
}

const uint32s = (value: Buffer, at: number, count: number) =>
  Array.from({ length: count }, (_, i) => value.readUInt32BE(at + 4 * i))

/** Returns the layout of a window number for windows of `width` ms, followed by uint32 counts. */
function numbered(counts: number, width: (limit: Limit) => number): Layout {
  return {
    bytes: 4 + 4 * counts,
    read(value, at, limit, now) {
      const present = Math.floor(now / width(limit))
      return [whole(value.readUInt32BE(at), present), ...uint32s(value, at + 4, counts)]
    },
  }
}

const subBuckets = numbered(1 + PARTS, ({ windowMs }) => Math.ceil(windowMs / PARTS))

const LAYOUTS: Readonly<Record<Limit['algorithm'], Layout>> = {
  sliding: numbered(2, ({ windowMs }) => windowMs),
  fixed: numbered(1, ({ windowMs }) => windowMs),
  strict: subBuckets,
  concurrency: subBuckets,
  token_bucket: { bytes: 16, read: (value, at) => [value.readDoubleBE(at), value.readDoubleBE(at + 8)] },
  calendar: {
    bytes: 8,
    read: (value, at, { calendar }, now) => [...uint32s(value, at, 2), periodAt(calendar!, now).end],
  },
}

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
  const layouts = limits.map(({ algorithm }) => LAYOUTS[algorithm])
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
