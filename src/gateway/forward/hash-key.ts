import type { Service } from '../../config/snapshot/snapshot.js'
import type { Exchange } from '../exchange/exchange.js'
import { sentField } from '../exchange/header-list.js'
import { identityHeader } from '../exchange/headers.js'

/** Returns the key by which the service picks an upstream; undefined if it picks without one, or the request has none. */
export function hashKeyOf(x: Exchange, { balance }: Service): string | undefined {
  if (balance.kind === 'hash_consumer') return x.consumer ?? x.clientIp
  if (balance.kind !== 'hash_header') return undefined
  return sentField(x.headers.forward, balance.header) ?? identityHeader(x.headers, balance.header)
}
