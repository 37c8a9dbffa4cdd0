import type { Shares } from '../../shares.js'
import type { Exchange } from '../exchange/exchange.js'

/** Who a request's share is counted for: the consumer where one is known, else the address. Undefined: a trusted proxy. */
export function callerOf(x: Exchange, shares: Shares): string | undefined {
  return x.consumer === undefined || x.identifiedBy === 'ip' ? shares.callerOf(x.clientIp) : x.consumer
}
