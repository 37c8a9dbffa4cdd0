import type { Refusal } from '../../errors.js'
import type { DenialView } from '../../extension/define.js'
import type { BoundHook } from '../../extension/route-hooks.js'
import type { Exchange } from '../exchange/exchange.js'
import { withChange } from '../exchange/hook-state.js'
import { type Later, WAITING } from '../request-lifecycle.js'
import { changeOf, membersOf } from './results.js'
import type { HookKind, HookRunner } from './runner.js'

/** Headers that belong to the problem that the gateway sends. */
const OF_PROBLEM: ReadonlySet<string> = new Set(['content-type', 'cache-control', 'x-request-id'])
/** Longest detail, in characters. */
const MAX_DETAIL = 1_024

/**
 * Lets hooks change the refusal of a request that the limiter denied. A hook that fails changes nothing: the request is
 * denied in any case.
 */
export function changeDenial(
  run: HookRunner,
  x: Exchange,
  hooks: readonly BoundHook[],
  refusal: Refusal,
  denial: DenialView,
  later: Later<Refusal>,
): Refusal | typeof WAITING {
  const view = Object.freeze(denial)
  let changed = refusal
  const kind: HookKind = {
    idle: 'changed nothing',
    done: 'changed the denial',
    lenient: true,
    call: (hook, { request }) => hook.run(request, view),
    take(result) {
      if (result === undefined) return undefined
      const { headers, detail = changed.detail } = membersOf(result, 'onDenied')
      if (detail !== undefined && (typeof detail !== 'string' || detail.length > MAX_DETAIL))
        throw new TypeError(`detail must be a text of at most ${MAX_DETAIL} characters`)
      const change = changeOf(headers, (name) => OF_PROBLEM.has(name))
      const { prepared, headers: before = [], ...rest } = changed
      changed = {
        ...rest,
        ...(detail !== undefined && { detail }),
        headers: change === undefined ? before : withChange(before, change),
      }
      return undefined
    },
  }
  const outcome = run(x, hooks, kind, {
    proceed: () => later.proceed(changed),
    broken: (error) => later.broken(error),
  })
  return outcome === WAITING ? WAITING : changed
}
