import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2'
import { connect as connectTcp, type LookupFunction, type Socket } from 'node:net'
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls'
import type { Upstream } from '../../config/snapshot/upstream-settings.js'
import { addressOptions, tlsOptions } from '../connector.js'
import { coded } from '../sender.js'
import { closeLater, keepWithStreams } from './faults.js'

/** Limits on what the upstream may send: headers, and body ahead of its reader. */
const MAX_HEADER_PAIRS = 128
const MAX_HEADER_BYTES = 16_384
const STREAM_WINDOW = 262_144
const CONNECTION_WINDOW = 4 * 1024 * 1024
/** Most memory of one connection, in MB. */
const MAX_SESSION_MEMORY = 32
const PROBE_MS = 5_000

/**
 * Opens a connection and waits until the other side has confirmed HTTP/2 by its SETTINGS. No part of a request is sent
 * before that, so a request whose connection fails here may be sent elsewhere.
 *
 * @param done called once
 */
export function connectSession(
  upstream: Upstream,
  timeoutMs: number,
  lookup: LookupFunction,
  done: (error: Error | undefined, session: ClientHttp2Session) => void,
): ClientHttp2Session {
  let failure: Error | undefined
  const session = connectHttp2(upstream.origin, {
    createConnection: () => openSocket(upstream, lookup),
    settings: {
      enablePush: false,
      initialWindowSize: STREAM_WINDOW,
      maxHeaderListSize: MAX_HEADER_BYTES,
    },
    maxHeaderListPairs: MAX_HEADER_PAIRS,
    maxSessionMemory: MAX_SESSION_MEMORY,
    maxSettings: 32,
  })
  closeLater(session)
  keepWithStreams(session)
  // Without a listener, an error would end the process.
  session.on('error', (error) => {
    failure ??= error
  })
  const timer = setTimeout(() => {
    session.destroy(coded('UPSTREAM_CONNECT_TIMEOUT', `no connection within ${timeoutMs} ms`))
  }, timeoutMs)
  const closed = () => {
    clearTimeout(timer)
    done(
      failure ?? coded('UPSTREAM_NO_HTTP2', 'the connection was closed before HTTP/2 was agreed on'),
      session,
    )
  }
  session.once('close', closed)
  session.once('connect', (_, socket) => {
    const { alpnProtocol } = socket as TLSSocket
    if (upstream.tls !== undefined && alpnProtocol !== 'h2') {
      session.destroy(coded('UPSTREAM_NO_HTTP2', 'the upstream does not offer HTTP/2 (ALPN h2)'))
      return
    }
    session.setLocalWindowSize(CONNECTION_WINDOW)
  })
  session.once('remoteSettings', () => {
    clearTimeout(timer)
    if (session.destroyed) return
    session.off('close', closed)
    done(undefined, session)
  })
  return session
}

function openSocket({ origin, tls }: Upstream, lookup: LookupFunction): Socket {
  const common = addressOptions(origin, lookup)
  return tls === undefined
    ? connectTcp(common)
    : connectTls({ ...common, ...tlsOptions(tls, origin, 'h2') } as ConnectionOptions)
}

/**
 * Pings the other side, and ends the connection if no answer comes. Only on suspicion: gRPC servers count pings and
 * disconnect clients that send many.
 */
export function probe(session: ClientHttp2Session): void {
  if (session.closed || session.destroyed) return
  const timer = setTimeout(() => {
    session.destroy(coded('UPSTREAM_GONE', `no answer to a ping within ${PROBE_MS} ms`))
  }, PROBE_MS).unref()
  session.ping(() => clearTimeout(timer))
}
