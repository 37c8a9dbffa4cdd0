import { performance } from 'node:perf_hooks'
import { getOrAdd } from '../../common/maps.js'
import type { Refusal } from '../../errors.js'
import type { HookName } from '../../extension/define.js'
import type { BoundHook } from '../../extension/route-hooks.js'
import { throttledWarning } from '../../log-throttle.js'
import type { Exchange } from '../exchange/exchange.js'
import type { HookState } from '../exchange/hook-state.js'
import { type Later, type StageOutcome, WAITING } from '../request-lifecycle.js'
import { Withheld } from './hook-body.js'
import { hookStateOf } from './request-view.js'

/** How hooks of one kind are called, and what their results do. Everything in it may throw: the hook has failed then. */
export interface HookKind {
  /** Calls the hook. */
  call(hook: BoundHook, state: HookState, x: Exchange): unknown
  /**
   * Checks the result of the hook, in full before anything is changed, and takes it over.
   *
   * @returns what the request ends with; undefined: the next hook runs
   */
  take(result: unknown, state: HookState, x: Exchange, hook: BoundHook): StageOutcome
  /** Says what a hook did that returned undefined. */
  readonly idle: string
  /** Says what a hook did that returned anything else. */
  readonly done: string
  /** True if a hook that fails never ends the request, whatever its `on_error`. */
  readonly lenient?: boolean
}

export interface HookRunnerDeps {
  readonly metrics: { extensionFailed(extension: string, hook: HookName): void }
  readonly log: { warn(fields: object, message: string): void }
  /** Runs only hooks that may run for `tidegate explain`. */
  readonly looksOnly?: boolean
}

export type HookRunner = ReturnType<typeof createHookRunner>

/** Longest time for which a hook may hold up all requests before the log names it, in ms. */
const LONGEST_BLOCK_MS = 50

/**
 * Creates the function that runs hooks. Whatever a hook throws, returns or never settles ends its own request at most.
 * A hook that returns no promise costs no turn of the event loop.
 */
