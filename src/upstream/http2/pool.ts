import type { ClientHttp2Session } from 'node:http2'
import type { LookupFunction } from 'node:net'
import { performance } from 'node:perf_hooks'
import type { Upstream } from '../../config/snapshot/upstream-settings.js'
import { coded, type Sender } from '../sender.js'
import { connectSession, probe } from './connection.js'
import { Http2Request, type StreamOutcome } from './request.js'

/** Most streams on one connection, even if the upstream allows more: a broken connection takes all of them along. */
const MAX_STREAMS = 256
/** Ms that a connection without streams is kept. */
const IDLE_MS = 60_000
/** Most attempts to send a request, each on another connection that the upstream closed without processing it. */
const MAX_ATTEMPTS = 3
/** Ms of silence after which a connection is pinged when one of its requests is aborted. */
const SILENT_MS = 5_000

interface Connection {
  readonly session: ClientHttp2Session
  open: number
  /** True if it takes no new streams. */
  leaving: boolean
  /** Id of the last stream that the other side will process. */
  lastStream: number
  /** `performance.now()` of the last response on it. */
  heard: number
  probed: number
  idle: NodeJS.Timeout | undefined
}

/**
 * Opens a pool of HTTP/2 connections, by ALPN or with prior knowledge, with node:http2. Requests that the upstream has
 * not processed (REFUSED_STREAM, beyond the last stream of a GOAWAY) are sent again on another connection.
 *
 * @param limit most connections
 * @param connectMs longest wait for a connection
 * @param lookup resolves names
 */
export function openHttp2(
  upstream: Upstream,
  limit: number,
  connectMs: number,
  lookup: LookupFunction,
): Sender {
  const scheme = upstream.tls === undefined ? 'http' : 'https'
  const connections = new Set<Connection>()
  const waiting: Http2Request[] = []
  const connecting = new Set<ClientHttp2Session>()
  let closing = false
  let destroyed = false
  let closed: (() => void) | undefined

  function capacity({ session }: Connection): number {
    return Math.min(session.remoteSettings.maxConcurrentStreams ?? MAX_STREAMS, MAX_STREAMS)
  }

  function free(): Connection | undefined {
    for (const connection of connections) {
      const { session, leaving, open } = connection
      if (leaving || session.closed || session.destroyed) continue
      if (open < capacity(connection)) return connection
    }
    return undefined
  }

  /**
   * Returns true if the upstream allows no streams on a connection: a second one would not help, and how long this
   * lasts is unknown.
   */
  function allowsNone(): boolean {
    let none = false
    for (const connection of connections) {
      if (connection.leaving) continue
      if (capacity(connection) > 0) return false
      none = true
    }
    return none
  }

  function serve(): void {
    while (waiting.length > 0) {
      const connection = free()
      if (connection === undefined) break
      start(connection, waiting.shift()!)
    }
    if (waiting.length > 0 && connecting.size === 0) {
      if (allowsNone()) failAll(coded('UPSTREAM_NO_STREAMS', 'the upstream accepts no streams'))
      else if (connections.size < limit) connect()
    }
    finish()
  }

  function connect(): void {
    const session = connectSession(upstream, connectMs, lookup, (error) => {
      connecting.delete(session)
      if (error === undefined) {
        add(session)
        serve()
        return
      }
      failAll(error)
      finish()
    })
    connecting.add(session)
  }

  /** Fails all waiting requests: they would meet the same error, and those that can go elsewhere do so now. */
  function failAll(error: Error): void {
    for (const request of waiting.splice(0)) request.fail(error)
  }

  function add(session: ClientHttp2Session): void {
    const connection: Connection = {
      session,
      open: 0,
      leaving: false,
      lastStream: Number.POSITIVE_INFINITY,
      heard: performance.now(),
      probed: 0,
      idle: undefined,
    }
    connections.add(connection)
    const { close } = session
    // Node also calls this on a GOAWAY: from here on the session takes no requests.
    session.close = (done) => {
      connection.leaving = true
      close(done)
    }
    session.on('goaway', (_, lastStream) => {
      connection.leaving = true
      connection.lastStream = lastStream
    })
    session.on('close', () => {
      clearTimeout(connection.idle)
      connections.delete(connection)
      serve()
    })
    // The limit on streams may have been raised.
    session.on('remoteSettings', serve)
  }

  function start(connection: Connection, request: Http2Request): void {
    clearTimeout(connection.idle)
    connection.open++
    const sent = request.send(connection, (outcome) => ended(connection, request, outcome))
    if (!sent) left(connection)
  }

  function ended(connection: Connection, request: Http2Request, outcome: StreamOutcome): void {
    if (outcome === 'cancelled') suspect(connection)
    else if (outcome === 'done') connection.heard = performance.now()
    if (outcome === 'unprocessed') {
      // This connection takes no more streams, or will not for a while.
      connection.leaving = true
      if (connection.open === 1) connection.session.close()
      if (request.attempts < MAX_ATTEMPTS && request.repeatable) waiting.unshift(request)
      else request.giveUp()
    }
    left(connection)
    serve()
  }

  function left(connection: Connection): void {
    connection.open--
    if (connection.open > 0) return
    if (connection.leaving || closing) connection.session.close()
    else connection.idle = setTimeout(() => connection.session.close(), IDLE_MS).unref()
  }

  function suspect(connection: Connection): void {
    const now = performance.now()
    if (now - connection.heard < SILENT_MS || now - connection.probed < SILENT_MS * 2) return
    connection.probed = now
    probe(connection.session)
  }

  function finish(): void {
    if (closing && waiting.length === 0 && connections.size === 0 && connecting.size === 0) closed?.()
  }

  return {
    get connecting() {
      // With a connection, a request can wait for a stream.
      return connecting.size > 0 && connections.size === 0
    },
    get closed() {
      return closing
    },
    get destroyed() {
      return destroyed
    },
    dispatch(asked, handler) {
      const request = new Http2Request(scheme, asked, handler)
      if (closing) request.fail(coded('UPSTREAM_SHUT', 'the connections are closed'))
      else {
        waiting.push(request)
        serve()
      }
    },
    withdraw(handler) {
      const at = waiting.findIndex((one) => one.handler === handler)
      if (at < 0) return
      const [request] = waiting.splice(at, 1)
      request!.fail(coded('UPSTREAM_ABORTED', 'the gateway gave up the request'))
      finish()
    },
    close() {
      closing = true
      for (const connection of connections) if (connection.open === 0) connection.session.close()
      return new Promise((resolve) => {
        closed = resolve
        finish()
      })
    },
    async destroy() {
      closing = true
      destroyed = true
      const error = coded('UPSTREAM_SHUT', 'the connections are closed')
      for (const request of waiting.splice(0)) request.fail(error)
      for (const session of connecting) session.destroy(error)
      for (const { session } of connections) session.destroy(error)
    },
  }
}
