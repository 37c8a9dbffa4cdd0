import type { Route } from '../../config/snapshot/snapshot.js'
import type { Refusal } from '../../errors.js'
import type { Exchange } from '../exchange/exchange.js'
import { bodyRefusal, mostWanted } from '../extensions/hook-body.js'
import { type BodyDeps, readBody } from '../forward/read-body.js'
import type { Stage } from '../request-lifecycle.js'

/** Creates the stage that reads the body for `onRequest`, if one of these hooks wants it: before a service is chosen. */
export function readBodyEarly(deps: BodyDeps): Stage<Refusal | undefined> {
  return (x, later) => {
    const { hooks, split } = x.route!
    if (hooks?.onRequest?.some(({ body }) => body !== undefined) !== true) return undefined
    let most = mostWanted(hooks)
    // Hooks of the service that will be chosen get the same body.
    for (const { route } of split?.members ?? []) most = Math.max(most, mostWanted(route.hooks))
    return readBody(deps, x, most, later)
  }
}

const NONE: readonly Route[] = []

/** Creates the stage that reads the body for hooks that run once the service is chosen, before anything is reserved. */
export function readBodyLate(deps: BodyDeps): Stage<Refusal | undefined> {
  return (x, later) => {
    const { hooks } = x.route!
    if (hooks === undefined && x.alsoRead === undefined) return undefined
    if (x.body !== undefined) return bodyRefusal(x)
    let most = mostWanted(hooks)
    for (const { hooks: others } of x.alsoRead ?? NONE) most = Math.max(most, mostWanted(others))
    return most === 0 ? undefined : readBody(deps, x, most, later)
  }
}

/** Drops the body that was kept for hooks. */
export function dropBody(x: Exchange): void {
  x.body?.release()
  x.body = undefined
}
