import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { ErrorCode } from '../../errors.js'
import type { Exchange } from '../exchange/exchange.js'
import { endGently, parserErrorCode, refuseSocket } from '../respond/client-error.js'
import { isOut, sendWaiting } from '../respond/write-batch.js'

/**
 * What a connection was last used for, kept on its socket: in a WeakMap it would cost a look-up a request and work in
 * every collection of garbage.
 */
const ONGOING = Symbol('the latest exchange, until its response is closed')
const CLOSES = Symbol('a response that was closed said that the connection ends with it')
const REFUSED = Symbol('the latest exchange failed, or was refused')
const BROKEN = Symbol('what came behind the requests that are under way is none')

export interface Accepted {
  readonly x: Exchange
  readonly req: IncomingMessage
  readonly res: ServerResponse
}

interface Connection {
  [ONGOING]?: Accepted | undefined
  [CLOSES]?: boolean
  [REFUSED]?: boolean
  [BROKEN]?: boolean
}

/** The latest exchange on the connection whose response is not closed yet. */
export function ongoingOn(socket: object): Accepted | undefined {
  return (socket as Connection)[ONGOING]
}

export function began(socket: object, accepted: Accepted): void {
  const connection = socket as Connection
  connection[ONGOING] = accepted
  connection[REFUSED] = false
}

/** Lets go of the exchange, or all that it knows would be kept for as long as the client keeps its connection. */
export function ended(socket: object, accepted: Accepted): void {
  const connection = socket as Connection
  if (accepted.res.shouldKeepAlive === false) connection[CLOSES] = true
  if (connection[ONGOING] !== accepted) return
  connection[ONGOING] = undefined
  connection[REFUSED] = accepted.x.error !== undefined
}

/** Whether the client was told that the connection ends: nobody reads what follows. */
export function isClosing(socket: object): boolean {
  const connection = socket as Connection
  return connection[ONGOING]?.res.shouldKeepAlive === false || connection[CLOSES] === true
}

/**
 * Node's parser, or one of its timers, has given up on a connection.
 *
 * @param refuse answers on the bare socket, for what never became a request; `unread`: the client may still be sending
 */
export function parserFailed(
  error: Error & { readonly code?: string },
  socket: Duplex,
  refuse: (code: ErrorCode, unread: boolean) => void,
): void {
  const { code } = error
  const connection = socket as Connection
  // What was answered in this turn is out before it is asked how far the answer is.
  sendWaiting()
  const ongoing = connection[ONGOING]
  const unfinished = ongoing !== undefined && !isOut(ongoing.res)
  if (code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
  } else if (code === 'HPE_CLOSED_CONNECTION' && unfinished) {
    // Bytes behind a request that said `Connection: close`. Its answer is on the way, and closes.
    socket.pause()
    endGently(socket as Socket)
  } else if (code === 'HPE_INVALID_EOF_STATE' && wasServed(connection)) {
    // The client has left in the middle of its body.
    socket.destroy()
  } else if (connection[BROKEN] === true) {
    // Node has read on meanwhile. Each has its answer, or is going to get it.
    socket.pause()
  } else if (unfinished && ongoing.req.complete) {
    // It is what came behind that one: first the answers of those that were well-formed, or it would be taken for theirs.
    connection[BROKEN] = true
    socket.pause()
    ongoing.res.once('close', () => {
      if (socket.writable) refuse(parserErrorCode(error), true)
    })
  } else if (unfinished && ongoing.res.socket === null) {
    // Its answer has to wait for its turn, too.
    connection[BROKEN] = true
    socket.pause()
    ongoing.res.once('socket', () => {
      if (!ongoing.res.headersSent)
        refuseSocket(socket, ongoing.x, { code: parserErrorCode(error), cause: error.message }, true)
    })
  } else if (unfinished) {
    // The body of a request that is under way is malformed or late: it gets the answer, if it has none yet.
    const { x, res } = ongoing
    if (!res.headersSent && code === 'HPE_INVALID_EOF_STATE') {
      // The client ended in the middle of its body: nobody waits for an answer.
      socket.destroy()
    } else if (!res.headersSent) {
      refuseSocket(socket, x, { code: parserErrorCode(error), cause: error.message })
    } else if (x.error === undefined) {
      x.error = parserErrorCode(error)
      x.cause = error.message
      res.destroy()
      socket.destroy()
    } else {
      // Refused before, and only waiting for a body that does not matter any more.
      res.end()
    }
  } else if (isClosing(socket)) {
    // Behind an answer that said it is the last, which is out, and about to end the connection: another would be one too many.
    socket.pause()
  } else {
    refuse(parserErrorCode(error), false)
  }
}

/** Whether there was a request on the connection, and the latest one went well so far. */
function wasServed(connection: Connection): boolean {
  const ongoing = connection[ONGOING]
  return ongoing === undefined ? connection[REFUSED] === false : ongoing.x.error === undefined
}
