import type { Socket } from 'node:net'
import { type Server, serverOf } from './connectors.js'
import type { Redis, RedisOptions } from './ioredis.js'
import { createReplyQueue, type OnBytes, type OnReply } from './reply-queue.js'
import { bulk } from './script-arguments.js'

/**
 * Connection that carries the takes and settles of one Redis server, and nothing else. It belongs to an ioredis client,
 * which finds the server, and carries all other commands.
 */
export type TakeConnection = ReturnType<typeof createTakeConnection>

export interface TakeConnectionEvents {
  readonly onReady: () => void
  /** Called when a connection that was ready has closed. */
  readonly onLost: () => void
}

/** Size of the buffer that a socket reads into, in bytes. The replies to 400 decisions fit. */
const READ_SIZE = 16 * 1024
/** Errors of AUTH of a server that wants no password. ioredis goes on, too. */
const NO_PASSWORD_WANTED = /no password is set|without any password configured|wrong number of arguments/
/** Error to the first command of a connection beyond `maxclients`. */
const NO_ROOM = 'ERR max number of clients'
export const LOST = 'the connection to the store was lost'
const CLOSED = 'the server closed the connection for decisions before it was ready'

/**
 * Keeps a connection to the server that an ioredis client is connected to, with the same address, TLS and credentials. It
 * opens when the client is ready, closes with the client's, and is made again with the client's delays.
 *
 * @param node from `connectStore`
 */
export function createTakeConnection(node: Redis, events: TakeConnectionEvents) {
  let current: ServerConnection | undefined
  let timer: NodeJS.Timeout | undefined
  let closed = false

  function open(): void {
    clearTimeout(timer)
    const server = node.status === 'ready' ? serverOf(node.stream) : undefined
    if (closed || current !== undefined || server === undefined) return
    const opened = connect(server, node.options, {
      onReady: events.onReady,
      onClose(error, wasReady) {
        if (current !== opened) return
        current = undefined
        if (wasReady) events.onLost()
        if (closed || node.status !== 'ready') return
        // The log of connections, which also decides about the delay.
        if (error !== undefined && node.listenerCount('error') > 0) node.emit('error', error)
        const delay = node.options.retryStrategy?.(1)
        if (typeof delay !== 'number') return
        timer = setTimeout(open, delay).unref()
      },
    })
    current = opened
  }

  /** Closes with the client: its next connection may lead to another server. */
  function drop(): void {
    clearTimeout(timer)
    current?.destroy(new Error(LOST))
  }

  node.on('ready', open)
  node.on('close', drop)
  open()

  return {
    ...sendingOver(() => current),
    /** Ends the connection once it has been written to. No other one is opened. */
    close(): void {
      closed = true
      clearTimeout(timer)
      node.off('ready', open)
      node.off('close', drop)
      current?.end(node.options.disconnectTimeout ?? 0)
    },
  }
}

/** Sends over the connection that there is at present. */
export function sendingOver(current: () => ServerConnection | undefined) {
  let corked = false

  /** Writes what was sent, unless it is gathered. */
  function flush(): void {
    if (!corked) current()?.flush()
  }

  return {
    isReady: (): boolean => current()?.isReady() === true,
    /**
     * Sends a command: at once, or with others at `uncork`. Replies come in the order of the commands. A command is never
     * sent again.
     *
     * @param wire the command in RESP, ASCII only
     */
    send(wire: string, onReply: OnReply): void {
      const connection = current()
      if (connection?.isReady() !== true) {
        onReply(new Error(LOST), undefined)
        return
      }
      connection.send(wire, onReply)
      flush()
    },
    flush,
    /** Gathers what is sent until `uncork`, which writes it at once. */
    cork(): void {
      corked = true
    },
    uncork(): void {
      corked = false
      flush()
    },
  }
}

/** Connection that has begun, in contrast to one that is made again. */
export type ServerConnection = ReturnType<typeof connect>

