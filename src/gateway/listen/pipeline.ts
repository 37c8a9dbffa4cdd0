import type { Socket } from 'node:net'
import type { Config } from '../../config/schema/schema.js'

/**
 * Counts the requests of one connection that are under way. HTTP/1.1 lets a client send any number of requests before it
 * reads a response, and Node delivers each as it arrives: one connection could have any number of them under way.
 */
const UNDER_WAY = Symbol('requests without an answer so far')
const SERVED = Symbol('requests that have come in all')
const BEHIND = Symbol('who waits for the answer before theirs')

interface Connection extends Socket {
  [UNDER_WAY]?: number
  [SERVED]?: number
  [BEHIND]?: Set<() => void>
  /** Node's own flag: it has stopped reading because too many bytes wait to be sent. */
  readonly _paused?: boolean
}

/** Requests accepted beyond the limit before the connection has to end. One packet may hold many, and they cannot be unread. */
const BEYOND = 256

/**
 * Counts a request in; every `enter` needs its `leave`.
 *
 * @returns whether the request is to be the last of its connection
 */
export function enter(
  socket: Socket,
  { max_pipelined, max_requests_per_connection }: Config['server'],
): boolean {
  const connection = socket as Connection
  const underWay = (connection[UNDER_WAY] ?? 0) + 1
  connection[UNDER_WAY] = underWay
  if (underWay > max_pipelined) {
    // Deferred: Node resumes reading when it reaches the end of this request.
    queueMicrotask(() => stopReading(connection, max_pipelined))
    if (underWay >= max_pipelined + BEYOND) return true
  }
  if (max_requests_per_connection === 0) return false
  const served = (connection[SERVED] ?? 0) + 1
  connection[SERVED] = served
  return served >= max_requests_per_connection
}

/** Stops reading a connection whose last response is not complete: further bytes would pile up until it is. */
export function readNoMore(socket: Socket): void {
  queueMicrotask(() => socket.pause())
}

function stopReading(connection: Connection, most: number): void {
  if (connection[UNDER_WAY]! > most) connection.pause()
}

/** Counts a request out, when its response is closed. */
export function leave(socket: Socket, { max_pipelined }: Config['server']): void {
  const connection = socket as Connection
  const underWay = connection[UNDER_WAY]! - 1
  connection[UNDER_WAY] = underWay
  if (underWay === max_pipelined && connection._paused !== true) connection.resume()
}

/** Calls `gone` when the connection ends. Node does not tell a response that waits behind another one. */
export function waitBehind(socket: Socket, gone: () => void): void {
  const connection = socket as Connection
  let waiting = connection[BEHIND]
  if (waiting === undefined) {
    const first = new Set<() => void>()
    waiting = first
    connection[BEHIND] = first
    connection.once('close', () => {
      for (const tell of [...first]) tell()
    })
  }
  waiting.add(gone)
}

export function waitNoMore(socket: Socket, gone: () => void): void {
  ;(socket as Connection)[BEHIND]?.delete(gone)
}
