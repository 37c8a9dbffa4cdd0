import { addressKey } from '../config/address-key.js'
import type { Exchange } from './exchange.js'

/** Everybody has an address. */
export function identifyByIp(x: Exchange): undefined {
  x.consumer = addressKey(x.clientIp)
  x.identifiedBy = 'ip'
}