interface ConnectionEvents {
  onReady(): void
  /** Called once, before all that wait for replies. */
  onClose(error: Error | undefined, wasReady: boolean): void
}

/**
 * Opens a connection and logs in.
 *
 * @param longest longest reply that is read, in bytes. Default: that of a script call.
 * @throws Error if the server can't be connected to
 */
export function connect(
  server: Server,
  options: Pick<
    RedisOptions,
    'username' | 'password' | 'db' | 'connectionName' | 'connectTimeout' | 'keepAlive' | 'tls'
  >,
  { onReady, onClose }: ConnectionEvents,
  longest?: number,
) {
  const replies = createReplyQueue(longest)
  const socket: Socket = server.open({
    buffer: Buffer.allocUnsafe(READ_SIZE),
    callback(size, buffer) {
      read((buffer as Buffer).subarray(0, size))
      return true
    },
  })
  let unwritten = ''
  let ready = false
  let closed = false

  const late = setTimeout(() => destroy(new Error('connect ETIMEDOUT')), options.connectTimeout)

  function read(chunk: Buffer): void {
    if (closed) return
    try {
      replies.read(chunk)
    } catch (error) {
      server.broke((error as Error).message)
      destroy(undefined)
    }
  }

  function send(wire: string, onReply: OnReply): void {
    replies.expect(onReply)
    unwritten += wire
  }

  function flush(): void {
    if (unwritten === '') return
    const wire = unwritten
    unwritten = ''
    socket.write(wire, 'latin1')
  }

  function logIn(): void {
    socket.setNoDelay(true)
    socket.setKeepAlive(true, options.keepAlive)
    const { username, password, db, connectionName } = options
    if (username != null || password != null) {
      const login = username == null ? [password ?? ''] : [username, password ?? '']
      send(commandOf('AUTH', ...login), (error) => {
        if (error !== undefined && !NO_PASSWORD_WANTED.test(error.message)) destroy(error)
      })
    }
    if (db) {
      send(commandOf('SELECT', String(db)), (error) => {
        if (error !== undefined) destroy(error)
      })
    }
    send(commandOf('CLIENT', 'SETNAME', connectionName ?? ''), (error) => {
      if (closed) return
      // A name is no more than a help. A server without room for one more client says so here, and closes.
      if (error?.message.startsWith(NO_ROOM) === true) {
        destroy(error)
        return
      }
      ready = true
      clearTimeout(late)
      onReady()
    })
    flush()
  }

  function destroy(error: Error | undefined): void {
    if (closed) return
    closed = true
    clearTimeout(late)
    const wasReady = ready
    ready = false
    socket.destroy()
    // First, so that the loss has its name before the calls that fail by it count as misses.
    onClose(error, wasReady)
    replies.fail(new Error(LOST))
  }

  socket.once(options.tls === undefined ? 'connect' : 'secureConnect', logIn)
  socket.on('error', destroy)
  // A proxy that allows one connection says nothing else.
  socket.on('close', () => destroy(ready ? undefined : new Error(CLOSED)))

  return {
    isReady: () => ready,
    bytesRead: () => socket.bytesRead,
    send,
    /** Sends a command whose reply may be anything. */
    sendForBytes(wire: string, onReply: OnBytes): void {
      replies.expectBytes(onReply)
      unwritten += wire
    },
    flush,
    destroy,
    /** Ends the connection, at the latest after so many ms. */
    end(ms: number): void {
      ready = false
      flush()
      socket.end()
      const timer = setTimeout(destroy, ms, undefined)
      socket.once('close', () => clearTimeout(timer))
    },
  }
}

/** Writes a command for the wire. The arguments are sent as UTF-8. */
function commandOf(...args: readonly string[]): string {
  const bytes = args.map((arg) => bulk(Buffer.from(arg).toString('latin1')))
  return `*${args.length}\r\n${bytes.join('')}`
}
