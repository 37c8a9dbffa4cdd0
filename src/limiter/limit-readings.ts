import { type Limit, standing } from '../config/snapshot/limit.js'
import type { LimitGroup } from '../config/snapshot/policy.js'
import type { Counts } from './algorithms/algorithm.js'
import { ALGORITHMS } from './algorithms/by-name.js'

/** State of a policy's limits when a request was decided, before it was charged. */
export interface Counted {
  /** Unix ms, by the clock of the process or server that counted. */
  readonly at: number
  /** COUNTED numbers for each limit of the policy, in its order. */
  readonly numbers: readonly number[]
}

/**
 * Numbers per limit: what it allows (in the mode `local`, a gateway's share), what was left, ms until it resets, and
 * for a sliding window what was used in it and in the one before (otherwise 0). A leading -1 means that the limit was
 * not evaluated.
 */
export const COUNTED = 5
const B = 2 ** 25

/** Returns room for every limit of the policy that the parts belong to, as far as they show it. */
function blank(parts: readonly LimitGroup[]): number[] {
  // A single part has all the limits.
  let count = parts.length === 1 ? parts[0]!.limits.length : 0
  if (parts.length > 1) for (const { indices } of parts) count = Math.max(count, indices.at(-1)! + 1)
  const numbers: number[] = []
  for (let i = 0; i < count * COUNTED; i++) numbers.push(-1)
  return numbers
}

/** Puts the numbers of a limit to their place. */
function put(numbers: number[], index: number, ...own: readonly number[]): void {
  for (let k = 0; k < COUNTED; k++) numbers[index * COUNTED + k] = own[k]!
}

/** Reads counts in this process, without changing them. */
export function countedIn(parts: readonly LimitGroup[], counts: readonly Counts[], now: number): Counted {
  const numbers = blank(parts)
  parts.forEach(({ limits, indices }, k) => {
    const own = [...counts[k]!]
    let o = 0
    limits.forEach((one, i) => {
      const limit = standing(one, now)
      const algorithm = ALGORITHMS[limit.algorithm]
      const ahead = algorithm.roll(limit, own, o, now)
      const free = algorithm.free(limit, own, o, now + ahead)
      const resetMs = ahead + algorithm.reset(limit, own, o, now + ahead)
      const isSliding = limit.algorithm === 'sliding'
      const [used, before] = [isSliding ? own[o + 1]! : 0, isSliding ? own[o + 2]! : 0]
      put(numbers, indices[i]!, limit.burst, free, resetMs, used, before)
      o += algorithm.size
    })
  })
  return { at: now, numbers }
}

/** Joins what several servers have shown of the limits of one policy. */
export function joinCounted(all: readonly Counted[]): Counted {
  const numbers: number[] = []
  let at = 0
  for (const one of all) {
    at = Math.max(at, one.at)
    for (let k = 0; k < one.numbers.length; k += COUNTED) {
      if ((numbers[k] ?? -1) === -1) numbers.splice(k, COUNTED, ...one.numbers.slice(k, k + COUNTED))
    }
  }
  return { at, numbers }
}

/** Returns how many integers the state of the limits adds to a reply, after the verdict. */
export function countedSize(parts: readonly LimitGroup[], plain: boolean): number {
  let limits = 0
  for (const part of parts) limits += part.limits.length
  return limits * (plain ? 2 : 4)
}

/** Reads the reply of take.lua (plain) or take_mixed.lua. Their contracts describe the format. */
export function readCounted(
  parts: readonly LimitGroup[],
  plain: boolean,
  reply: readonly number[],
  from: number,
): Counted {
  const now = reply[0]!
  if (plain) return { at: now, numbers: plainNumbers(parts[0]!.limits, reply, from) }
  const numbers = blank(parts)
  let at = from
  for (const { limits, indices } of parts) {
    for (let i = 0; i < limits.length; i++) {
      put(numbers, indices[i]!, standing(limits[i]!, now).burst, ...reply.slice(at, at + 4))
      at += 4
    }
  }
  return { at: now, numbers }
}

/** Reads one part, whose limits are those of the policy, in its order. */
function plainNumbers(limits: readonly Limit[], reply: readonly number[], from: number): number[] {
  const numbers: number[] = []
  for (let i = 0; i < limits.length; i++) {
    const { amount, burst, windowMs } = limits[i]!
    const packed = reply[from + 2 * i]!
    const resetMs = reply[from + 2 * i + 1]!
    const before = packed % B
    const used = (packed - before) / B
    // Where the clock has stepped back, the window begins later, and is read as at its beginning.
    const share = Math.min(resetMs, windowMs)
    const free = Math.floor(((amount - used) * windowMs - before * share) / windowMs)
    numbers.push(burst, free, resetMs, used, before)
  }
  return numbers
}
