import type { Socket } from 'node:net'
import type { Config } from '../../config/schema/schema.js'

/**
 * The requests of one connection that are under way. HTTP/1.1 lets a client send without end before it reads an
 * answer, and Node hands over each as it comes: a single connection could have any number of them under way.
 */
const UNDER_WAY = Symbol('requests without an answer so far')
const SERVED = Symbol('requests that have come in all')
const BEHIND = Symbol('who waits for the answer before theirs')

interface Connection extends Socket {
  [UNDER_WAY]?: number
  [SERVED]?: number
  [BEHIND]?: Set<() => void>
  /** Node's own: it has stopped reading because too much is waiting to be sent. */
  readonly _paused?: boolean
}

/** A packet may hold many requests, and they cannot be unread: so many beyond the limit are taken, then it has to end. */
const BEYOND = 256

/** Counts a request in; every `enter` needs its `leave`. @returns whether it is to be the last of its connection */
export function enter(
  socket: Socket,
  { max_pipelined, max_requests_per_connection }: Config['server'],
): boolean {
  const connection = socket as Connection
  const underWay = (connection[UNDER_WAY] ?? 0) + 1
  connection[UNDER_WAY] = underWay
  if (underWay > max_pipelined) {
    // Not now: Node starts to read again when it has come to the end of this request.
    queueMicrotask(() => stopReading(connection, max_pipelined))
    if (underWay >= max_pipelined + BEYOND) return true
  }
  if (max_requests_per_connection === 0) return false
  const served = (connection[SERVED] ?? 0) + 1
  connection[SERVED] = served
  return served >= max_requests_per_connection
}

/** Of a connection whose last answer is not complete yet: what comes behind that would pile up until it is. */
export function readNoMore(socket: Socket): void {
  queueMicrotask(() => socket.pause())
}

function stopReading(connection: Connection, most: number): void {
  if (connection[UNDER_WAY]! > most) connection.pause()
}

/** The answer to one of them is closed. */
export function leave(socket: Socket, { max_pipelined }: Config['server']): void {
  const connection = socket as Connection
  const underWay = connection[UNDER_WAY]! - 1
  connection[UNDER_WAY] = underWay
  if (underWay === max_pipelined && connection._paused !== true) connection.resume()
}

/** Tells of the end of the connection one whose response waits behind another one: Node does not. */
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
