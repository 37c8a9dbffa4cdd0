import { Cluster, type Redis } from 'ioredis'
import { StoreCluster } from '../limiter/redis/cluster.js'
import type { Client } from '../limiter/redis/scripts.js'

/** A connection of its own for messages: one that listens may do nothing else. */
export interface Subscriber {
  /** Hears a channel from now on, and again after each connection that was lost. */
  listen(channel: string, onMessage: (message: string) => void): void
  /** Whether the server has confirmed that it will send the channel's messages. */
  hears(channel: string): boolean
  close(): void
}

/** @param store from `connectStore`: the same servers, the same credentials */
export function openSubscriber(store: Client): Subscriber {
  const connection =
    store instanceof StoreCluster
      ? store.openSubscriber()
      : ((store as Redis).duplicate({ autoResubscribe: false }) as Redis)
  const channels = new Map<string, (message: string) => void>()
  const heard = new Set<string>()

  /** One at a time: a user who may not listen to one of them may listen to the others. */
  function subscribe(channel: string): void {
    connection.subscribe(channel).then(
      () => void heard.add(channel),
      () => {},
    )
  }

  connection.on('error', () => {
    // The connection that decisions go over reports the same trouble.
  })
  connection.on('close', () => heard.clear())
  connection.on('ready', () => {
    for (const channel of channels.keys()) subscribe(channel)
  })
  connection.on('message', (channel: string, message: string) => channels.get(channel)?.(message))

  return {
    listen(channel, onMessage) {
      channels.set(channel, onMessage)
      if (connection.status === 'ready') subscribe(channel)
    },
    hears: (channel) => heard.has(channel),
    close() {
      connection.disconnect()
    },
  }
}

/** The name of a channel, of this database: messages know none, and two deployments on one server must not hear each other. */
export function channelOf(store: Client, name: string): string {
  return `${name}:${store instanceof Cluster ? 0 : (store.options.db ?? 0)}`
}
