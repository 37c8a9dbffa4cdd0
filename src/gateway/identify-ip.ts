import { addressConsumer } from './address.js'
import type { Exchange } from './exchange.js'

/** Everybody has an address. */
export function identifyByIp(x: Exchange): undefined {
  x.consumer = addressConsumer(x.clientIp)
  x.identifiedBy = 'ip'
}
