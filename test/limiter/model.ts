import type { Decision } from '../../src/limiter/limiter.js'

type Verdict = Pick<Decision, 'allowed' | 'binding' | 'violated' | 'remaining' | 'resetMs' | 'retryMs'>

/**
 * The sliding window counter said plainly: what was used, by number of window, and a weighted sum over two of them, in
 * exact fractions. It knows no layout and no formula for the retry time: it looks for it.
 */
export function createModel(windows: readonly number[]) {
  const limits = windows.map((windowMs) => ({ windowMs, newest: -1, used: new Map<number, number>() }))

  /** When the limit thinks it is: a clock that stepped back is held at the start of the newest window. */
  function seen(i: number, now: number): number {
    const { windowMs, newest } = limits[i]!
    const ahead = newest * windowMs - now
    return newest >= 0 && ahead > 0 && ahead <= Math.max(windowMs, 60_000) ? newest * windowMs : now
  }

  /** The estimate times the window; nothing counts that lies ahead of the time seen. */
  function weighed(i: number, now: number): bigint {
    const { windowMs, newest, used } = limits[i]!
    const time = seen(i, now)
    const window = Math.floor(time / windowMs)
    if (newest > window) return 0n
    const fromBefore = BigInt(used.get(window - 1) ?? 0) * BigInt(windowMs - (time % windowMs))
    return BigInt(used.get(window) ?? 0) * BigInt(windowMs) + fromBefore
  }

  function free(i: number, amount: number, now: number): bigint {
    return BigInt(amount) * BigInt(windows[i]!) - weighed(i, now)
  }

  const fits = (i: number, amount: number, cost: number, now: number) =>
    BigInt(cost) * BigInt(windows[i]!) <= free(i, amount, now)

  const whole = (i: number, amount: number, now: number) => {
    const left = free(i, amount, now) / BigInt(windows[i]!)
    return left > 0n ? Number(left) : 0
  }

  /** The first ms at which the cost fits, by halving: nothing but time passing makes room, and it only makes more. */
  function retry(i: number, amount: number, cost: number, now: number): number {
    if (cost > amount) return -1
    let tooSoon = 0
    let enough = seen(i, now) - now + 2 * windows[i]!
    while (enough - tooSoon > 1) {
      const middle = Math.floor((tooSoon + enough) / 2)
      if (fits(i, amount, cost, now + middle)) enough = middle
      else tooSoon = middle
    }
    return enough
  }

  return {
    take(amounts: readonly number[], cost: number, now: number): Verdict {
      // The key expires when the last window that could still weigh anything has ended.
      if (limits.every(({ windowMs, newest }) => now > (newest + 2) * windowMs)) {
        for (const limit of limits) Object.assign(limit, { newest: -1, used: new Map() })
      }
      const denying = amounts.flatMap((amount, i) => (fits(i, amount, cost, now) ? [] : [i]))
      const allowed = denying.length === 0
      const left = amounts.map((amount, i) => whole(i, amount, now))
      const waits = denying.map((i) => retry(i, amounts[i]!, cost, now))
      const retryMs = allowed ? 0 : waits.includes(-1) ? -1 : Math.max(...waits)
      const binding = allowed ? left.indexOf(Math.min(...left)) : denying[waits.indexOf(retryMs)]!
      const windowMs = windows[binding]!
      const time = seen(binding, now)
      const resetMs = (Math.floor(time / windowMs) + 1) * windowMs - now
      const remaining = Math.min(...left) - (allowed ? cost : 0)
      if (allowed) {
        limits.forEach((limit, i) => {
          const window = Math.floor(seen(i, now) / limit.windowMs)
          if (limit.newest > window) limit.used.clear()
          limit.used.set(window, (limit.used.get(window) ?? 0) + cost)
          limit.newest = window
        })
      }
      const violated = denying.reduce((mask, i) => mask + 2 ** i, 0)
      return { allowed, binding, violated, remaining, resetMs, retryMs }
    },
  }
}
