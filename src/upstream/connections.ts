import type { LookupFunction } from 'node:net'
import { type Dispatcher, Pool } from 'undici'
import type { Upstream } from '../config/snapshot.js'
import { createConnector, hostnameOf } from './connector.js'
import { openHttp2 } from './http2-pool.js'
import type { Sender } from './sender.js'

export { RESET } from './connector.js'

/** @param lookup finds the addresses of names; of several, the others are tried when the first does not answer */
export function openSender(upstream: Upstream, connections: number, lookup: LookupFunction): Sender {
  if (upstream.protocol === 'http2') return openHttp2(upstream, connections, upstream.connectMs, lookup)
  const options: Pool.Options = {
    connections,
    // One request at a time on a connection: a stray byte after a response can never become another's answer.
    pipelining: 1,
    connect: createConnector(upstream, upstream.connectMs, lookup),
    keepAliveTimeout: 4_000,
    keepAliveMaxTimeout: 60_000,
    keepAliveTimeoutThreshold: 2_000,
    maxHeaderSize: 16_384,
    allowH2: false,
    // The exchange watches its own times (gateway/watchdog.ts): undici's run on a clock of half a second.
    headersTimeout: 0,
    bodyTimeout: 0,
  }
  return upstream.tls === undefined ? new Pool(upstream.origin, options) : new TlsPool(upstream, options)
}

/**
 * undici takes the name for SNI from a request's Host, and makes a new connection whenever that changes. Here it is one
 * name for all (which the connector puts in the place of this one), whatever Host a route lets through.
 */
class TlsPool extends Pool {
  readonly #name: string

  constructor({ origin }: Upstream, options: Pool.Options) {
    super(origin, options)
    this.#name = hostnameOf(origin)
  }

  override dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    return super.dispatch({ ...options, servername: this.#name } as Dispatcher.DispatchOptions, handler)
  }
}
