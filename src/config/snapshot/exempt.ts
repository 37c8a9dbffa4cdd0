import { compileAddressSet } from '../../net/addresses.js'
import type { Config } from '../schema/schema.js'

/** Returns true for a caller that the limits do not count. An address that is the consumer is no id. */
export type IsExempt = (consumer: string | undefined, address: string) => boolean

/** Compiles the callers that a service does not limit; undefined if there are none. */
export function compileExempt(settings: Config['services'][string]['exempt']): IsExempt | undefined {
  if (settings === undefined) return undefined
  const consumers = new Set(settings.consumers)
  const isIn = compileAddressSet(settings.addresses)
  return (consumer, address) => (consumer !== undefined && consumers.has(consumer)) || isIn(address)
}
