import { addressKey } from '../../net/address-key.js'
import type { Exchange } from '../exchange/exchange.js'

/** Everybody has an address. */
export function identifyByIp(x: Exchange): undefined {
  x.consumer = addressKey(x.clientIp)
  x.identifiedBy = 'ip'
}
