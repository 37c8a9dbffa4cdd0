import { suggest } from '../config/values/nearest-name.js'
import type { Log } from './degraded.js'

/** What the limiter by itself is given, in the words of the configuration file (docs/config.md). */

/** `100ms`, `5s`, `1m`, `2h`, `1d`. */
export type Duration = '0' | `${number}${'ms' | 's' | 'm' | 'h' | 'd'}`

/** `10/min`: an amount per window. */
export type Rate = `${number}/${'s' | 'min' | 'h' | 'day' | Duration}`

/** A limit in full. */
export interface FullLimit {
  /** 1 to 33,554,431. */
  readonly amount: number
  /** Required, but for calendar and concurrency, which have none. */
  readonly window?: Duration | undefined
  /** By default sliding. */
  readonly algorithm?:
    | 'sliding'
    | 'strict'
    | 'token_bucket'
    | 'fixed'
    | 'calendar'
    | 'concurrency'
    | undefined
  /** token_bucket: how much may be taken at once; by default the amount. */
  readonly burst?: number | undefined
  /** calendar: required there. */
  readonly period?: 'day' | 'month' | undefined
  /** calendar: by default UTC. */
  readonly time_zone?: string | undefined
  /** concurrency: how long a slot is held that nobody gives back; by default 1m. */
  readonly lease?: Duration | undefined
  /** Whose quota it is; by default the consumer's. */
  readonly by?: 'ip' | 'consumer' | 'tenant' | 'route' | 'service' | undefined
  /** Above 0 and below 1: how much of it one consumer may take. */
  readonly share?: number | undefined
  /** Only tried out: counted, and deciding nothing. */
  readonly candidate?: boolean | undefined
  readonly name?: string | undefined
}

export type LimitSetting = Rate | FullLimit

/** Where counts live; without `redis` in this process. */
export interface StoreSettings {
  /** `redis://`, `rediss://`, `redis+sentinel://`, or a list of nodes of a Cluster. */
  readonly redis?: string | readonly string[] | undefined
  readonly tls?:
    | { readonly ca?: string; readonly cert?: string; readonly key?: string; readonly server_name?: string }
    | undefined
  readonly sentinel?: { readonly username?: string; readonly password: string } | undefined
  /** Longest wait for the store, by default 100ms. */
  readonly timeout?: Duration | undefined
  readonly on_failure?: OnFailure | undefined
  readonly max_keys?: number | undefined
  readonly batch?: number | undefined
  readonly merge?: boolean | undefined
  readonly gather?: Duration | undefined
  readonly denials?: number | undefined
}

/** What to do while the store is away: let pass uncounted, count in this process, or deny. */
export type OnFailure = 'open' | 'local' | 'closed'

export interface LimiterSettings {
  readonly store?: StoreSettings | undefined
  /** By tier. */
  readonly limits: Readonly<Record<string, 'unlimited' | LimitSetting | readonly LimitSetting[]>>
  readonly on_failure?: OnFailure | undefined
  /** Whose counts they are in the store: limiters of one name, and a gateway's service of that name, share them. By default `api`. */
  readonly service?: string | undefined
  /** Hears that the store went away or came back, at most a line a second; left out: nobody does. */
  readonly log?: Log | undefined
}

/** Who else than the consumer a request is counted under. What is left out is the same for all requests. */
export interface AskedLevels {
  /** The caller's address, for limits by `ip`: IPv6 counts by its /64, `::ffff:192.0.2.1` as IPv4. */
  readonly ip?: string | undefined
  readonly tenant?: string | undefined
  readonly route?: string | undefined
  /** Whether the consumer is an address: it is counted as a gateway counts callers known by theirs, apart from a consumer of that name. */
  readonly byAddress?: boolean | undefined
}

export interface Asked extends AskedLevels {
  /** Integer ≥ 1; by default 1. */
  readonly cost?: number | undefined
}

export const SETTINGS = ['limits', 'store', 'on_failure', 'service', 'log'] as const
export const LEVELS = ['ip', 'tenant', 'route', 'byAddress'] as const
export const ASKED = ['cost', ...LEVELS] as const

/** Lists what is wrong with the names of settings: one that nobody reads is a typo, and would be taken for a default. */
export function unknownNames(settings: object, known: readonly string[]): string[] {
  return Object.keys(settings)
    .filter((name) => !known.includes(name))
    .map((name) => `unknown setting ${JSON.stringify(name)}; ${suggest(name, known, 'settings')}`)
}
