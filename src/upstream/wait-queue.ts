/** A request that waits until an upstream has a connection to spare. Made by the queue, one a wait. */
export interface Waiting<R> {
  readonly request: R
  /** `now()` until which it waits. */
  readonly until: number
  before: Waiting<R> | undefined
  behind: Waiting<R> | undefined
  queued: boolean
}

export interface WaitQueue<R> {
  readonly length: number
  push(request: R, until: number): Waiting<R>
  /** For one that leaves before its turn; does nothing for one that has had it. */
  remove(waiting: Waiting<R>): void
  /** Something may have become free: who came first goes first. `most`: how many there can be room for. */
  wake(most?: number): void
  close(): void
}

export interface WaitQueueOptions<R, T> {
  /** What there is for a request now, if anything. */
  readonly find: (request: R) => T | undefined
  readonly go: (request: R, found: T) => void
  /** It has waited too long. */
  readonly expired: (request: R) => void
  /** Ms that never go back. */
  readonly now: () => number
}

/**
 * How many of those in front may find nothing for themselves, so that those behind them are still looked at: they have
 * been to the upstream that is free, or a reload took it from them.
 */
const LOOK_PAST = 8

/**
 * First come, first served, for a limited time. A list of links and no Set: one through which many pass keeps the collector
 * busy (gateway/watchdog.ts).
 */
export function createWaitQueue<R, T>(options: WaitQueueOptions<R, T>): WaitQueue<R> {
  const { find, go, expired, now } = options
  let first: Waiting<R> | undefined
  let last: Waiting<R> | undefined
  let length = 0
  let timer: NodeJS.Timeout | undefined

  function remove(waiting: Waiting<R>): void {
    if (!waiting.queued) return
    waiting.queued = false
    length--
    if (waiting.before === undefined) first = waiting.behind
    else waiting.before.behind = waiting.behind
    if (waiting.behind === undefined) last = waiting.before
    else waiting.behind.before = waiting.before
    if (length === 0) disarm()
  }

  function disarm(): void {
    clearTimeout(timer)
    timer = undefined
  }

  function arm(): void {
    if (first !== undefined) timer ??= setTimeout(look, Math.max(1, first.until - now()))
  }

  function look(): void {
    timer = undefined
    // After a reload with a longer wait one in front may be due later than one behind it: by that much it is late.
    while (first !== undefined && first.until <= now()) {
      const { request } = first
      remove(first)
      expired(request)
    }
    arm()
  }

  return {
    get length() {
      return length
    },
    push(request, until) {
      const waiting: Waiting<R> = { request, until, before: last, behind: undefined, queued: true }
      if (last === undefined) first = waiting
      else last.behind = waiting
      last = waiting
      length++
      arm()
      return waiting
    },
    remove,
    wake(most = Number.POSITIVE_INFINITY) {
      let left = most
      let stuck = 0
      for (let one = first; one !== undefined && left > 0; ) {
        const { behind, request } = one
        // What went on meanwhile may have taken this one along, and those behind it.
        if (!one.queued) return
        const found = find(request)
        if (found === undefined) {
          stuck++
          if (stuck === LOOK_PAST) return
        } else {
          left--
          remove(one)
          go(request, found)
        }
        one = behind
      }
    },
    close() {
      disarm()
      first = undefined
      last = undefined
      length = 0
    },
  }
}
