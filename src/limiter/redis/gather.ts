/** Longest time for which `auto` holds requests back, in ms, as far as events of the loop allow to keep it. */
const AUTO_MS = 0.5
/** Ms after which a timer of Node sends what no event has. A timer has no shorter time. */
export const TIMER_MS = 1
/** Requests that `auto` sends without waiting for more: the next one would save less than a third of a call. */
const ENOUGH = 3
/** Weight of the latest wait among those before it. */
const WEIGHT = 1 / 16
/** Share of waits that has to bring another request, or `auto` waits no more. */
const PAYS = 0.5
/** Where waiting does not pay, one call in so many tries it again. */
const TRY_EVERY = 32

/** Decides when the requests that wait for the store are sent: it collects those that can share a call. */
export interface Gathering {
  /** Called after each request or settlement that is to be sent. */
  added(): void
  /** Sends what waits now. */
  flush(): void
}

export interface GatheringOptions {
  /** How long a request waits for others, in ms; 0: until the end of its turn of the event loop. */
  readonly gatherMs: number | 'auto'
  /** Maximum number of requests in a call. */
  readonly most: number
  /** Returns how many requests wait. */
  readonly waiting: () => number
  /**
   * Sends all.
   *
   * @param since time of the clock from which the first of them has waited
   */
  readonly send: (since: number, now: number) => void
  /** Clock, in ms. Default: `performance.now()`. */
  readonly now?: () => number
}

/** Creates it. Whatever waits at the end of one turn of the event loop is always sent together. */
export function createGathering(options: GatheringOptions): Gathering {
  return options.gatherMs === 'auto' ? gatherWhileItPays(options) : gatherFor(options.gatherMs, options)
}

function gatherFor(gatherMs: number, options: GatheringOptions): Gathering {
  const { most, waiting, send, now: clock = () => performance.now() } = options
  let scheduled: NodeJS.Immediate | undefined
  let timer: NodeJS.Timeout | undefined

  function flush(): void {
    clearImmediate(scheduled)
    clearTimeout(timer)
    scheduled = timer = undefined
    const now = clock()
    send(now - gatherMs, now)
  }

  return {
    added() {
      if (scheduled !== undefined) return
      if (gatherMs > 0 && waiting() < most) timer ??= setTimeout(flush, gatherMs)
      else scheduled = setImmediate(flush)
    },
    flush,
  }
}

/**
 * Holds requests back for up to `AUTO_MS` as long as more than half of such waits bring another request. So at a few
 * requests a second none waits, nor one whose client sends nothing before it has its answer. Node has no timer of less
 * than a millisecond, and turning the loop until then would take a core. So the time is checked whenever an event turns
 * the loop anyway, which happens several times for each request.
 */
function gatherWhileItPays(options: GatheringOptions): Gathering {
  const { most, waiting, send, now: clock = () => performance.now() } = options
  const enough = Math.min(ENOUGH, most)
  /** Share of waits at i requests that brought another one. */
  const brought = new Array<number>(ENOUGH).fill(0)
  let turnEnd: NodeJS.Immediate | undefined
  let timer: NodeJS.Timeout | undefined
  /** Number of requests that are held back; 0: none is. */
  let held = 0
  let since = 0
  let latest = 0
  let skipped = 0

  function flush(): void {
    clearImmediate(turnEnd)
    clearTimeout(timer)
    turnEnd = timer = undefined
    latest = clock()
    // A stall of our own event loop does not count: the store would be too late for what it has not seen.
    const from = held === 0 ? latest : Math.max(since, latest - TIMER_MS)
    held = 0
    send(from, latest)
  }

  function onTimer(): void {
    if (waiting() === held) learn(held, 0)
    flush()
  }

  function learn(at: number, came: number): void {
    brought[at]! += WEIGHT * (came - brought[at]!)
  }

  function pays(count: number, now: number): boolean {
    if (brought[count]! >= PAYS) return true
    return now - latest < AUTO_MS && ++skipped % TRY_EVERY === 0
  }

  function onTurnEnd(): void {
    const count = waiting()
    if (held > 0) for (let at = held; at < Math.min(count, enough); at++) learn(at, 1)
    if (count === 0 || count >= enough) {
      flush()
      return
    }
    const now = clock()
    if (count === held) {
      if (now - since >= AUTO_MS) {
        learn(held, 0)
        flush()
        return
      }
    } else {
      if (!pays(count, now)) {
        flush()
        return
      }
      if (held === 0) {
        since = now
        timer = setTimeout(onTimer, TIMER_MS)
      }
      held = count
    }
    // It does not turn the loop: it runs when something else has.
    turnEnd = setImmediate(onTurnEnd).unref()
  }

  return {
    added() {
      turnEnd ??= setImmediate(onTurnEnd)
    },
    flush,
  }
}
