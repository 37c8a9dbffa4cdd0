import { isIP, type LookupFunction } from 'node:net'
import type { ConnectionOptions } from 'node:tls'
import { buildConnector } from 'undici'
import type { Upstream, UpstreamTls } from '../config/snapshot.js'

/** What undici is told in place of ECONNRESET. */
export const RESET = 'UPSTREAM_RESET'

/**
 * Makes connections to upstreams, each verified where it is TLS.
 *
 * undici takes a reset for the end of a body that only the end of the connection ends, since a Mac may say so after the
 * last byte. Then a backend that crashes mid body would look like success: under another name it counts as what it is.
 */
export function createConnector(
  { origin, tls }: Upstream,
  timeoutMs: number,
  lookup: LookupFunction,
): buildConnector.connector {
  // undici would take it from the Host of a request, which may be the caller's.
  const servername = tls === undefined ? undefined : serverNameOf(tls, hostnameOf(origin))
  // One for each set of settings: it keeps TLS sessions, and those of others were verified by other rules.
  const connectWithin = buildConnector({
    timeout: timeoutMs,
    allowH2: false,
    lookup,
    ...(tls === undefined ? undefined : tlsOptions(tls)),
  })
  return (options, callback) =>
    connectWithin(servername === undefined ? options : { ...options, servername }, (...[error, socket]) => {
      if (error !== null) {
        callback(error, null)
        return
      }
      socket.on('error', (failure: NodeJS.ErrnoException) => {
        if (failure.code === 'ECONNRESET') failure.code = RESET
      })
      callback(null, socket)
    })
}

type TlsOptions = Pick<
  ConnectionOptions,
  'minVersion' | 'rejectUnauthorized' | 'servername' | 'ca' | 'cert' | 'key'
>

export function tlsOptions({ ca, serverName, verify, cert, key }: UpstreamTls): TlsOptions {
  return {
    minVersion: 'TLSv1.2',
    rejectUnauthorized: verify,
    ...(serverName === undefined ? undefined : { servername: serverName }),
    ...(ca === undefined ? undefined : { ca }),
    ...(cert === undefined ? undefined : { cert, key }),
  }
}

/** Without the brackets of an IPv6 address. */
export function hostnameOf(origin: string): string {
  return new URL(origin).hostname.replace(/^\[|\]$/g, '')
}

/** What is asked for by SNI: never an address (RFC 6066 §3). */
export function serverNameOf({ serverName }: UpstreamTls, hostname: string): string {
  return serverName ?? (isIP(hostname) === 0 ? hostname : '')
}
