import type { HookName } from './define.js'

/** Hook as the gateway runs it, compiled from an extension's instance and its settings. Never changes. */
export interface BoundHook {
  /** Name in `extensions`. */
  readonly extension: string
  readonly hook: HookName
  /** Function of the hook. Only `gateway/extensions/runner.ts` calls it, because it may do and return anything. */
  readonly run: (...args: unknown[]) => unknown
  /** True if `tidegate explain` may run it. */
  readonly explain: boolean
  /** Body that it gets; `max` in bytes. */
  readonly body: { readonly max: number; readonly as: 'json' | 'text' | 'bytes' } | undefined
  /** Longest time that it may take, in ms. */
  readonly timeout: number
  /** Effect of an error. `identify` always has `deny`. */
  readonly onError: 'deny' | 'skip'
}

/** Hooks of a route by kind, in the order in which they run; a kind without hooks is left out. */
export type RouteHooks = Readonly<Partial<Record<Exclude<HookName, 'identify'>, readonly BoundHook[]>>>
