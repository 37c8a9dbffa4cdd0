import type { LookupFunction } from 'node:net'
import type { Upstream } from '../../config/snapshot/snapshot.js'
import { openHttp1 } from '../http1/pool.js'
import { openHttp2 } from '../http2/pool.js'
import type { Sender } from '../sender.js'

/**
 * @param connections most that there may be at the same time
 * @param lookup finds the addresses of names; of several, the others are tried when the first does not answer
 */
export function openSender(upstream: Upstream, connections: number, lookup: LookupFunction): Sender {
  const open = upstream.protocol === 'http2' ? openHttp2 : openHttp1
  return open(upstream, connections, upstream.connectMs, lookup)
}
