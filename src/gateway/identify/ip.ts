import { addressKey } from '../../net/address-key.js'
import type { Exchange } from '../exchange/exchange.js'

/** Identifies the client by its address, which every client has. */
export function identifyByIp(x: Exchange): undefined {
  x.consumer = addressKey(x.clientIp)
  x.identifiedBy = 'ip'
}
