import type { Config } from '../schema/schema.js'
import { statusesOf } from '../values/status-codes.js'

const CUT = 'upstream_cut'

export interface RouteCost {
  /** Of a request that says nothing of its cost, or may not. */
  readonly cost: number
  readonly costFrom: CostFrom | undefined
  /** Outcomes on which a request gets back what it took: statuses, and a response that was cut. */
  readonly refundOn: ReadonlySet<number | typeof CUT> | undefined
  /** Lower-case name of the response header that says what the request has cost in all. */
  readonly costHeader: string | undefined
}

/** Who may say what a request costs, and how. */
export interface CostFrom {
  /** Lower-case. */
  readonly header: string
  readonly max: number
  readonly consumers: ReadonlySet<string>
}

function outcomesOf(texts: readonly string[]): ReadonlySet<number | typeof CUT> {
  return new Set(
    texts.flatMap((text): readonly (number | typeof CUT)[] => (text === CUT ? [CUT] : statusesOf(text))),
  )
}

/** What a route says of the cost of its requests, compiled. */
export function compileCost({
  cost,
  refund_on: refundOn,
  cost_header: costHeader,
}: Config['routes'][number]): RouteCost {
  return {
    cost: typeof cost === 'number' ? cost : cost.default,
    costFrom:
      typeof cost === 'number'
        ? undefined
        : { header: cost.header, max: cost.max, consumers: new Set(cost.consumers) },
    refundOn: refundOn === undefined ? undefined : outcomesOf(refundOn),
    costHeader,
  }
}
