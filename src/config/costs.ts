import type { Config } from './schema.js'
import type { Route } from './snapshot.js'

/** What a route says of the cost of its requests, compiled. */
export function compileCost({
  cost,
  refund_on: refundOn,
  cost_header: costHeader,
}: Config['routes'][number]): Pick<Route, 'cost' | 'costFrom' | 'refundOn' | 'costHeader'> {
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

/** `5xx` is a hundred of them. */
function statusesOf(text: string): readonly number[] {
  if (!text.endsWith('xx')) return [Number(text)]
  const first = Number(text[0]) * 100
  return Array.from({ length: 100 }, (_, i) => first + i)
}
