import cluster from 'node:cluster'
import type { Server } from 'node:http'
import type { Server as NetServer, Socket } from 'node:net'
import { getOrAdd } from '../../common/maps.js'
import type { Snapshot } from '../../config/snapshot/snapshot.js'
import { A_MINUTE, createThrottle } from '../../log-throttle.js'
import { addressKey, plainAddress, UNIX_PEER } from '../../net/address-key.js'
import { peerOf } from '../respond/client-error.js'
import { clientCap, connectionCap } from './open-files.js'
import { assumeAddress, type ProxyHeader, readProxyHeader } from './proxy-protocol.js'
import { redirectTo } from './redirect.js'

/** Why the gateway closed a connection before its first request. */
export type Rejection = 'total' | 'per_client' | 'untrusted' | 'proxy_header' | 'tls'

/** Counts of connections for the metrics. They are plain numbers: the metrics read them whenever they like. */
export interface ConnectionCounts {
  open: number
  readonly rejected: Record<Rejection, number>
}

export function createConnectionCounts(): ConnectionCounts {
  return { open: 0, rejected: { total: 0, per_client: 0, untrusted: 0, proxy_header: 0, tls: 0 } }
}

/** The TLS step of the listener: turns a raw connection into a decrypted one. */
export interface TlsStep {
  /**
   * @param next is called with the decrypted connection, unless the handshake fails
   * @param failed is called when the handshake fails; the connection is closed then
   */
  secure(socket: Socket, next: (secured: Socket) => void, failed: (why: string) => void): void
}

/** Settings that differ between the addresses of a gateway. */
export interface Door {
  /** Replaces plain text. */
  readonly tls?: TlsStep | undefined
  /** True for a unix socket, whose clients have no address. */
  readonly unix?: boolean
}

/** An address besides that of the HTTP server. */
export interface FurtherDoor extends Door {
  /** Server that accepts there. Its connections are handed to the HTTP server. */
  readonly server: NetServer
  /** Port of the https address to which all requests are redirected. Left out: the gateway serves them. */
  readonly redirect?: number | undefined
}

export interface Entrance extends Door {
  readonly counts: ConnectionCounts
  readonly further?: readonly FurtherDoor[]
  readonly log: {
    warn(fields: object, message: string): void
    debug(fields: object, message: string): void
  }
}

export interface Listening {
  readonly snapshot: () => Snapshot
  readonly entrance: Entrance
  /**
   * Detects the protocol of a connection; HTTP/1.1 by default.
   *
   * @param http1 hands the connection to Node's HTTP/1.1 server. Bytes that were read before must have been put back
   *   (`unshift`)
   */
  readonly speak?: ((socket: Socket, http1: (socket: Socket) => void) => void) | undefined
}

/** Takes a connection, and the stream to read from: that of TLS, or the connection itself. */
type Handover = (socket: Socket, readable: Socket) => void

/** Time that a silent connection still has to send something after the server stops listening, in ms. */
const LAST_WORD_MS = 1_000

/** Keys on the raw socket: the client that the connection counts for, and the stream that its protocol reads from. */
const CLIENT = Symbol('client')
const SPOKEN = Symbol('spoken')
type Counted = Socket & { [CLIENT]?: string; [SPOKEN]?: Socket }

/**
 * Handles every connection that the port accepts, ahead of the HTTP server. It counts the connection, takes it through the
 * configured steps (PROXY header, TLS) and hands it to the protocol that it speaks. The HTTP server counts, limits and
 * closes its sockets as if it had accepted them itself.
 *
 * @returns a function to call when the server stops listening. It ends connections that stay silent from then on: the HTTP
 *   server would wait for them, if it knows them at all
 */
