import type { Meter } from '@opentelemetry/api'
import type { OptionsOf, OptionsSchema } from './options.js'
import type { Fields, Reply } from './respond.js'

export type { OptionSchema, OptionsOf, OptionsSchema } from './options.js'
export { type Fields, type Problem, type Reply, respond } from './respond.js'

/** Extensions: your own code in the way of a request. `import { defineExtension, respond } from 'tidegate/extension'`. */

export type MaybePromise<T> = T | Promise<T>

/**
 * Request as hooks see it. Every hook of a request gets the same frozen object, so a `WeakMap` with it as the key can hand
 * a value from one hook to the next.
 */
export interface ExtensionRequest {
  /** Request id, as in the access log and `X-Request-Id`. */
  readonly id: string
  readonly method: string
  /** Host in lower case, without the port. */
  readonly host: string
  /** Canonical path without the query. */
  readonly path: string
  /** Query with its `?`; empty if there is none. */
  readonly query: string
  /** Address of the client, from `X-Forwarded-For` if a trusted proxy sent it. */
  readonly address: string
  /** True if the client came by TLS, to the gateway or to a trusted proxy. */
  readonly secure: boolean
  /**
   * Returns the value of a header that the client sent, credentials included. Repeated headers are joined by `, `.
   *
   * @param name in any case
   */
  header(name: string): string | undefined
  /** Label of the route: its configured path, with the host in front if the route names one. */
  readonly route: string
  /** Values of the route's `:name` segments, and of `*`. */
  readonly params: Readonly<Record<string, string>>
  /** Name of the service; undefined before a split has chosen one, and on a route that forwards nothing. */
  readonly service: string | undefined
  /** Id of the consumer; undefined in `identify`. */
  readonly consumer: string | undefined
  /** Name of the tier; undefined in `identify`. */
  readonly tier: string | undefined
  readonly tenant: string | undefined
  /** Scopes of the credential. */
  readonly scopes: readonly string[]
  /** Limits of the tier at this service; empty before both are known. `window` is in ms. */
  readonly limits: readonly { readonly name: string; readonly amount: number; readonly window: number }[]
  /** Aborts when the client leaves or the time of the hook is over. Hand it to `fetch`. */
  readonly signal: AbortSignal
}

/** Consumer that `identify` found. A tier that is not in `tiers`, or an id that is not valid, is an error of the hook. */
export interface Identity {
  /** Id of the consumer: 1 to 256 printable characters. */
  readonly consumer: string
  /** Default: as for any consumer without a tier of its own. */
  readonly tier?: string
  readonly tenant?: string
  /** Scopes that routes compare with theirs. */
  readonly scopes?: readonly string[]
}

/** Head of a response from an upstream. */
export interface ExtensionResponse {
  readonly status: number
  /** Returns the value of a header, by its name in any case. Repeated headers are joined by `, `. */
  header(name: string): string | undefined
}

/** Decision of the limiter to deny a request. */
export interface DenialView {
  /** Name of the limit that denies. */
  readonly limit: string
  /** `Retry-After` in seconds; undefined if the response has none. */
  readonly retryAfter: number | undefined
  /** Rest of the quota, which is less than the cost. */
  readonly remaining: number
  /** Cost of the request. */
  readonly cost: number
}

/** Change to a request before it goes to the upstream. */
export interface UpstreamChange {
  readonly headers?: Fields
  /** Replaces the body. */
  readonly body?: string | Uint8Array
}

/** Change to the response of an upstream. */
export interface ResponseChange {
  readonly headers?: Fields
  /** 200 to 599. */
  readonly status?: number
  /** Replaces the body. */
  readonly body?: string | Uint8Array
}

/** Change to a 429 of the limiter. */
export interface DenialChange {
  readonly headers?: Fields
  /** Replaces `detail` of the problem. */
  readonly detail?: string
}