export function createHookRunner({ metrics, log, looksOnly = false }: HookRunnerDeps) {
  const warnings = new Map<string, ReturnType<typeof throttledWarning>>()

  function warn({ extension, hook }: BoundHook, fields: object, message: string): void {
    const throttled = getOrAdd(warnings, `${message} ${extension} ${hook}`, () => throttledWarning(log))
    throttled({ extension, hook, ...fields }, message)
  }

  /** Counts and logs a failure. Returns what the request ends with, by `on_error`. */
  function failed(
    x: Exchange,
    hook: BoundHook,
    kind: HookKind,
    error: unknown,
    began: number,
  ): Refusal | undefined {
    record(x, hook, began, true)
    const { extension, hook: name, onError } = hook
    metrics.extensionFailed(extension, name)
    const text = errorText(error)
    warn(hook, { on_error: onError, request_id: x.requestId, error: text }, 'a hook of an extension failed')
    const denies = onError === 'deny' && kind.lenient !== true
    hookStateOf(x).notes.push(extension, name, denies ? 'failed' : 'failed and was skipped')
    if (!denies) return undefined
    const cause = `the hook ${name} of the extension ${extension} failed: ${text.split('\n', 1)[0]}`
    return { code: 'extension_failed', headers: RETRY_SOON, cause: cause.slice(0, MAX_CAUSE) }
  }

  function taken(x: Exchange, hook: BoundHook, kind: HookKind, result: unknown, began: number): StageOutcome {
    const state = x.hooks!
    const outcome = kind.take(result, state, x, hook)
    const effect = outcome !== undefined ? 'responded' : result === undefined ? kind.idle : kind.done
    state.notes.push(hook.extension, hook.hook, effect)
    record(x, hook, began, false)
    return outcome
  }

  /** Notes that a hook cannot have its body. That is no failure of the hook, and counted as none. */
  function withheld(x: Exchange, { extension, hook, onError }: BoundHook, { refusal }: Withheld) {
    const why = refusal.detail ?? refusal.cause
    hookStateOf(x).notes.push(extension, hook, `was not run: ${why}`)
    return onError === 'skip' ? undefined : { ...refusal, cause: `extension ${extension}: ${why}` }
  }

  /** Records the hook that has ended now, for its span. */
  function record(x: Exchange, { extension, hook }: BoundHook, began: number, failed: boolean): void {
    x.trace?.recording?.hooks.push({ extension, hook, began, ended: performance.now(), failed })
  }

  /** Goes on when the promise that a hook returned is settled, or when its time is over. */
  function wait(began: Call, promise: PromiseLike<unknown>): void {
    // Let go of at the end: an extension may keep its promise for ever.
    let call: Call | undefined = began

    function settle(step: (call: Call) => StageOutcome): void {
      if (call === undefined) return
      const waited = call
      const { x, hooks, at, kind, later } = waited
      leave()
      try {
        let outcome: StageOutcome
        try {
          outcome = step(waited)
        } catch (error) {
          outcome = failed(x, hooks[at]!, kind, error, waited.began)
        }
        const next = outcome ?? run(x, hooks, kind, later, at + 1)
        if (next !== WAITING) later.proceed(next)
      } catch (error) {
        later.broken(error)
      }
    }

    function leave(): void {
      clearTimeout(timer)
      call!.x.hooks!.waiting = undefined
      call = undefined
    }

    const fulfilled = (value: unknown) =>
      settle(({ x, hooks, at, kind, began }) => taken(x, hooks[at]!, kind, value, began))
    const rejected = (error: unknown) =>
      settle(() => {
        throw error
      })
    if (promise instanceof Promise) THEN.call(promise, fulfilled, rejected)
    else Promise.resolve(promise).then(fulfilled, rejected)
    const { x, hooks, at } = began
    const { timeout } = hooks[at]!
    const timer = setTimeout(() => {
      const late = new Error(`no result within ${timeout} ms`)
      const { aborter } = x.hooks!
      x.hooks!.aborter = undefined
      settle(() => {
        throw late
      })
      aborter?.abort(late)
    }, timeout)
    x.hooks!.waiting = { leave }
  }

  /**
   * Runs hooks in their order until one ends the request. If one has to be waited for, the rest of them goes on through
   * `later`.
   *
   * @param from index of the first hook
   */
  function run(
    x: Exchange,
    hooks: readonly BoundHook[],
    kind: HookKind,
    later: Later,
    from = 0,
  ): StageOutcome | typeof WAITING {
    const state = hookStateOf(x)
    let began = performance.now()
    for (let at = from; at < hooks.length; at++) {
      const hook = hooks[at]!
      if (looksOnly && (!hook.explain || hook.body !== undefined)) {
        state.notes.push(hook.extension, hook.hook, 'was not run')
        continue
      }
      let outcome: StageOutcome | typeof WAITING
      try {
        const result = kind.call(hook, state, x)
        if (result instanceof Withheld) outcome = withheld(x, hook, result)
        else if (isThenable(result)) {
          wait({ x, hooks, at, kind, later, began }, result)
          outcome = WAITING
        } else outcome = taken(x, hook, kind, result, began)
      } catch (error) {
        outcome = failed(x, hook, kind, error, began)
      }
      const ended = performance.now()
      if (ended - began > LONGEST_BLOCK_MS)
        warn(hook, { blocked_ms: Math.round(ended - began) }, 'a hook of an extension held up all requests')
      if (outcome === WAITING) return WAITING
      if (outcome !== undefined) return outcome
      began = ended
    }
    return undefined
  }

  return run
}

interface Call {
  readonly x: Exchange
  readonly hooks: readonly BoundHook[]
  readonly at: number
  readonly kind: HookKind
  readonly later: Later
  readonly began: number
}

const THEN = Promise.prototype.then
const RETRY_SOON = ['Retry-After', '1']
const MAX_CAUSE = 200
const MAX_ERROR = 4_096

/** Ends what hooks have begun for a request that is over. Call it once for every exchange. */
export function endHooks({ hooks, error }: Exchange): void {
  if (hooks === undefined) return
  hooks.waiting?.leave()
  if (error === 'client_closed') hooks.aborter?.abort()
}

/** Returns whether a value is to be awaited. Throws what a hostile value throws. */
function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'
}

/** Returns an error with its stack. Whatever was thrown, this does not throw. */
function errorText(error: unknown): string {
  try {
    const text = error instanceof Error ? (error.stack ?? error.message) : error
    return String(text).slice(0, MAX_ERROR)
  } catch {
    return 'a value that cannot be shown'
  }
}
