import type { LookupFunction, Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import type { Upstream } from '../../config/snapshot/snapshot.js'
import { createConnector } from '../connector.js'
import { coded, type Sender } from '../sender.js'
import { type ConnectionOwner, Http1Connection } from './connection.js'
import { Http1Request } from './request.js'

/** How long a connection is kept without a request, where the upstream does not say how long it does. */
const IDLE_MS = 4_000
const MAX_IDLE_MS = 60_000
/** So much earlier than the upstream, so that a request does not meet its end. */
const EARLIER_MS = 2_000
/** How often idle ones are looked at. They may go so much too early, and never too late. */
const SWEEP_MS = 500

/**
 * Connections over HTTP/1.1, one request at a time on each: a stray byte in the packet of a response is nobody's answer.
 * What is dispatched is written at the end of the event loop's turn, and on a connection that was free before this turn's
 * reading began: whatever an upstream has sent behind a response has ended the connection by then.
 *
 * @param limit of connections
 * @param connectMs longest wait for one
 * @param lookup finds the addresses of names
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
  /** The one that was used last is used first, and those that are not needed get old. */
  let idle: Http1Connection[] = []
  /** Free since this turn. */
  let resting: Http1Connection[] = []
  let waiting: Http1Request[] = []
  /** Connections on their way that are for one request each, and not for those that wait. */
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
    // These go with the next turn; for the others connections are made.
    if (idle.length > 0) schedule()
    let missing = waiting.length - idle.length - (connecting.size - reserved)
    while (missing-- > 0 && connections.size + connecting.size < limit) open()
  }

  /** Whether there may be one more connection, if need be in the place of an idle one. */
  function makeRoom(): boolean {
    if (connections.size + connecting.size < limit) return true
    const oldest = idle.find(({ dead }) => !dead)
    oldest?.gone(undefined)
    return oldest !== undefined
  }

  /** @param own the one request that it is for; else it is for whoever has waited longest */
  function open(own?: Http1Request): void {
    if (own !== undefined) reserved++
    const connection = new Http1Connection(owner)
    const socket = connect(connection, (error) => {
      connecting.delete(socket)
      if (own !== undefined) reserved--
      if (error !== undefined) {
        // It can go elsewhere.
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
      handler.onError(coded('UPSTREAM_ABORTED', 'the request was given up'))
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
