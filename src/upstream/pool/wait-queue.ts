import { leavesRoom } from '../../shares.js'

/** A linked list, and a member of one. */
interface List<T> {
  first: T | undefined
  last: T | undefined
  length: number
}
interface Linked<T> {
  before: T | undefined
  behind: T | undefined
}

/** A request that waits for a free connection to an upstream. The queue makes one for each wait. */
export interface Waiting<R> extends Linked<Waiting<R>> {
  readonly request: R
  /** `now()` until which it waits. */
  readonly until: number
  readonly lane: Lane<R>
  queued: boolean
}

/** The waiting requests of one caller, in order of arrival. It is linked while there are any. */
interface Lane<R> extends List<Waiting<R>>, Linked<Lane<R>> {
  readonly caller: string | undefined
}

/** `nothing`: nothing is free for this request; `over_share`: its caller has enough. */
type NotFound = 'nothing' | 'over_share'

interface WaitQueueOptions<R, T extends object> {
  /** Returns what is free for a request now. */
  readonly find: (request: R) => T | NotFound
  readonly go: (request: R, found: T) => void
  /** Called when a request has waited too long. */
  readonly expired: (request: R) => void
  /** Returns ms that never go back. */
  readonly now: () => number
}

/**
 * Requests at the front of a lane that may find nothing while those behind them are still tried: they have tried the
 * free upstream, or a reload took it from them.
 */
const LOOK_PAST = 8
/** The same limit for all lanes together. */
const LOOK_PAST_IN_ALL = 64
/** Empty lanes that are kept, since most callers come again. */
const SPARE_LANES = 1024

export type WaitQueue<R> = ReturnType<typeof createWaitQueue<R, object>>

/**
 * Creates a queue in which callers take turns; the requests of one caller are served first come, first served. Each
 * request waits for a limited time. It uses linked lists, not a Map or Set, for what comes and goes: one with many
 * passing entries keeps the garbage collector busy (gateway/exchange/watchdog.ts).
 */
export function createWaitQueue<R, T extends object>(options: WaitQueueOptions<R, T>) {
  const { find, go, expired, now } = options
  let lanes = new Map<string | undefined, Lane<R>>()
  /** Lanes with a waiting request; the turn of the first is next. */
  const turns: List<Lane<R>> = { first: undefined, last: undefined, length: 0 }
  let length = 0
  let timer: NodeJS.Timeout | undefined

  function laneOf(caller: string | undefined): Lane<R> {
    let lane = lanes.get(caller)
    if (lane === undefined) {
      if (lanes.size >= SPARE_LANES) lanes = new Map([...lanes].filter(([, { length }]) => length > 0))
      lane = { caller, first: undefined, last: undefined, length: 0, before: undefined, behind: undefined }
      lanes.set(caller, lane)
    }
    return lane
  }

  function remove(waiting: Waiting<R>): void {
    if (!waiting.queued) return
    const { lane } = waiting
    waiting.queued = false
    length--
    unlink(lane, waiting)
    if (lane.length === 0) unlink(turns, lane)
    if (length === 0) disarm()
  }

  function disarm(): void {
    clearTimeout(timer)
    timer = undefined
  }

  function arm(): void {
    if (length === 0 || timer !== undefined) return
    let next = Number.POSITIVE_INFINITY
    for (let lane = turns.first; lane !== undefined; lane = lane.behind)
      next = Math.min(next, lane.first!.until)
    timer = setTimeout(look, Math.max(1, next - now()))
  }

  function look(): void {
    timer = undefined
    const time = now()
    const late: Waiting<R>[] = []
    // After a reload to a longer wait, a request in front may be due later than one behind it, which is then late by
    // the difference.
    for (let lane = turns.first; lane !== undefined; lane = lane.behind) {
      for (let one = lane.first; one !== undefined && one.until <= time; one = one.behind) late.push(one)
    }
    for (const waiting of late) {
      // Another expired request may have removed this one.
      if (!waiting.queued) continue
      remove(waiting)
      expired(waiting.request)
    }
    arm()
  }

  /**
   * Lets the first request go that can get something.
   *
   * @returns true if there was one
   */
  function letOneGo(): boolean {
    let left = LOOK_PAST_IN_ALL
    for (let lane = turns.first; lane !== undefined; lane = lane.behind) {
      let tries = LOOK_PAST
      for (let one = lane.first; one !== undefined; one = one.behind) {
        const found = find(one.request)
        if (typeof found === 'string') {
          if (--left === 0) return false
          if (found === 'over_share' || --tries === 0) break
          continue
        }
        remove(one)
        if (lane.length > 0) {
          unlink(turns, lane)
          append(turns, lane)
        }
        go(one.request, found)
        return true
      }
    }
    return false
  }

  return {
    get length() {
      return length
    },
    /** Returns true if a request of another caller waits. */
    othersWait: (caller: string | undefined): boolean =>
      turns.length > 1 || (turns.first !== undefined && turns.first.caller !== caller),
    /**
     * Queues a request behind those of its caller.
     *
     * @param caller undefined: exempt from the cap
     * @param most most requests of all callers; one caller leaves an eighth of the remaining room to the others
     * @returns undefined when there is no room for it
     */
    push(request: R, until: number, caller: string | undefined, most: number): Waiting<R> | undefined {
      const lane = laneOf(caller)
      if (length >= most || (caller !== undefined && !leavesRoom(lane.length, most - length)))
        return undefined
      const waiting: Waiting<R> = { request, until, lane, before: undefined, behind: undefined, queued: true }
      append(lane, waiting)
      length++
      if (lane.length === 1) append(turns, lane)
      arm()
      return waiting
    },
    /** Removes a request that leaves before its turn; does nothing for one that has had it. */
    remove,
    /**
     * Lets requests go that can get a connection; callers take turns.
     *
     * @param most most requests that there can be room for
     */
    wake(most = Number.POSITIVE_INFINITY): void {
      for (let left = most; left > 0 && length > 0; left--) if (!letOneGo()) return
    },
    close(): void {
      disarm()
      lanes.clear()
      Object.assign(turns, { first: undefined, last: undefined, length: 0 })
      length = 0
    },
  }
}

function append<T extends Linked<T>>(list: List<T>, one: T): void {
  one.before = list.last
  if (list.last === undefined) list.first = one
  else list.last.behind = one
  list.last = one
  list.length++
}

function unlink<T extends Linked<T>>(list: List<T>, one: T): void {
  if (one.before === undefined) list.first = one.behind
  else one.before.behind = one.behind
  if (one.behind === undefined) list.last = one.before
  else one.behind.before = one.before
  one.before = undefined
  one.behind = undefined
  list.length--
}
