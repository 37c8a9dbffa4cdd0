import type { ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { ErrorCode } from '../errors.js'
import { parserErrorCode, refuseSocket } from './client-error.js'
import type { Exchange } from './exchange.js'

/**
 * What a connection was last used for, kept on its socket: in a WeakMap it would cost a look-up a request and work in
 * every collection of garbage.
 */
const LATEST = Symbol('latest exchange')

export interface Accepted {
  readonly x: Exchange
  readonly res: ServerResponse
}

interface Connection {
  [LATEST]?: Accepted
}

export function latestOn(socket: object): Accepted | undefined {
  return (socket as Connection)[LATEST]
}

export function setLatestOn(socket: object, accepted: Accepted): void {
  ;(socket as Connection)[LATEST] = accepted
}

/**
 * Node's parser, or one of its timers, has given up on a connection.
 *
 * @param refuse answers on the bare socket, for what never became a request
 */
export function parserFailed(
  error: Error & { readonly code?: string },
  socket: Duplex,
  refuse: (code: ErrorCode) => void,
): void {
  const { code } = error
  const ongoing = latestOn(socket)
  if (code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
  } else if (code === 'HPE_CLOSED_CONNECTION' && ongoing?.res.writableFinished === false) {
    // Bytes behind a request that said `Connection: close`. Its answer is on the way, and closes.
    socket.pause()
  } else if (code === 'HPE_INVALID_EOF_STATE' && ongoing !== undefined && ongoing.x.error === undefined) {
    // The client has left in the middle of its body.
    socket.destroy()
  } else if (ongoing !== undefined && !ongoing.res.writableFinished) {
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
  } else {
    refuse(parserErrorCode(error))
  }
}
