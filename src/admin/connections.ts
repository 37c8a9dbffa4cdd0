import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { give, type Shares, take } from '../shares.js'

/** Connections at the same time. */
const MOST = 256
/** The last of them serve probes and scrapes alone. */
const RESERVE = 32

interface Connection {
  readonly caller: string | undefined
  /** The latest request; undefined before the first. */
  req: IncomingMessage | undefined
  res: ServerResponse | undefined
}

export interface AdminConnections {
  /** Only the reserve is left: a request that is no probe or scrape has to wait. */
  isReserved(): boolean
}

/**
 * Sees to it that a probe or a scrape finds a connection, whoever holds how many. One address holds a quarter of them. Where
 * its share, or all, is taken, a new connection takes the place of the one that has been idle longest: of its own address,
 * or of all. Only a connection whose request is being answered keeps its place.
 */
export function keepRoom(server: Server, shares: Shares): AdminConnections {
  const share = shares.open('admin_connections', MOST)
  /** The one whose latest request began longest ago comes first. */
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

  /** @returns whether there was one */
  function closeIdle(ofAll: boolean, caller: string | undefined): boolean {
    for (const [socket, connection] of open) {
      if (!(ofAll || connection.caller === caller) || isBusy(connection)) continue
      release(socket)
      socket.destroy()
      return true
    }
    return false
  }

  return { isReserved: () => share.held > MOST - RESERVE }
}

/** Tells whether a whole request has come and is being worked on. */
function isBusy({ req, res }: Connection): boolean {
  return req?.complete === true && res?.writableEnded === false && !res.destroyed
}
