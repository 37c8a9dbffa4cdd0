import { connect as connectTcp, isIP, type LookupFunction, type Socket } from 'node:net'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import type { UpstreamTls } from '../config/snapshot/transport.js'
import type { Upstream } from '../config/snapshot/upstream-settings.js'
import { coded } from './sender.js'

/** Receives the bytes of a connection. */
export interface SocketReader {
  /** Returns the buffer for the next read; undefined: the same as for the read before. */
  buffer(): Buffer | undefined
  /**
   * Handles bytes that were read.
   *
   * @returns false to stop reading for now
   */
  read(size: number, bytes: Buffer): boolean
}

/** Opens one connection; calls the callback once, with an error or without. */
export type Connector = (reader: SocketReader, done: (error: Error | undefined) => void) => Socket

/** Ms without traffic after which the system probes whether the other side is there (TCP keepalive). */
const ASK_MS = 60_000
/**
 * Bytes of an upload that may wait for the upstream before the client has to wait: more than one piece, which is up to
 * 64 KiB.
 */
const SEND_BYTES = 131_072

/**
 * Creates a connector to an upstream. It verifies every TLS connection; from the second on, it resumes the session of
 * an earlier one.
 *
 * @param lookup resolves names; if there are several addresses, the others are tried when the first does not respond
 */
export function createConnector(
  { origin, tls }: Upstream,
  timeoutMs: number,
  lookup: LookupFunction,
): Connector {
  const common = { ...addressOptions(origin, lookup), highWaterMark: SEND_BYTES }
  const secure = tls && { ...common, ...tlsOptions(tls, origin, 'http/1.1') }
  /** TLS session. Never shared with other connectors, which may verify by other rules. */
  let session: Buffer | undefined

  function open(reader: SocketReader): Socket {
    // Bypasses Node's streams, which would allocate a buffer for each read. `undefined` makes the socket keep its
    // buffer.
    const onread = {
      buffer: () => reader.buffer() as Buffer,
      callback: (size: number, bytes: Uint8Array) => reader.read(size, bytes as Buffer),
    }
    if (secure === undefined) return connectTcp({ ...common, onread })
    const socket = connectTls({ ...secure, session, onread } as ConnectionOptions)
    socket.on('session', (next) => {
      session = next
    })
    return socket
  }

  return (reader, done) => {
    const socket = open(reader)
    const timer = setTimeout(
      () => socket.destroy(coded('UPSTREAM_CONNECT_TIMEOUT', `no connection within ${timeoutMs} ms`)),
      timeoutMs,
    )
    let failure: Error | undefined
    const failed = (error: Error) => {
      failure = error
    }
    const closed = () => {
      clearTimeout(timer)
      done(failure ?? coded('UPSTREAM_SHUT', 'the connections are closed'))
    }
    socket.once('error', failed)
    socket.once('close', closed)
    socket.once(secure === undefined ? 'connect' : 'secureConnect', () => {
      clearTimeout(timer)
      socket.off('error', failed)
      socket.off('close', closed)
      done(undefined)
    })
    return socket
  }
}

/** Returns the options of a connection to an origin, for Node. */
export function addressOptions(origin: string, lookup: LookupFunction) {
  const { port, protocol } = new URL(origin)
  return {
    host: hostnameOf(origin),
    port: Number(port) || (protocol === 'https:' ? 443 : 80),
    lookup,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: ASK_MS,
  }
}

/** Returns the options of a TLS connection to an origin, for Node. The name for SNI is never an address (RFC 6066 §3). */
export function tlsOptions({ ca, serverName, verify, cert, key }: UpstreamTls, origin: string, alpn: string) {
  const host = hostnameOf(origin)
  return {
    minVersion: 'TLSv1.2',
    rejectUnauthorized: verify,
    servername: serverName ?? (isIP(host) === 0 ? host : ''),
    ALPNProtocols: [alpn],
    ...(ca === undefined ? undefined : { ca }),
    ...(cert === undefined ? undefined : { cert, key }),
  } as const
}

/** Returns the hostname of an origin, without the brackets of an IPv6 address. */
function hostnameOf(origin: string): string {
  return new URL(origin).hostname.replace(/^\[|\]$/g, '')
}
