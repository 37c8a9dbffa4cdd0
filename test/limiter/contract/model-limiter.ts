import type { Limit } from '../../../src/config/snapshot/limit.js'
import type { Decision, Slot } from '../../../src/limiter/limiter.js'
import { type Count, free, reach, seen, startOf, unitAt, usedIn } from './model.js'

const isSlot = (limit: Limit) => limit.algorithm === 'concurrency'
const costOf = (limit: Limit, cost: number) => (isSlot(limit) ? 1 : cost)

/** Amount of a limit that changes: each value, and from when it holds. */
function* changesOf(limit: Limit): Generator<{ readonly from: number; readonly limit: Limit }> {
  yield { from: Number.NEGATIVE_INFINITY, limit }
  if (limit.next === undefined) return
  for (const { from, limit: later } of changesOf(limit.next.limit)) {
    yield { from: Math.max(from, limit.next.at), limit: later }
  }
}

const present = (limit: Limit, now: number) =>
  [...changesOf(limit)].filter(({ from }) => from <= now).at(-1)!.limit

/**
 * Returns the first ms at which a cost fits, by bisection. While the amount stays, time only makes more room. If the cost does
 * not fit just before the amount changes, it did not fit earlier.
 */
function retry(limit: Limit, count: Count, cost: number, now: number, atLeast = 0): number {
  const changes = [...changesOf(limit)]
  for (const [i, { from, limit: one }] of changes.entries()) {
    const [first, end] = [
      Math.max(from - now, atLeast),
      (changes[i + 1]?.from ?? Number.POSITIVE_INFINITY) - now,
    ]
    if (end <= first || cost > one.burst) continue
    let [tooSoon, enough] = [first - 1, Math.min(first + 1, end - 1)]
    while (enough < end - 1 && free(one, count, now + enough) < cost)
      enough = Math.min(2 * enough + 1, end - 1)
    if (free(one, count, now + enough) < cost) continue
    while (enough - tooSoon > 1) {
      const middle = Math.floor((tooSoon + enough) / 2)
      if (free(one, count, now + middle) >= cost) enough = middle
      else tooSoon = middle
    }
    return enough
  }
  return -1
}

function resetMs(limit: Limit, count: Count, now: number): number {
  const t = seen(limit, count, now)
  if (limit.algorithm === 'token_bucket') {
    return t - now + Math.ceil(Number(usedIn(limit, count, now)) / limit.amount)
  }
  const units = limit.algorithm === 'sliding' ? 1 : reach(limit) + 1
  return startOf(limit, unitAt(limit, t) + units) - now
}

function add(limit: Limit, count: Count, cost: number, now: number): void {
  const t = seen(limit, count, now)
  const before = usedIn(limit, count, now)
  if (count.newest !== undefined && startOf(limit, count.newest) > t) count.used.clear()
  const unit = unitAt(limit, t)
  if (limit.algorithm === 'token_bucket') count.used.clear()
  const already = limit.algorithm === 'token_bucket' ? before : (count.used.get(unit) ?? 0n)
  const units = limit.algorithm === 'token_bucket' ? cost * limit.windowMs : cost
  count.used.set(unit, already + BigInt(units))
  count.newest = unit
}

function give(limit: Limit, count: Count, cost: number, at: number): void {
  const bucket = limit.algorithm === 'token_bucket'
  const unit = bucket ? count.newest! : unitAt(limit, at)
  const left = (count.used.get(unit) ?? 0n) - BigInt(bucket ? cost * limit.windowMs : cost)
  if (count.used.has(unit)) count.used.set(unit, left > 0n ? left : 0n)
}

/**
 * A limiter that states every algorithm plainly, in exact fractions. It knows no storage layout and no formula for the retry
 * time.
 */
export function createModel(shape: readonly Limit[]) {
  let counts: Count[] = []
  let expires = Number.NEGATIVE_INFINITY

  function forget(now: number): void {
    if (now <= expires) return
    counts = shape.map(() => ({ newest: undefined, used: new Map() }))
  }

  function touch(limits: readonly Limit[]): void {
    const ends = limits.map((limit, i) => {
      const { newest, used } = counts[i]!
      if (limit.algorithm !== 'token_bucket') return startOf(limit, newest! + reach(limit) + 1)
      const slowest = Math.min(...[...changesOf(limit)].map(({ limit: { amount } }) => amount))
      return newest! + Math.ceil(Number(used.get(newest!)!) / slowest)
    })
    expires = Math.max(...ends)
  }

  return {
    take(all: readonly Limit[], cost: number, now: number): Partial<Decision> {
      forget(now)
      const limits = all.map((limit) => present(limit, now))
      const denying = limits.flatMap((l, i) => (free(l, counts[i]!, now) < costOf(l, cost) ? [i] : []))
      if (denying.length > 0) {
        const waits = denying.map((i) => retry(all[i]!, counts[i]!, costOf(all[i]!, cost), now))
        const longest = waits.includes(-1) ? -1 : Math.max(...waits)
        const binding = denying[waits.indexOf(longest)]!
        let retryMs = longest
        // Repeats until all limits fit at one moment: an amount may have dropped by then.
        for (let before = -1; retryMs > before; ) {
          before = retryMs
          const fits = all.map((limit, i) => retry(limit, counts[i]!, costOf(limit, cost), now, before))
          retryMs = fits.includes(-1) ? -1 : Math.max(...fits)
        }
        const remaining = Math.max(0, Math.min(...limits.map((limit, i) => free(limit, counts[i]!, now))))
        const violated = denying.reduce((mask, i) => mask + 2 ** i, 0)
        const ends = resetMs(limits[binding]!, counts[binding]!, now)
        return { allowed: false, binding, violated, remaining, resetMs: ends, retryMs, at: now }
      }
      for (const [i, limit] of limits.entries()) add(limit, counts[i]!, costOf(limit, cost), now)
      const left = limits.map((limit, i) => free(limit, counts[i]!, now))
      const binding = left.indexOf(Math.min(...left))
      touch(all)
      const ends = resetMs(limits[binding]!, counts[binding]!, now)
      return {
        allowed: true,
        binding,
        violated: 0,
        remaining: left[binding]!,
        resetMs: ends,
        retryMs: 0,
        at: now,
      }
    },

    settle(all: readonly Limit[], quota: number, at: number, slot: Slot, slotAt: number, now: number): void {
      const limits = all.map((limit) => present(limit, now))
      const adds = limits.map((limit) => (isSlot(limit) ? (slot === 'renew' ? 1 : 0) : quota))
      forget(now)
      if (counts[0]!.newest === undefined && adds.every((n) => n <= 0)) return
      limits.forEach((limit, i) => {
        if (counts[i]!.newest === undefined) add(limit, counts[i]!, 0, now)
        if (isSlot(limit) && slot !== 'keep') give(limit, counts[i]!, 1, slotAt)
        if (adds[i]! < 0) give(limit, counts[i]!, -adds[i]!, at)
        if (adds[i]! > 0) add(limit, counts[i]!, adds[i]!, now)
      })
      if (adds.some((n) => n > 0)) touch(all)
    },
  }
}
