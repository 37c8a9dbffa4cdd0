import type { Refusal } from '../../errors.js'
import type { BoundHook } from '../../extension/route-hooks.js'
import { MOST } from '../../limiter/algorithms/algorithm.js'
import type { Shares } from '../../shares.js'
import type { Exchange } from '../exchange/exchange.js'
import { type FieldChange, type HookState, withChange } from '../exchange/hook-state.js'
import { callWithBody, replacementOf, UNTRUE } from '../extensions/hook-body.js'
import { answerOf, changeOf, mayNotReachUpstream, membersOf } from '../extensions/results.js'
import type { HookKind, HookRunner } from '../extensions/runner.js'
import { replaceBody } from '../forward/read-body.js'
import type { Stage } from '../request-lifecycle.js'

/** Creates the stages that run the hooks of a route. A route without hooks pays one comparison a stage. */
export function createHookStages(run: HookRunner, shares: Shares) {
  const onUpstreamRequest: HookKind = {
    idle: 'changed nothing',
    done: 'changed the request',
    call: callWithBody,
    take: (result, state, x, hook) => changeRequest(result, state, x, hook, shares),
  }
  return {
    /** Runs `onRequest`: the tier is known, and no service is chosen yet. */
    onRequest: ((x, later) => {
      const hooks = x.route!.hooks?.onRequest
      return hooks === undefined ? undefined : run(x, hooks, ON_REQUEST, later)
    }) satisfies Stage,
    /** Runs `cost`, unless nothing is counted. */
    cost: ((x, later) => {
      const hooks = costHooksOf(x)
      return hooks === undefined ? undefined : run(x, hooks, COST, later)
    }) satisfies Stage,
    /** Runs `onUpstreamRequest`: the quota is taken. */
    onUpstreamRequest: ((x, later) => {
      const hooks = x.route!.hooks?.onUpstreamRequest
      return hooks === undefined ? undefined : run(x, hooks, onUpstreamRequest, later)
    }) satisfies Stage,
  }
}

const ON_REQUEST: HookKind = {
  idle: 'let the request pass',
  done: 'responded',
  call: callWithBody,
  take: (result, _state, x, { extension }) =>
    result === undefined ? undefined : answerOf(result, x, extension, 'onRequest'),
}

const COST: HookKind = {
  idle: '',
  done: 'set the cost',
  call: callWithBody,
  take(result, state) {
    if (!Number.isInteger(result) || (result as number) < 1 || (result as number) > MOST)
      throw new TypeError(`cost must return a whole number from 1 to ${MOST}`)
    state.cost = Math.max(state.cost, result as number)
    return undefined
  },
}

/** Takes over what `onUpstreamRequest` returned. */
function changeRequest(
  result: unknown,
  state: HookState,
  x: Exchange,
  hook: BoundHook,
  shares: Shares,
): Refusal | undefined {
  if (result === undefined) return undefined
  const { headers, body } = membersOf(result, 'onUpstreamRequest')
  const change = changeOf(headers, (name) => mayNotReachUpstream(x, name))
  const replacement = replacementOf(body, hook)
  if (replacement !== undefined) state.upstream = merged(state.upstream, { drop: UNTRUE, put: [] })
  if (change !== undefined) state.upstream = merged(state.upstream, change)
  return replacement && replaceBody(shares, x, replacement)
}

/** Returns the change that two hooks make, one after the other. */
function merged(before: FieldChange | undefined, { drop, put }: FieldChange): FieldChange {
  if (before === undefined) return { drop, put }
  return { drop: new Set([...before.drop, ...drop]), put: withChange(before.put, { drop, put }) }
}

/** Returns the hooks of the route, and of the routes that a backend could read the path as. */
function costHooksOf({ route, policy, alsoRead }: Exchange): readonly BoundHook[] | undefined {
  const own = route!.hooks?.cost
  if (policy === undefined || alsoRead === undefined) return policy && own
  const all = [route!, ...alsoRead].flatMap(({ hooks }) => hooks?.cost ?? [])
  return all.length === 0 ? undefined : all
}
