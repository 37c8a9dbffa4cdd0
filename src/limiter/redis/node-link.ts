import type { Server } from './connectors.js'
import type { Redis } from './ioredis.js'
import { LONGEST_REPLY } from './reply-guard.js'
import type { OnBytes } from './reply-queue.js'
import {
  connect,
  LOST,
  type ServerConnection,
  sendingOver,
  type TakeConnectionEvents,
} from './take-connection.js'

/**
 * Only connection to one node of a Cluster: it carries decisions and everything else. It opens when it is first needed.
 * While a shard watches it, it is made again after a loss, with the delays of the client.
 */
export type NodeLink = ReturnType<typeof createNodeLink>

/** @param node client of ioredis, which has the options and reports errors. It never connects by itself. */
export function createNodeLink(node: Redis, server: Server) {
  let current: ServerConnection | undefined
  let events: TakeConnectionEvents | undefined
  let timer: NodeJS.Timeout | undefined
  /** Commands that wait for the connection. */
  let waiting: { readonly wire: string; readonly onReply: OnBytes }[] = []

  const sending = sendingOver(() => current)

  function open(): void {
    if (current !== undefined || timer !== undefined || node.status === 'end') return
    try {
      const opened: ServerConnection = connect(
        server,
        node.options,
        { onReady: () => ready(opened), onClose: (error, wasReady) => lost(opened, error, wasReady) },
        LONGEST_REPLY,
      )
      current = opened
    } catch (error) {
      lost(undefined, error as Error, false)
    }
  }

  function ready(opened: ServerConnection): void {
    const all = waiting
    waiting = []
    for (const { wire, onReply } of all) opened.sendForBytes(wire, onReply)
    opened.flush()
    events?.onReady()
  }

  function lost(closed: ServerConnection | undefined, error: Error | undefined, wasReady: boolean): void {
    if (current !== closed) return
    current = undefined
    // The log of connections, which also decides about the delay.
    if (error !== undefined && node.listenerCount('error') > 0) node.emit('error', error)
    if (events !== undefined) {
      const again = () => {
        timer = undefined
        open()
      }
      timer = setTimeout(again, Number(node.options.retryStrategy?.(1))).unref()
      if (wasReady) events.onLost()
    }
    failWaiting(error?.message)
  }

  function close(): void {
    events = undefined
    clearTimeout(timer)
    timer = undefined
  }

  function failWaiting(why = LOST): void {
    const all = waiting
    waiting = []
    for (const { onReply } of all) onReply(new Error(why), undefined)
  }

  function end(): void {
    const ended = current
    current = undefined
    ended?.end(node.options.disconnectTimeout ?? 0)
    failWaiting()
  }

  node.once('end', () => {
    close()
    end()
  })

  return {
    ...sending,
    /** Connects, unless it is connected or waits before the next attempt. */
    open,
    /** Sends a command whose reply may be anything. It waits for the connection while that is being made. */
    request(wire: string, onReply: OnBytes): void {
      open()
      if (current === undefined) onReply(new Error(LOST), undefined)
      else if (!current.isReady()) waiting.push({ wire, onReply })
      else {
        current.sendForBytes(wire, onReply)
        sending.flush()
      }
    },
    /** Returns the number of bytes that came on the connection. */
    bytesRead: () => current?.bytesRead() ?? 0,
    /** Begins to report what happens to the connection, and to keep it. */
    watch(watching: TakeConnectionEvents): void {
      events = watching
    },
    /** Gives up the connection: what waits for replies fails. */
    reset(): void {
      current?.destroy(undefined)
    },
    /** Ends the connection once it has been written to. The next command opens another one. */
    end,
    /** Stops watching. */
    close,
  }
}