/** Settings of the body that a hook gets. The gateway reads the body once for all hooks, and passes it on unchanged. */
export interface BodyOptions {
  /** Largest body, up to `1MB`. A larger one is answered with 413, or skips the hook with `on_error: skip`. */
  readonly max: string
  /** Default: bytes. */
  readonly as?: 'json' | 'text' | 'bytes'
}

/** Hook in full, for those that need the body or run in `tidegate explain`. */
export interface FullHook<F> {
  readonly run: F
  /** True if `tidegate explain` may run the hook: it changes nothing elsewhere, and is quick. Default: false. */
  readonly explain?: boolean
  readonly body?: BodyOptions
}

/** Hook: a function, or the function with settings. With `body`, the function gets the body as its last argument. */
export type Hook<F> = F | FullHook<F>

// Written as methods, so that a hook may declare the body as what it asked for: `run(request, body: Buffer)`.
type Call<A extends unknown[], R> = { call(...args: A): MaybePromise<R> }['call']

/** Hooks of an extension, in the order in which a request meets them. Each is optional. */
export interface Hooks {
  /**
   * Identifies the consumer. Runs where `consumers` names the extension. Returns undefined if the request has no such
   * credential: the next kind of consumer is tried. To refuse a wrong one, return `respond(401)`. A hook that fails denies.
   */
  readonly identify?: Hook<Call<[request: ExtensionRequest], Identity | Reply | undefined>>
  /** Runs when the consumer and the tier are known, before a service is chosen and quota is taken. A reply ends the request. */
  readonly onRequest?: Hook<Call<[request: ExtensionRequest, body?: unknown], Reply | undefined>>
  /** Returns how much the request takes from each limit: a whole number from 1 to 33,554,431. The highest cost counts. */
  readonly cost?: Hook<Call<[request: ExtensionRequest, body?: unknown], number>>
  /** Changes the request for the upstream, after quota was taken. Runs once, not for each retry. */
  readonly onUpstreamRequest?: Hook<
    Call<[request: ExtensionRequest, body?: unknown], UpstreamChange | undefined>
  >
  /** Changes the upstream's response. */
  readonly onResponse?: Hook<
    Call<[request: ExtensionRequest, response: ExtensionResponse, body?: unknown], ResponseChange | undefined>
  >
  /** Changes a 429 of the limiter. */
  readonly onDenied?: Hook<Call<[request: ExtensionRequest, denial: DenialView], DenialChange | undefined>>
}

/** Names of the hooks, in the order in which a request meets them. */
export const HOOKS = ['identify', 'onRequest', 'cost', 'onUpstreamRequest', 'onResponse', 'onDenied'] as const
export type HookName = (typeof HOOKS)[number]

type Say = (message: string, fields?: object) => void

/** Argument of `create`. */
export interface ExtensionContext<O> {
  /** Name in `extensions`. */
  readonly name: string
  /** Options from the configuration, checked, with defaults filled in; frozen. */
  readonly options: O
  /** Event log of the gateway. Each line names the extension. */
  readonly log: { readonly info: Say; readonly warn: Say; readonly error: Say }
  /** Meter for metrics of your own. They are exported with those of the gateway. */
  readonly meter: Meter
  /** Aborts when the extension ends: at shutdown, or when changed options have made another instance. */
  readonly signal: AbortSignal
}

/** Extension as a module exports it by default. */
export interface Extension<O = never> {
  readonly options?: OptionsSchema
  create(context: ExtensionContext<O>): MaybePromise<Hooks>
}

/**
 * Defines an extension: `export default defineExtension({ … })`. Returns the definition as it is, with types.
 *
 * @param definition `options`: JSON Schema of the options; `create` makes the hooks, once for each process and each change of options
 */
export function defineExtension<
  const S extends OptionsSchema = { type: 'object'; properties: Record<never, never> },
>(definition: {
  readonly options?: S
  create(context: ExtensionContext<OptionsOf<S>>): MaybePromise<Hooks>
}): Extension<OptionsOf<S>> {
  return definition
}
