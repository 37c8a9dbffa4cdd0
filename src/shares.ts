import { getOrAdd } from './common/maps.js'

/**
 * Fair shares. Everything that is limited and used by all callers has a cap per caller, so that none takes what all need. A
 * caller is a consumer if one is known, otherwise an address (IPv6: its /64). One O(1) counter serves all of these
 * resources.
 */

/** A limited resource, and how much of it each caller holds. */
export interface Share {
  readonly name: ShareName
  /** The service that it belongs to; otherwise `none`. */
  readonly service: string
  /** The most that all callers may hold together. */
  total: number
  /** The most that one caller may hold. */
  most: number
  held: number
  /** Amount by caller. Each holds something, so there are never more entries than `total`. */
  readonly holders: Map<string, number>
  /** How often a caller got nothing: because it has its share, or because everything is taken. */
  readonly refused: Record<Shortage, number>
  /** Called with a caller that already has its share. */
  readonly onRefused: ((share: Share, caller: string) => void) | undefined
}

/** An amount that a caller took, to be given back later. */
export interface Holding {
  readonly share: Share
  readonly caller: string | undefined
}

/** `caller`: the caller holds as much as one may. `all`: everything is taken. */
export type Shortage = 'caller' | 'all'

export type ShareName =
  | 'admin_connections'
  | 'tunnels'
  | 'verifications'
  | 'auth_calls'
  | 'tier_lookups'
  | 'upload_buffers'
  | 'response_buffers'
  | 'replay_buffers'
  | 'slow_readers'
  | 'uploads'
  | 'connections'

/** Returns the part of a total that one caller may hold if holding costs it nothing. */
export function quarter(total: number): number {
  return Math.max(1, Math.floor(total / 4))
}

/**
 * Returns whether a caller may have one more of something that others may want at any moment. A single caller may hold
 * seven eighths, and each further caller finds as much of what is left (dynamic thresholds: Choudhury and Hahne 1998). If
 * there are fewer than eight, one caller may hold all.
 *
 * @param own what the caller holds
 * @param free what nobody holds
 */
export function leavesRoom(own: number, free: number): boolean {
  return own < 7 * free
}

/**
 * Takes an amount for a caller, or returns why not.
 *
 * @param caller undefined: exempt from the cap (`trusted_proxies`), but not from the total
 */
export function take(share: Share, caller: string | undefined, amount = 1): Shortage | undefined {
  const own = caller === undefined ? 0 : (share.holders.get(caller) ?? 0)
  // If one caller may hold everything, the shortage is that of all.
  if (caller !== undefined && own + amount > share.most && share.most < share.total) {
    share.refused.caller++
    share.onRefused?.(share, caller)
    return 'caller'
  }
  if (share.held + amount > share.total) {
    share.refused.all++
    return 'all'
  }
  share.held += amount
  if (caller !== undefined) share.holders.set(caller, own + amount)
  return undefined
}

/** Gives back an amount that the same caller took. */
export function give(share: Share, caller: string | undefined, amount = 1): void {
  share.held -= amount
  if (caller === undefined) return
  const left = share.holders.get(caller)! - amount
  if (left === 0) share.holders.delete(caller)
  else share.holders.set(caller, left)
}

/** All shares of a process, for the code that takes from them and for the metrics. */
export interface Shares {
  /** Returns the share of this name and service, and creates it on the first call. Later calls set its limits anew. */
  open(name: ShareName, total: number, most?: number, service?: string): Share
  /** Returns the caller that an address is counted as; undefined: it is exempt. */
  callerOf(address: string): string | undefined
  all(): Iterable<Share>
}

export interface SharesOptions {
  readonly callerOf?: Shares['callerOf']
  readonly onRefused?: Share['onRefused']
}

export function createShares({ callerOf = (address) => address, onRefused }: SharesOptions = {}): Shares {
  const known = new Map<string, Share>()
  return {
    open(name, total, most = quarter(total), service = 'none') {
      const share = getOrAdd(known, `${name} ${service}`, (): Share => {
        const refused = { caller: 0, all: 0 }
        return { name, service, total, most, held: 0, holders: new Map(), refused, onRefused }
      })
      share.total = total
      share.most = most
      return share
    },
    callerOf,
    all: () => known.values(),
  }
}

/** A queue that takes turns by caller: a caller with many entries delays no other. */
export interface Turns<T> {
  push(caller: string, one: T): void
  /** Returns the next one; undefined: nobody waits. */
  next(): T | undefined
}

/** @param isOver returns true for an entry that has given up: its turn is skipped, and it does not pile up */
export function createTurns<T>(isOver: (one: T) => boolean): Turns<T> {
  /** Entries by caller. The first caller is next. */
  const lanes = new Map<string, T[]>()
  return {
    push(caller, one) {
      getOrAdd(lanes, caller, () => []).push(one)
    },
    next() {
      for (const [caller, lane] of lanes) {
        lanes.delete(caller)
        const first = lane.findIndex((one) => !isOver(one))
        if (first < 0) continue
        const one = lane[first]
        lane.splice(0, first + 1)
        if (lane.length > 0) lanes.set(caller, lane)
        return one
      }
      return undefined
    },
  }
}
