import type { Algorithm } from '../config/schema/algorithms.js'
import type { Level, Limit } from '../config/snapshot/limit.js'
import { suggest } from '../config/values/nearest-name.js'
import type { Decision } from '../limiter/limiter.js'
import type { Log } from '../log-throttle.js'

/** Settings of the embedded limiter, in the words of the configuration file (docs/config.md). */

/** Duration such as `100ms`, `5s`, `1m`, `2h`, `1d`. */
export type Duration = '0' | `${number}${'ms' | 's' | 'm' | 'h' | 'd'}`

/** Amount per window, such as `10/min`. */
export type Rate = `${number}/${'s' | 'min' | 'h' | 'day' | Duration}`

/** Limit in its full form. */
export interface FullLimit {
  /** From 1 to 33,554,431. */
  readonly amount: number
  /** Required, except for calendar and concurrency, which have no window. */
  readonly window?: Duration | undefined
  /** Default: sliding. */
  readonly algorithm?: Algorithm | undefined
  /** For token_bucket: how much may be taken at once. Default: the amount. */
  readonly burst?: number | undefined
  /** For calendar, where it is required. */
  readonly period?: 'day' | 'month' | undefined
  /** For calendar. Default: UTC. */
  readonly time_zone?: string | undefined
  /** For concurrency: how long a slot is held if it is not given back. Default: 1m. */
  readonly lease?: Duration | undefined
  /** Level that the quota belongs to. Default: consumer. */
  readonly by?: Level | undefined
  /** Part of the limit that one consumer may take, above 0 and below 1. */
  readonly share?: number | undefined
  /** True for a limit on trial: it is counted and decides nothing. */
  readonly candidate?: boolean | undefined
  readonly name?: string | undefined
}

export type LimitSetting = Rate | FullLimit

/** Where counts are stored: without `redis`, in this process. */
export interface StoreSettings {
  /** `redis://`, `rediss://`, `redis+sentinel://`, or a list of nodes of a Cluster. */
  readonly redis?: string | readonly string[] | undefined
  readonly tls?:
    | { readonly ca?: string; readonly cert?: string; readonly key?: string; readonly server_name?: string }
    | undefined
  readonly sentinel?: { readonly username?: string; readonly password: string } | undefined
  /** Longest wait for the store. Default: 100ms. */
  readonly timeout?: Duration | undefined
  readonly on_failure?: OnFailure | undefined
  readonly max_keys?: number | undefined
  readonly batch?: number | undefined
  readonly merge?: boolean | undefined
  readonly gather?: Duration | 'auto' | undefined
  readonly denials?: number | undefined
  /** True for decisions on a connection of their own to each server. Default: true. */
  readonly own_connection?: boolean | undefined
}

/** Behaviour while the store is unreachable: let requests pass uncounted, count in this process, or deny. */
export type OnFailure = 'open' | 'local' | 'closed'

export interface LimiterSettings {
  readonly store?: StoreSettings | undefined
  /** Limits by tier. */
  readonly limits: Readonly<Record<string, 'unlimited' | LimitSetting | readonly LimitSetting[]>>
  readonly on_failure?: OnFailure | undefined
  /**
   * Name of the counts in the store. Limiters with the same name, and a gateway's service of that name, share them.
   * Default: `api`.
   */
  readonly service?: string | undefined
  /** True for `block`, whose blocks all processes with the same store and service hold. Default: false. */
  readonly blocks?: boolean | undefined
  /** Log for losing and regaining the store, at most one line a second. Default: no log. */
  readonly log?: Log | undefined
}

/** Values of the levels other than consumer. A missing value counts as the same for all requests. */
export interface AskedLevels {
  /** Client's address, for limits by `ip`. IPv6 counts by its /64, `::ffff:192.0.2.1` as IPv4. */
  readonly ip?: string | undefined
  readonly tenant?: string | undefined
  readonly route?: string | undefined
  /**
   * True if the consumer is an address. It is counted as a gateway counts clients known by their address, apart from a
   * consumer of that name.
   */
  readonly byAddress?: boolean | undefined
}

export interface Asked extends AskedLevels {
  /** Integer ≥ 1. Default: 1. */
  readonly cost?: number | undefined
}

/** Decision, with functions to settle it later. */
export interface Taken extends Decision {
  readonly cost: number
  /** Unix ms until which `block` keeps the consumer out; undefined if it does not. */
  readonly blockedUntil: number | undefined
  /** Binding limit; undefined on a tier without limits. */
  readonly limit: Limit | undefined
  /**
   * Gives back the slots of `concurrency` limits. Call it when the response is closed.
   *
   * @param quota integer to charge in addition, or below 0 to give back. Default: 0.
   * @throws RangeError on a quota that is not an integer
   */
  done(quota?: number): Promise<void>
  /** Holds the slots for another `lease`, for work that takes longer than one. */
  renew(): Promise<void>
}

export const SETTINGS = ['limits', 'store', 'on_failure', 'service', 'blocks', 'log'] as const
export const LEVELS = ['ip', 'tenant', 'route', 'byAddress'] as const
export const ASKED = ['cost', ...LEVELS] as const

/** Describes unknown names of settings: an unread one is a typo, which would silently mean the default. */
export function unknownNames(settings: object, known: readonly string[]): string[] {
  return Object.keys(settings)
    .filter((name) => !known.includes(name))
    .map((name) => `unknown setting ${JSON.stringify(name)}; ${suggest(name, known, 'settings')}`)
}
