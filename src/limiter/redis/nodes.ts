import { Cluster, type Redis } from 'ioredis'
import type { LossReason } from '../outage.js'
import { createShard, type Shard, type ShardOptions } from './node.js'
import type { Client } from './scripts.js'

/** The servers of a store: one, or the primaries of a Cluster, each with a clock and a breaker of its own. */
export interface Shards {
  readonly clustered: boolean
  /** The server that holds a Cluster slot; undefined while none is known. */
  of(slot: number): Shard | undefined
  /** Whether there is a server and none is given up. */
  allUp(): boolean
  /** What `send` writes goes out in one write per server. */
  together(send: () => void): void
  close(): void
}

/** Ms, with jitter: a connection and a question for each gateway. */
const LOOK_EVERY = 300
const LOOK_JITTER = 400
/** Looks in a row that no node has answered. */
const FRUITLESS_LOOKS = 3

type Events = Pick<ShardOptions, 'onChange' | 'onRefusal'>

/** @param events of each server */
export function createShards(store: Client, timeoutMs: number, events: Events): Shards {
  return store instanceof Cluster
    ? clusterShards(store, timeoutMs, events)
    : singleShard(store, timeoutMs, events)
}

function singleShard(node: Redis, timeoutMs: number, events: Events): Shards {
  const shard = createShard({ node, timeoutMs, ...events })
  return {
    clustered: false,
    of: () => shard,
    allUp: shard.isUp,
    together: (send) => send(),
    close: shard.close,
  }
}

function clusterShards(cluster: Cluster, timeoutMs: number, events: Events): Shards {
  const shards = new Map<Redis, Shard>()
  const byKey = new Map<string, Shard>()
  let timer: NodeJS.Timeout | undefined
  let fruitless = 0

  function allUp(): boolean {
    for (const shard of shards.values()) if (!shard.isUp()) return false
    return shards.size > 0
  }

  function changed(isUp: boolean, reason?: LossReason): void {
    events.onChange(isUp, reason)
    if (!isUp && timer === undefined) lookAround()
  }

  /** While a server is away its replica may take over any moment; ioredis asks who has the slots but now and then. */
  function lookAround(): void {
    timer = setTimeout(
      () => {
        timer = undefined
        if (allUp()) return
        if (cluster.status === 'ready') cluster.refreshSlotsCache(looked)
        lookAround()
      },
      LOOK_EVERY + Math.random() * LOOK_JITTER,
    )
    timer.unref()
  }

  /** Where none of the nodes that are known answers, all may have got other addresses: those of the configuration are asked. */
  function looked(error?: Error | null): void {
    fruitless = error == null ? 0 : fruitless + 1
    if (fruitless < FRUITLESS_LOOKS || cluster.status !== 'ready') return
    fruitless = 0
    cluster.disconnect(true)
  }

  /** Keeps one shard per primary; called whenever the set of nodes may have changed. */
  function refresh(): void {
    // Before that it knows the nodes of the configuration, but not which of them has which slots.
    const primaries = new Set(cluster.status === 'ready' ? cluster.nodes('master') : [])
    for (const [node, shard] of shards) {
      if (primaries.has(node)) continue
      shard.close()
      shards.delete(node)
    }
    byKey.clear()
    for (const node of primaries) {
      let shard = shards.get(node)
      if (shard === undefined) {
        shard = createShard({ node, timeoutMs, ...events, onChange: changed })
        shards.set(node, shard)
      }
      byKey.set(`${node.options.host}:${node.options.port}`, shard)
    }
    // One that is new may never come up.
    if (!allUp() && timer === undefined) lookAround()
  }

  cluster.on('ready', refresh)
  cluster.on('refresh', refresh)
  cluster.on('+node', refresh)
  cluster.on('-node', refresh)
  refresh()

  return {
    clustered: true,
    of(slot) {
      const key = cluster.slots[slot]?.[0]
      return key === undefined ? undefined : byKey.get(key)
    },
    allUp,
    together(send) {
      const streams = cluster.nodes('master').flatMap((node) => node.stream ?? [])
      for (const stream of streams) stream.cork()
      try {
        send()
      } finally {
        for (const stream of streams) stream.uncork()
      }
    },
    close() {
      clearTimeout(timer)
      cluster.off('ready', refresh)
      cluster.off('refresh', refresh)
      cluster.off('+node', refresh)
      cluster.off('-node', refresh)
      for (const shard of shards.values()) shard.close()
    },
  }
}
