import { performance } from 'node:perf_hooks'
import type { Refusal } from '../../errors.js'
import type { ShedReason } from '../../telemetry/metrics/recorder.js'
import type { RequestRecord } from '../../telemetry/record/record.js'
import type { Guards } from '../../upstream/guard/guard.js'
import type { Overload } from '../edge/overload.js'
import type { Exchange } from '../exchange/exchange.js'
import { retrySoon } from '../respond/client-error.js'

export interface AdmitDeps {
  readonly guards: Guards
  readonly overload: Pick<Overload, 'pressure' | 'sheds'>
  readonly metrics: { shed(r: RequestRecord, reason: ShedReason): void }
}

const OVERLOADED = retrySoon({ code: 'overloaded' })

/**
 * Creates the stage that sheds requests when there is no room, before any quota is taken. If there is not room for all,
 * tiers of a higher priority go first. What the stage reserves is given back when the response's header arrives, or when
 * the exchange ends.
 */
export function admit({ guards, overload, metrics }: AdmitDeps) {
  return function admit(x: Exchange): Refusal | undefined {
    const { snapshot } = x
    const guard = guards.of(snapshot, x.route!.service)
    x.guard = guard
    const rank = snapshot.priorities[x.tier]!
    if (overload.pressure > 0) {
      const reason = overload.sheds(rank, snapshot.classes)
      if (reason !== undefined) {
        metrics.shed(x, reason)
        return OVERLOADED
      }
    }
    if (!guard.watching) return undefined
    const now = performance.now()
    const entered = guard.enter(rank, snapshot.classes, now)
    if (typeof entered !== 'string') {
      x.pass = entered
      return undefined
    }
    metrics.shed(x, entered)
    if (entered === 'concurrency') return OVERLOADED
    const seconds = Math.ceil(guard.breaker!.waitMs(now) / 1000)
    return { code: 'circuit_open', headers: ['Retry-After', String(seconds)] }
  }
}