export function takeConnections(server: Server, { snapshot, entrance, speak }: Listening): () => void {
  const { counts, further = [], log } = entrance
  const settings = snapshot().config.server
  const { proxy_protocol: proxied, header_timeout: patience } = settings
  const { rejected } = counts
  const clients = new Map<string, number>()
  const throttles = new Map<Rejection, () => number>()
  const listeners = server.listeners('connection') as ((this: Server, socket: Socket) => void)[]
  server.removeAllListeners('connection')
  const http1 = (socket: Socket): void => {
    for (const listener of listeners) listener.call(server, socket)
  }
  const handOver = speak === undefined ? http1 : (socket: Socket) => speak(socket, http1)
  const open = new Set<Counted>()
  let left = false

  const most = connectionCap(settings.max_connections)
  const perClient = clientCap(settings, most)
  function reject(socket: Socket | undefined, reason: Rejection, fields: object, message: string): void {
    rejected[reason]++
    complain(reason, fields, message)
    socket?.destroy()
  }

  function complain(reason: Rejection, fields: object, message: string): void {
    if (reason === 'tls') {
      // Scanners try every TLS port on the internet: this is of no interest unless somebody looks for it.
      log.debug(fields, message)
      return
    }
    const throttle = getOrAdd(throttles, reason, () => createThrottle(A_MINUTE))
    if (throttle() >= 0) log.warn({ ...fields, rejected: rejected[reason] }, message)
  }

  /** Takes a closed connection out of the counts. */
  function closed(this: Counted): void {
    open.delete(this)
    counts.open = open.size
    const client = this[CLIENT]
    if (client === undefined) return
    const others = clients.get(client)! - 1
    if (others === 0) clients.delete(client)
    else clients.set(client, others)
  }

  /**
   * Counts a connection for its client, whose address is known now. Returns false, and closes it, when the client has too
   * many.
   */
  function admit(socket: Counted, address: string): boolean {
    if (perClient === 0) return true
    if (snapshot().isTrustedProxy(address)) return true
    const client = addressKey(address)
    const others = clients.get(client) ?? 0
    if (others >= perClient) {
      reject(socket, 'per_client', { client, max_connections_per_client: perClient }, CROWD)
      return false
    }
    clients.set(client, others + 1)
    socket[CLIENT] = client
    return true
  }

  /** Handles what one server accepts. */
  function watch(server: NetServer, door: Door, next: Handover): void {
    const { tls, unix = false } = door
    const plain = !proxied && tls === undefined && !unix
    // node:cluster offers a connection that a worker does not take to the next worker at once, and goes round and round when
    // all are full. A worker therefore accepts it and closes it.
    if (!cluster.isWorker) server.maxConnections = most
    server.on('drop', () => reject(undefined, 'total', { max_connections: most }, FULL))
    // After `listen` nothing else handles a failed accept, and an unhandled error event ends the process.
    server.on('error', (error) => {
      if (server.listening) complain('total', { error: error.message }, 'a connection could not be accepted')
    })
    server.on('connection', (socket: Socket) => {
      if (open.size >= most) {
        reject(socket, 'total', { max_connections: most }, FULL)
        return
      }
      open.add(socket)
      counts.open = open.size
      socket.once('close', closed)
      const peer = unix ? UNIX_PEER : plainAddress(peerOf(socket))
      if (peer === '') {
        // The client reset it before it was looked at: usually a health check.
        socket.destroy()
        return
      }
      if (plain) {
        if (admit(socket, peer)) next(socket, socket)
        return
      }
      // Nothing else handles a reset during the steps.
      socket.on('error', () => {})
      if (proxied) readProxied(socket, peer, door, next)
      else if (admit(socket, peer)) secure(socket, undefined, door, next)
    })
  }

  function spoken(socket: Counted, readable: Socket): void {
    if (left) {
      socket.destroy()
      return
    }
    socket[SPOKEN] = readable
    handOver(readable)
  }

  function readProxied(socket: Socket, peer: string, door: Door, next: Handover): void {
    if (!snapshot().isTrustedProxy(peer)) {
      reject(socket, 'untrusted', { peer }, STRANGER)
      return
    }
    readProxyHeader(socket, patience, (header) => {
      if (typeof header === 'string') reject(socket, 'proxy_header', { peer, cause: header }, HEADERLESS)
      else if (admit(socket, plainAddress(header.client?.address ?? peer))) secure(socket, header, door, next)
    })
  }

  function secure(
    socket: Socket,
    header: ProxyHeader | undefined,
    { tls, unix }: Door,
    next: Handover,
  ): void {
    const client = header?.client ?? (unix === true ? { address: UNIX_PEER, port: 0 } : undefined)
    const speakTo = (readable: Socket): void => {
      assumeAddress(readable, { client })
      next(socket, readable)
    }
    if (tls === undefined) speakTo(socket)
    else
      tls.secure(socket, speakTo, (cause) => {
        rejected.tls++
        complain('tls', { client: client?.address ?? peerOf(socket), cause }, HANDSHAKE)
      })
  }

  watch(server, entrance, spoken)
  for (const door of further) {
    watch(door.server, door, door.redirect === undefined ? spoken : redirectTo(door.redirect, settings))
  }

  return () => {
    for (const { server } of further) server.close()
    setTimeout(() => {
      left = true
      for (const socket of open) if (!((socket[SPOKEN]?.bytesRead ?? 0) > 0)) socket.destroy()
    }, LAST_WORD_MS).unref()
  }
}

const FULL =
  'closing new connections: as many as allowed are open; raise server.max_connections, or the limit of open files (ulimit -n)'
const CROWD =
  'closing new connections of a client that has as many as allowed; raise server.max_connections_per_client, or, if it is a proxy, list it in trusted_proxies'
const STRANGER =
  'closed a connection that is not from trusted_proxies: with server.proxy_protocol nobody else may connect; list the proxy there'
const HEADERLESS =
  'closed a connection without a good header of the PROXY protocol; switch it on in the proxy, or server.proxy_protocol off'
const HANDSHAKE = 'a TLS handshake failed'
