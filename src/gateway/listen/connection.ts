import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { ErrorCode } from '../../errors.js'
import type { Exchange } from '../exchange/exchange.js'
import { endGently, parserErrorCode, refuseSocket } from '../respond/client-error.js'
import { isOut, sendWaiting } from '../respond/write-batch.js'

/**
 * State of a connection, kept on its socket. A WeakMap would cost a look-up per request and work in every garbage
 * collection.
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

/** Returns the connection's latest exchange, as long as its response is not closed. */
export function currentExchange(socket: object): Accepted | undefined {
  return (socket as Connection)[ONGOING]
}

export function began(socket: object, accepted: Accepted): void {
  const connection = socket as Connection
  connection[ONGOING] = accepted
  connection[REFUSED] = false
}

/** Drops the exchange. Otherwise all that it references would live as long as the client's connection. */
export function ended(socket: object, accepted: Accepted): void {
  const connection = socket as Connection
  if (accepted.res.shouldKeepAlive === false) connection[CLOSES] = true
  if (connection[ONGOING] !== accepted) return
  connection[ONGOING] = undefined
  connection[REFUSED] = accepted.x.error !== undefined
}

/** Returns whether the client was told that the connection ends: nobody reads later requests. */
export function isClosing(socket: object): boolean {
  const connection = socket as Connection
  return connection[ONGOING]?.res.shouldKeepAlive === false || connection[CLOSES] === true
}

/**
 * Handles an error of Node's parser or one of its timeouts on a connection.
 *
 * @param refuse answers on the bare socket when there is no request yet; `unread`: the client may still be sending
 */
export function parserFailed(
  error: Error & { readonly code?: string },
  socket: Duplex,
  refuse: (code: ErrorCode, unread: boolean) => void,
): void {
  const { code } = error
  const connection = socket as Connection
  // Sends the answers of this turn first, so that `isOut` below is true for them.
  sendWaiting()
  const ongoing = connection[ONGOING]
  const unfinished = ongoing !== undefined && !isOut(ongoing.res)
  if (code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
  } else if (code === 'HPE_CLOSED_CONNECTION' && unfinished) {
    // Bytes behind a request that said `Connection: close`. Its response is on the way and closes the connection.
    socket.pause()
    endGently(socket as Socket)
  } else if (code === 'HPE_INVALID_EOF_STATE' && wasServed(connection)) {
    // The client left in the middle of its body.
    socket.destroy()
  } else if (connection[BROKEN] === true) {
    // Node has read on meanwhile. Each request has its response, or gets it.
    socket.pause()
  } else if (unfinished && ongoing.req.complete) {
    // The malformed bytes came behind the last request. The well-formed requests are answered first: otherwise the client
    // would take this error for one of their responses.
    connection[BROKEN] = true
    socket.pause()
    ongoing.res.once('close', () => {
      if (socket.writable) refuse(parserErrorCode(error), true)
    })
  } else if (unfinished && ongoing.res.socket === null) {
    // The refusal has to wait for its turn in the pipeline, too.
    connection[BROKEN] = true
    socket.pause()
    ongoing.res.once('socket', () => {
      if (!ongoing.res.headersSent)
        refuseSocket(socket, ongoing.x, { code: parserErrorCode(error), cause: error.message }, true)
    })
  } else if (unfinished) {
    // The body of the current request is malformed or late: that request gets the error, unless it has a response.
    const { x, res } = ongoing
    if (!res.headersSent && code === 'HPE_INVALID_EOF_STATE') {
      // The client ended in the middle of its body and does not wait for a response.
      socket.destroy()
    } else if (!res.headersSent) {
      refuseSocket(socket, x, { code: parserErrorCode(error), cause: error.message })
    } else if (x.error === undefined) {
      x.error = parserErrorCode(error)
      x.cause = error.message
      res.destroy()
      socket.destroy()
    } else {
      // The request was refused before. The response only waits for a body that no longer matters.
      res.end()
    }
  } else if (isClosing(socket)) {
    // The last response, which announced the close, is out and about to end the connection: another would be one too many.
    socket.pause()
  } else {
    refuse(parserErrorCode(error), false)
  }
}

/** Returns whether the connection has had a request and the latest one has not failed so far. */
function wasServed(connection: Connection): boolean {
  const ongoing = connection[ONGOING]
  return ongoing === undefined ? connection[REFUSED] === false : ongoing.x.error === undefined
}
