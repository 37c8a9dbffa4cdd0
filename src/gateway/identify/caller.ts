import type { Shares } from '../../shares.js'
import type { Exchange } from '../exchange/exchange.js'

/**
 * Returns the caller that a request's share is counted for: the consumer if known, otherwise the address. Undefined for
 * a trusted proxy.
 */
export function callerOf(x: Exchange, shares: Shares): string | undefined {
  return x.consumer === undefined || x.identifiedBy === 'ip' ? shares.callerOf(x.clientIp) : x.consumer
}
