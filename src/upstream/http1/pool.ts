import type { LookupFunction, Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import type { Upstream } from '../../config/snapshot/upstream-settings.js'
import { createConnector } from '../connector.js'
import { coded, type Sender } from '../sender.js'
import { type ConnectionOwner, Http1Connection } from './connection.js'
import { Http1Request } from './request.js'

/** Ms that a connection is kept idle when the upstream does not announce a timeout. */
const IDLE_MS = 4_000
const MAX_IDLE_MS = 60_000
/** Ms by which a connection is closed earlier than the upstream would, so that no request meets its close. */
const EARLIER_MS = 2_000
/** Ms between two checks of idle connections. They may be closed this much too early, and never too late. */
const SWEEP_MS = 500

/**
 * Opens a pool of HTTP/1.1 connections, with one request at a time on each: stray bytes after a response then belong to
 * no request. A request is written at the end of the event loop's turn, on a connection that was free before this
 * turn's reading began: by then, any bytes that the upstream sent after a response have ended that connection.
 *
 * @param limit most connections
 * @param connectMs longest wait for a connection
 * @param lookup resolves names
 */
export function openHttp1(
  upstream: Upstream,
  limit: number,
  connectMs: number,
  lookup: LookupFunction,
): Sender {
  const connect = createConnector(upstream, connectMs, lookup)
  const connections = new Set<Http1Connection>()
  const connecting = new Set<Socket>()
  /** Idle connections. The most recently used is used first, so that unneeded ones age. */
  let idle: Http1Connection[] = []
  /** Connections that became free in this turn. */
  let resting: Http1Connection[] = []
  let waiting: Http1Request[] = []
  /** Connections in progress that are for one request each, not for the queue. */
  let reserved = 0
  let scheduled = false
  let sweeping: NodeJS.Timeout | undefined
  /** `performance.now()` of the latest sweep. */
  let clock = 0
  let closing = false
  let destroyed = false
  let closed: (() => void) | undefined

  const owner: ConnectionOwner = {
    free(connection) {
      if (closing) {
        connection.gone(undefined)
        return
      }
      if (sweeping === undefined) {
        clock = performance.now()
        sweeping = setTimeout(sweep, SWEEP_MS).unref()
      }
      const { idleSeconds } = connection
      const ms = idleSeconds < 0 ? IDLE_MS : Math.min(idleSeconds * 1_000 - EARLIER_MS, MAX_IDLE_MS)
      if (ms <= 0) {
        connection.gone(undefined)
        return
      }
      connection.keptUntil = clock + ms
      resting.push(connection)
      schedule()
    },
    lost(connection) {
      connections.delete(connection)
      if (waiting.length > 0) schedule()
      finish()
    },
    again(request) {
      if (destroyed) request.handler.onError(coded('UPSTREAM_SHUT', 'the connections are closed'))
      else if (makeRoom()) open(request)
      else {
        waiting.push(request)
        schedule()
      }
    },
  }

  function schedule(): void {
    if (scheduled) return
    scheduled = true
    setImmediate(turnEnds)
  }

  function turnEnds(): void {
    scheduled = false
    const turn = waiting
    waiting = []
    let next = 0
    while (next < turn.length) {
      const connection = idle.pop()
      if (connection === undefined) break
      if (connection.dead) continue
      if (!connection.send(turn[next++]!)) idle.push(connection)
    }
    if (next < turn.length) waiting = turn.slice(next).concat(waiting)
    for (const connection of resting) if (!connection.dead) idle.push(connection)
    resting.length = 0
    if (waiting.length === 0) {
      finish()
      return
    }
    // These go out in the next turn; the others need new connections.
    if (idle.length > 0) schedule()
    let missing = waiting.length - idle.length - (connecting.size - reserved)
    while (missing-- > 0 && connections.size + connecting.size < limit) open()
  }

  /** Returns true if there may be one more connection; closes an idle one if necessary. */
  function makeRoom(): boolean {
    if (connections.size + connecting.size < limit) return true
    const oldest = idle.find(({ dead }) => !dead)
    oldest?.gone(undefined)
    return oldest !== undefined
  }

  /**
   * Opens a connection.
   *
   * @param own the only request that it is for; if left out, the longest waiting request gets it
   */
  function open(own?: Http1Request): void {
    if (own !== undefined) reserved++
    const connection = new Http1Connection(owner)
    const socket = connect(connection, (error) => {
      connecting.delete(socket)
      if (own !== undefined) reserved--
      if (error !== undefined) {
        // That request can then use another upstream.
        const request = own ?? waiting.shift()
        request?.handler.onError(error)
        if (waiting.length > 0) schedule()
        finish()
        return
      }
      connection.open(socket)
      connections.add(connection)
      if (own !== undefined && connection.send(own)) return
      while (waiting.length > 0) if (connection.send(waiting.shift()!)) return
      if (!connection.dead) owner.free(connection)
    })
    connecting.add(socket)
  }

  function sweep(): void {
    sweeping = undefined
    clock = performance.now()
    const kept = []
    for (const connection of idle) {
      if (connection.dead) continue
      if (connection.keptUntil > clock) kept.push(connection)
      else connection.gone(undefined)
    }
    idle = kept
    if (kept.length > 0) sweeping = setTimeout(sweep, SWEEP_MS).unref()
  }

  function finish(): void {
    if (closing && waiting.length === 0 && connections.size === 0 && connecting.size === 0) closed?.()
  }

  function leaveIdle(): void {
    const all = [...idle, ...resting]
    idle = []
    resting = []
    for (const connection of all) connection.gone(undefined)
  }

  return {
    get closed() {
      return closing
    },
    get destroyed() {
      return destroyed
    },
    dispatch(request, handler) {
      if (closing) {
        handler.onError(coded('UPSTREAM_SHUT', 'the connections are closed'))
        return
      }
      const one = new Http1Request(request, handler)
      if (request.fresh === true && makeRoom()) open(one)
      else {
        waiting.push(one)
        schedule()
      }
    },
    withdraw(handler) {
      const at = waiting.findIndex((one) => one.handler === handler)
      if (at < 0) return
      waiting.splice(at, 1)
      handler.onError(coded('UPSTREAM_ABORTED', 'the gateway gave up the request'))
      finish()
    },
    close() {
      closing = true
      clearTimeout(sweeping)
      leaveIdle()
      return new Promise((resolve) => {
        closed = resolve
        finish()
      })
    },
    async destroy() {
      closing = true
      destroyed = true
      clearTimeout(sweeping)
      const error = coded('UPSTREAM_SHUT', 'the connections are closed')
      const all = waiting
      waiting = []
      for (const { handler } of all) handler.onError(error)
      for (const socket of connecting) socket.destroy()
      for (const connection of [...connections]) connection.gone(error)
    },
  }
}
