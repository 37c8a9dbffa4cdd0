import { deferred } from '../common/wait.js'

/** Looks up, in the store, what a process does not hold of a map. */

/** Results of look-ups since the start. `refused`: too many at once, or too many a second. */
export interface LookUpCounts {
  found: number
  none: number
  failed: number
  refused: number
}

/** Adds up the results of several maps; undefined if none of them looks anything up. */
export function addLookUps(
  all: readonly (Readonly<LookUpCounts> | undefined)[],
): Readonly<LookUpCounts> | undefined {
  const sum: LookUpCounts = { found: 0, none: 0, failed: 0, refused: 0 }
  const counted = all.filter((one) => one !== undefined)
  for (const one of counted)
    for (const name of Object.keys(sum) as (keyof LookUpCounts)[]) sum[name] += one[name]
  return counted.length === 0 ? undefined : sum
}

/** Limits that all look-ups of a process share. */
export type LookUpLimits = ReturnType<typeof createLookUpLimits>

export interface LookUpLimitOptions {
  /** Look-ups in progress. */
  readonly atOnce?: number
  /** Look-ups a second. */
  readonly perSecond?: number
  /** Clock in ms, monotonic. */
  readonly now?: () => number
}

/** Creates the limits. They protect the store from a flood of invented keys. */
export function createLookUpLimits(options: LookUpLimitOptions = {}) {
  const { atOnce = 5000, perSecond = 20_000, now = () => performance.now() } = options
  let underWay = 0
  let left = perSecond
  let at = now()
  return {
    /** Takes a place for a look-up. Returns false if there is none. */
    take(): boolean {
      const present = now()
      left = Math.min(perSecond, left + ((present - at) * perSecond) / 1000)
      at = present
      if (left < 1 || underWay >= atOnce) return false
      left--
      underWay++
      return true
    },
    /** Gives a place back. */
    give(): void {
      underWay--
    },
  }
}

export interface LookUpOptions<V> {
  /** Reads values from the store, in the order of the keys. */
  readonly read: (keys: readonly string[]) => Promise<readonly (V | undefined)[]>
  /** Called with each answer that is not outdated. */
  readonly learned: (key: string, value: V | undefined) => void
  /** How long an answer may take, in ms. */
  readonly timeoutMs: number
  readonly limits: LookUpLimits
  /** Clock in ms, monotonic. */
  readonly now?: () => number
}

interface LookUp<V> {
  readonly key: string
  readonly answer: Promise<V | undefined>
  resolve(value: V | undefined): void
  reject(error: Error): void
  /** True if the key has changed since it was looked up: the answer may be older. */
  outdated: boolean
}

/** Most keys in one question to the store. Redis does nothing else meanwhile. */
const AT_ONCE = 500
/** Questions that fail in a row before the store counts as away. */
const MOST_FAILURES = 3
/** Made once: while the store is away, there may be many for each request. */
const AWAY = new Error('the store is away')
const TOO_MANY = new Error('too many look-ups')
/** How long nothing is asked while the store is away, in ms. Then one question finds out whether it is back. */
const PAUSE = 500

/**
 * Creates the look-ups of one map. Those that begin in the same turn of the event loop share one question, and those of
 * the same key one answer. While the store is away, look-ups fail at once.
 */
export function createLookUps<V>(options: LookUpOptions<V>) {
  const { read, learned, timeoutMs, limits, now = () => performance.now() } = options
  const underWay = new Map<string, LookUp<V>>()
  const counts: LookUpCounts = { found: 0, none: 0, failed: 0, refused: 0 }
  let gathered: LookUp<V>[] = []
  /** Questions that have failed in a row. */
  let failures = 0
  /** Time before which nothing is asked. */
  let askAgainAt = 0

  function fail(some: readonly LookUp<V>[], error: Error): void {
    counts.failed += some.length
    for (const one of some) {
      end(one)
      one.reject(error)
    }
  }

  function end({ key }: LookUp<V>): void {
    underWay.delete(key)
    limits.give()
  }

  function put(some: readonly LookUp<V>[]): void {
    let isOver = false
    const over = (error: Error): void => {
      if (isOver) return
      isOver = true
      clearTimeout(timer)
      if (++failures >= MOST_FAILURES) askAgainAt = now() + PAUSE
      fail(some, error)
    }
    const tooLate = () => over(new Error(`the store did not answer within ${timeoutMs} ms`))
    // An answer that arrived while the event loop was blocked is read first: the delay was not the store's fault.
    const timer = setTimeout(() => setImmediate(tooLate), timeoutMs)
    read(some.map(({ key }) => key)).then((values) => {
      if (isOver) return
      isOver = true
      clearTimeout(timer)
      failures = 0
      for (const [i, one] of some.entries()) {
        const value = values[i]
        counts[value === undefined ? 'none' : 'found']++
        end(one)
        if (!one.outdated) learned(one.key, value)
        one.resolve(value)
      }
    }, over)
  }

  function flush(): void {
    const all = gathered
    gathered = []
    for (let i = 0; i < all.length; i += AT_ONCE) put(all.slice(i, i + AT_ONCE))
  }

  return {
    counts,
    /** Looks a key up. Rejects if the store can't tell, or must not be asked now. */
    find(key: string): Promise<V | undefined> {
      const begun = underWay.get(key)
      if (begun !== undefined) return begun.answer
      if (failures >= MOST_FAILURES) {
        if (now() < askAgainAt) {
          counts.failed++
          return Promise.reject(AWAY)
        }
        // Until this one is answered, no other is asked.
        askAgainAt = now() + PAUSE
      }
      if (!limits.take()) {
        counts.refused++
        return Promise.reject(TOO_MANY)
      }
      const { promise: answer, resolve, reject } = deferred<V | undefined>()
      const one = { key, answer, resolve, reject, outdated: false }
      underWay.set(key, one)
      if (gathered.push(one) === 1) setImmediate(flush)
      return answer
    },
    /** Records that a key has changed. An answer to a look-up in progress may be older, and is not held. */
    changed(key: string): void {
      const begun = underWay.get(key)
      if (begun !== undefined) begun.outdated = true
    },
  }
}
