import { StoreCluster } from '../limiter/redis/cluster.js'
import type { Redis } from '../limiter/redis/ioredis.js'
import type { Client } from '../limiter/redis/run-script.js'

export type Subscriber = ReturnType<typeof openSubscriber>

/**
 * Opens a separate connection for messages, to the same servers with the same credentials: a Redis connection that
 * subscribes can do nothing else.
 *
 * @param store from `connectStore`
 */
export function openSubscriber(store: Client) {
  const connection =
    store instanceof StoreCluster
      ? store.openSubscriber()
      : ((store as Redis).duplicate({ autoResubscribe: false }) as Redis)
  const channels = new Map<string, (message: string) => void>()
  const heard = new Set<string>()

  /** Subscribes to one channel at a time: a user who may not listen to one of them may listen to the others. */
  function subscribe(channel: string): void {
    connection.subscribe(channel).then(
      () => void heard.add(channel),
      () => {},
    )
  }

  connection.on('error', () => {
    // The connection for decisions reports the same problem.
  })
  connection.on('close', () => heard.clear())
  connection.on('ready', () => {
    for (const channel of channels.keys()) subscribe(channel)
  })
  connection.on('message', (channel: string, message: string) => channels.get(channel)?.(message))

  return {
    /**
     * Subscribes to a channel, and again after each reconnect.
     *
     * @returns a function that ends that. Until the next reconnect the server goes on sending.
     */
    listen(channel: string, onMessage: (message: string) => void): () => void {
      channels.set(channel, onMessage)
      if (connection.status === 'ready') subscribe(channel)
      return () => {
        // Another listener may have taken its place.
        if (channels.get(channel) === onMessage) channels.delete(channel)
      }
    },
    /** Returns true once the server has confirmed the subscription. */
    hears: (channel: string) => heard.has(channel),
    close(): void {
      connection.disconnect()
    },
  }
}
