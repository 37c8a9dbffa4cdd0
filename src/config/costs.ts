import type { Config } from './schema.js'
import { statusesOf } from './statuses.js'

export interface RouteCost {
  /** Of a request that says nothing of its cost, or may not. */
  readonly cost: number
  readonly costFrom: CostFrom | undefined
  /** Statuses on which a request gets back what it took. */
  readonly refundOn: ReadonlySet<number> | undefined
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
    refundOn: refundOn === undefined ? undefined : new Set(refundOn.flatMap(statusesOf)),
    costHeader,
  }
}
