/**
 * Fair shares: whatever is bounded and used by all has a cap for one caller, so that none takes what all need. A caller is a
 * consumer where one is known, else an address (IPv6: its /64). One counter for all of these things, O(1).
 */

/** A bounded thing and who holds how much of it. */
export interface Share {
  readonly name: ShareName
  /** Of the service that it belongs to; else `none`. */
  readonly service: string
  /** Most that all callers hold together. */
  total: number
  /** Most that one caller holds. */
  most: number
  held: number
  /** By caller. Each holds something, so there are never more entries than `total`. */
  readonly holders: Map<string, number>
  /** How often there was nothing left for a caller: because it has its share, or because all is taken. */
  readonly refused: Record<Shortage, number>
  /** Told of a caller that has its share already. */
  readonly onRefused: ((share: Share, caller: string) => void) | undefined
}

/** What a caller took, for who gives it back. */
export interface Holding {
  readonly share: Share
  readonly caller: string | undefined
}

/** `caller`: it holds as much as one may. `all`: everything is taken. */
export type Shortage = 'caller' | 'all'

export type ShareName =
  | 'admin_connections'
  | 'tunnels'
  | 'verifications'
  | 'tier_lookups'
  | 'upload_buffers'
  | 'response_buffers'
  | 'replay_buffers'
  | 'slow_readers'
  | 'uploads'
  | 'connections'

/** The part of a bound that one caller may hold where holding costs it nothing. */
export function quarter(total: number): number {
  return Math.max(1, Math.floor(total / 4))
}

/**
 * Tells whether a caller may have one more of what others may want at any moment. One that is alone may hold seven eighths, and
 * each further caller finds as much of what is left (dynamic thresholds: Choudhury and Hahne 1998). Of fewer than eight, all.
 *
 * @param own what the caller holds
 * @param free what nobody holds
 */
export function leavesRoom(own: number, free: number): boolean {
  return own < 7 * free
}

/**
 * Takes for a caller, or says why not.
 *
 * @param caller undefined: one that is exempt from the cap (`trusted_proxies`); the total holds for it, too
 */
export function take(share: Share, caller: string | undefined, amount = 1): Shortage | undefined {
  const own = caller === undefined ? 0 : (share.holders.get(caller) ?? 0)
  // Where one may have all, all is what is lacking.
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

/** Gives back what the same caller took. */
export function give(share: Share, caller: string | undefined, amount = 1): void {
  share.held -= amount
  if (caller === undefined) return
  const left = share.holders.get(caller)! - amount
  if (left === 0) share.holders.delete(caller)
  else share.holders.set(caller, left)
}

/** All shares of a process, for those who take from them and for the metrics. */
export interface Shares {
  /** The share of this name and service, made with the first call. Later calls set its bounds anew. */
  open(name: ShareName, total: number, most?: number, service?: string): Share
  /** Who an address is counted as; undefined: it is exempt. */
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
      const key = `${name} ${service}`
      let share = known.get(key)
      if (share === undefined) {
        const refused = { caller: 0, all: 0 }
        share = { name, service, total, most, held: 0, holders: new Map(), refused, onRefused }
        known.set(key, share)
      }
      share.total = total
      share.most = most
      return share
    },
    callerOf,
    all: () => known.values(),
  }
}

/** Those who wait for something, in turn by caller: one that has many waiting holds up no other. */
export interface Turns<T> {
  push(caller: string, one: T): void
  /** The next one; undefined: nobody waits. */
  next(): T | undefined
}

export function createTurns<T>(): Turns<T> {
  /** Whose turn is next comes first. */
  const lanes = new Map<string, T[]>()
  return {
    push(caller, one) {
      const lane = lanes.get(caller)
      if (lane === undefined) lanes.set(caller, [one])
      else lane.push(one)
    },
    next() {
      for (const [caller, lane] of lanes) {
        lanes.delete(caller)
        const one = lane.shift()
        if (lane.length > 0) lanes.set(caller, lane)
        return one
      }
      return undefined
    },
  }
}
