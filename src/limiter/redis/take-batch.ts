import type { LimitGroup } from '../../config/snapshot/policy.js'
import { countedSize, readCounted } from '../limit-readings.js'
import type { Decision, DegradedReason } from '../limiter.js'
import type { Shard } from './node.js'
import { lengthWithoutForeign, TAKE_REPLY } from './scripts.js'

/** Store's decision on one request. Its limits are numbered over the parts that were asked. */
export interface Verdict extends Decision {
  /** `performance.now()` when the request was sent. */
  readonly sentAt: number
}

/** Request that waits for its verdict. */
export interface WaitingTake {
  /** Key of each part, in one Cluster slot. */
  readonly keys: readonly string[]
  readonly parts: readonly LimitGroup[]
  readonly cost: number
  /** True if take.lua can decide it, which is faster. Otherwise take_mixed.lua does. */
  readonly plain: boolean
  /**
   * True if equal requests may be sent as one. Those that take slots may not: a slot is 1, whatever the cost. Nor may those
   * that show the state of their limits.
   */
  readonly mergeable: boolean
  /** True if the verdict has to show the state of the limits even if it allows the request. */
  readonly shows: boolean
  /** Cluster slot; 0 without a Cluster. */
  readonly slot: number
  readonly shard: Shard
  /** Called once. A reason means that the store did not decide. */
  readonly answer: (verdict: Verdict | DegradedReason) => void
  /** Equal requests after this one that are sent with it. */
  others: WaitingTake[] | undefined
  /** Number of requests that it stands for. */
  count: number
}

/**
 * Merges requests (all plain, or all mixed) for the same keys and cost, as long as no other request for one of these
 * keys comes between: the order is first come, first served, as if each was sent by itself.
 */
export function mergeEqual(all: readonly WaitingTake[]): readonly WaitingTake[] {
  const latest = new Map<string, WaitingTake>()
  const left: WaitingTake[] = []
  for (const asked of all) {
    const before = latest.get(asked.keys[0]!)
    if (
      before !== undefined &&
      isEqual(before, asked) &&
      asked.keys.every((key) => latest.get(key) === before)
    ) {
      before.count++
      if (before.others === undefined) before.others = [asked]
      else before.others.push(asked)
    } else {
      for (const key of asked.keys) latest.set(key, asked)
      left.push(asked)
    }
  }
  return left
}

function isEqual(a: WaitingTake, b: WaitingTake): boolean {
  return (
    a.mergeable && b.mergeable && a.cost === b.cost && a.parts === b.parts && a.keys.length === b.keys.length
  )
}

/** Answers a request, and those merged into it. */
export function answerAll(asked: WaitingTake, verdict: Verdict | DegradedReason): void {
  asked.answer(verdict)
  if (asked.others !== undefined) for (const other of asked.others) other.answer(verdict)
}

/**
 * Returns true if a reply is a valid answer of take.lua or take_mixed.lua to these requests, or the time alone. Another
 * server than expected, or an attacker on the way, may send anything. An impossible reply must not grant quota.
 */
export function isReply(all: readonly WaitingTake[], reply: unknown): reply is readonly number[] {
  if (!Array.isArray(reply) || reply.length === 0) return false
  for (let i = 0; i < reply.length; i++) if (!Number.isSafeInteger(reply[i])) return false
  if (reply.length === 1) return true
  const length = lengthWithoutForeign(reply)
  if (length < reply.length) {
    let keys = 0
    for (const one of all) keys += one.keys.length
    for (let i = length; i < reply.length; i++) if (-reply[i]! > keys) return false
  }
  let at = 1
  for (const { parts, plain, count, shows } of all) {
    let limits = 0
    let most = Number.POSITIVE_INFINITY
    for (const part of parts) {
      limits += part.limits.length
      for (const limit of part.limits) {
        // The server's clock may be past a change that this process has not reached yet.
        let burst = limit.burst
        for (let later = limit.next; later !== undefined; later = later.limit.next)
          if (later.limit.burst > burst) burst = later.limit.burst
        if (burst < most) most = burst
      }
    }
    const denialSize = TAKE_REPLY + countedSize(parts, plain)
    const allowedSize = shows ? denialSize : TAKE_REPLY
    if (plain && count === 1) {
      const allowed = (reply[at] & 1) === 1
      if (!isVerdict(reply, at, allowed, limits, most)) return false
      at += allowed ? allowedSize : denialSize
      continue
    }
    const granted: number = reply[at++]
    if (!(granted >= 0 && granted <= count)) return false
    if (granted > 0) {
      if (!isVerdict(reply, at, true, limits, most)) return false
      at += allowedSize
    }
    if (granted < count) {
      if (!isVerdict(reply, at, false, limits, most)) return false
      at += denialSize
    }
  }
  return at === length
}

/**
 * Checks one verdict.
 *
 * @param most maximum that may be left of the smallest limit
 */
function isVerdict(
  reply: readonly number[],
  at: number,
  allowed: boolean,
  limits: number,
  most: number,
): boolean {
  const verdict = reply[at]!
  const violated = verdict >> 4
  return (
    verdict >= 0 &&
    verdict < 2 ** (limits + 4) &&
    ((verdict & 1) === 1) === allowed &&
    (violated === 0) === allowed &&
    ((verdict >> 1) & 7) < limits &&
    reply[at + 1]! >= 0 &&
    reply[at + 1]! <= most &&
    reply[at + 2]! >= 0 &&
    reply[at + 3]! >= -1
  )
}

/** Answers every request from a reply of take.lua or take_mixed.lua that `isReply` accepted. */
export function readReply(all: readonly WaitingTake[], reply: readonly number[], sentAt: number): void {
  const now = reply[0]!
  let at = 1
  const verdict = (given: number, { parts, plain, shows }: WaitingTake): Verdict => {
    const allowed = (reply[at]! & 1) === 1
    return {
      allowed,
      decidedBy: 'store',
      reason: undefined,
      binding: (reply[at]! >> 1) & 7,
      violated: reply[at]! >> 4,
      remaining: reply[at + 1]! + given,
      resetMs: reply[at + 2]!,
      retryMs: reply[at + 3]!,
      at: now,
      counted: allowed && !shows ? undefined : readCounted(parts, plain, reply, at + TAKE_REPLY),
      sentAt,
    }
  }
  for (const asked of all) {
    if (asked.plain && asked.count === 1) {
      const one = verdict(0, asked)
      at += TAKE_REPLY + (one.counted === undefined ? 0 : countedSize(asked.parts, true))
      asked.answer(one)
      continue
    }
    const granted = reply[at]!
    const each = asked.others === undefined ? [asked] : [asked, ...asked.others]
    at += 1
    // The reply describes the last request that passed. Those before it left more.
    for (let i = 0; i < granted; i++) each[i]!.answer(verdict((granted - 1 - i) * asked.cost, asked))
    if (granted > 0) at += TAKE_REPLY + (asked.shows ? countedSize(asked.parts, asked.plain) : 0)
    for (const one of each.slice(granted)) one.answer(verdict(0, asked))
    if (granted < each.length) at += TAKE_REPLY + countedSize(asked.parts, asked.plain)
  }
}
