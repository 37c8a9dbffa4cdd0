import type { LookupFunction } from 'node:net'
import type { Upstream } from '../../config/snapshot/upstream-settings.js'
import { openHttp1 } from '../http1/pool.js'
import { openHttp2 } from '../http2/pool.js'
import type { Sender } from '../sender.js'

/**
 * Opens the connections to an upstream.
 *
 * @param connections most that may exist at the same time
 * @param lookup resolves names; if there are several addresses, the others are tried when the first does not respond
 */
export function openSender(upstream: Upstream, connections: number, lookup: LookupFunction): Sender {
  const open = upstream.protocol === 'http2' ? openHttp2 : openHttp1
  return open(upstream, connections, upstream.connectMs, lookup)
}
