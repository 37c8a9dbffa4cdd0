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
  const host = hostnameOf(origin)
  const port = Number(new URL(origin).port) || (tls === undefined ? 80 : 443)
  const common = {
    host,
    port,
    lookup,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: ASK_MS,
    highWaterMark: SEND_BYTES,
  }
  const secure = tls && {
    ...tlsOptions(tls),
    servername: serverNameOf(tls, host),
    ALPNProtocols: ['http/1.1'],
  }
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
    const socket = connectTls({ ...common, ...secure, session, onread } as ConnectionOptions)
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

/** Returns the hostname of an origin, without the brackets of an IPv6 address. */
export function hostnameOf(origin: string): string {
  return new URL(origin).hostname.replace(/^\[|\]$/g, '')
}

/** Returns the name for SNI: never an address (RFC 6066 §3). */
export function serverNameOf({ serverName }: UpstreamTls, hostname: string): string {
  return serverName ?? (isIP(hostname) === 0 ? hostname : '')
}
