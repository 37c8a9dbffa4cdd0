import type { Config } from '../schema/schema.js'
import { statusesOf } from '../values/status-codes.js'

const CUT = 'upstream_cut'

export interface RouteCost {
  /** Cost of a request that declares none, or may not declare it. */
  readonly cost: number
  readonly costFrom: CostFrom | undefined
  /** Outcomes that refund a request: statuses, and a truncated response. */
  readonly refundOn: ReadonlySet<number | typeof CUT> | undefined
  /** Lower-case name of the response header with the total cost of the request. */
  readonly costHeader: string | undefined
}

/** Consumers that may declare the cost of a request, and the header that they use. */
export interface CostFrom {
  /** Header name in lower case. */
  readonly header: string
  readonly max: number
  readonly consumers: ReadonlySet<string>
}

function outcomesOf(texts: readonly string[]): ReadonlySet<number | typeof CUT> {
  return new Set(
    texts.flatMap((text): readonly (number | typeof CUT)[] => (text === CUT ? [CUT] : statusesOf(text))),
  )
}

/** Compiles the cost settings of a route. */
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
