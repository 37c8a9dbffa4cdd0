import type { Limit } from '../../src/config/snapshot.js'
import type { Decision, Slot } from '../../src/limiter/limiter.js'
import { type Count, free, reach, seen, startOf, unitAt, usedIn } from './model.js'

const isSlot = (limit: Limit) => limit.algorithm === 'concurrency'
const costOf = (limit: Limit, cost: number) => (isSlot(limit) ? 1 : cost)

/** The first ms at which a cost fits, by halving: nothing but time passing makes room, and it only makes more. */
function retry(limit: Limit, count: Count, cost: number, now: number): number {
  if (cost > limit.burst) return -1
  let [tooSoon, enough] = [0, 1]
  while (free(limit, count, now + enough) < cost) enough *= 2
  while (enough - tooSoon > 1) {
    const middle = Math.floor((tooSoon + enough) / 2)
    if (free(limit, count, now + middle) >= cost) enough = middle
    else tooSoon = middle
  }
  return enough
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

/** Every algorithm said plainly, in exact fractions. It knows no layout and no formula for the retry time. */
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
      return newest! + Math.ceil(Number(used.get(newest!)!) / limit.amount)
    })
    expires = Math.max(...ends)
  }

  return {
    take(limits: readonly Limit[], cost: number, now: number): Partial<Decision> {
      forget(now)
      const denying = limits.flatMap((l, i) => (free(l, counts[i]!, now) < costOf(l, cost) ? [i] : []))
      if (denying.length > 0) {
        const waits = denying.map((i) => retry(limits[i]!, counts[i]!, costOf(limits[i]!, cost), now))
        const retryMs = waits.includes(-1) ? -1 : Math.max(...waits)
        const binding = denying[waits.indexOf(retryMs)]!
        const remaining = Math.max(0, Math.min(...limits.map((limit, i) => free(limit, counts[i]!, now))))
        const violated = denying.reduce((mask, i) => mask + 2 ** i, 0)
        const ends = resetMs(limits[binding]!, counts[binding]!, now)
        return { allowed: false, binding, violated, remaining, resetMs: ends, retryMs, at: now }
      }
      for (const [i, limit] of limits.entries()) add(limit, counts[i]!, costOf(limit, cost), now)
      const left = limits.map((limit, i) => free(limit, counts[i]!, now))
      const binding = left.indexOf(Math.min(...left))
      touch(limits)
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

    settle(
      limits: readonly Limit[],
      quota: number,
      at: number,
      slot: Slot,
      slotAt: number,
      now: number,
    ): void {
      const adds = limits.map((limit) => (isSlot(limit) ? (slot === 'renew' ? 1 : 0) : quota))
      forget(now)
      if (counts[0]!.newest === undefined && adds.every((n) => n <= 0)) return
      limits.forEach((limit, i) => {
        if (counts[i]!.newest === undefined) add(limit, counts[i]!, 0, now)
        if (isSlot(limit) && slot !== 'keep') give(limit, counts[i]!, 1, slotAt)
        if (adds[i]! < 0) give(limit, counts[i]!, -adds[i]!, at)
        if (adds[i]! > 0) add(limit, counts[i]!, adds[i]!, now)
      })
      if (adds.some((n) => n > 0)) touch(limits)
    },
  }
}
