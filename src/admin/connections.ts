import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { give, type Shares, take } from '../shares.js'

/** Most connections at the same time. */
const MOST = 256
/** Connections at the end of that limit that are kept for probes and scrapes. */
const RESERVE = 32

interface Connection {
  readonly caller: string | undefined
  /** Latest request; undefined before the first. */
  req: IncomingMessage | undefined
  res: ServerResponse | undefined
}

/**
 * Keeps a connection free for probes and scrapes, however many connections clients hold. One address may hold a quarter
 * of them. When its share, or the total, is used up, a new connection replaces the one that has been idle longest:
 * among those of the same address, or among all. A connection that is being served a request is never replaced.
 *
 * @returns function that returns true if only the reserve is left: a request that is not a probe or scrape has to wait
 */
export function keepRoom(server: Server, shares: Shares): () => boolean {
  const share = shares.open('admin_connections', MOST)
  /** Open connections; the one whose latest request began longest ago comes first. */
  const open = new Map<Socket, Connection>()
  const listeners = server.listeners('connection') as ((this: Server, socket: Socket) => void)[]
  server.removeAllListeners('connection')

  server.on('connection', (socket: Socket) => {
    const caller = shares.callerOf(socket.remoteAddress ?? '')
    const shortage = take(share, caller)
    if (shortage !== undefined && (!closeIdle(shortage === 'all', caller) || take(share, caller))) {
      socket.destroy()
      return
    }
    open.set(socket, { caller, req: undefined, res: undefined })
    socket.once('close', () => release(socket))
    for (const listener of listeners) listener.call(server, socket)
  })
  server.prependListener('request', (req, res) => {
    const connection = open.get(req.socket)
    if (connection === undefined) return
    connection.req = req
    connection.res = res
    open.delete(req.socket)
    open.set(req.socket, connection)
  })

  function release(socket: Socket): void {
    const connection = open.get(socket)
    if (connection === undefined) return
    open.delete(socket)
    give(share, connection.caller)
  }

  /**
   * Closes the connection that has been idle longest.
   *
   * @returns true if there was one
   */
  function closeIdle(ofAll: boolean, caller: string | undefined): boolean {
    for (const [socket, connection] of open) {
      if (!(ofAll || connection.caller === caller) || isBusy(connection)) continue
      release(socket)
      socket.destroy()
      return true
    }
    return false
  }

  return () => share.held > MOST - RESERVE
}

/** Returns true while a complete request is being processed. */
function isBusy({ req, res }: Connection): boolean {
  return req?.complete === true && res?.writableEnded === false && !res.destroyed
}
