import { getOrAdd } from '../../common/maps.js'
import type { LossReason } from '../outage.js'
import { Cluster, type Redis } from './ioredis.js'
import { createShard, type Shard, type ShardOptions } from './node.js'
import type { Client } from './run-script.js'

/** Servers of a store: one, or the primaries of a Cluster, each with its own clock and breaker. */
export interface Shards {
  readonly clustered: boolean
  /** Returns the server that holds a Cluster slot; undefined while none is known. */
  of(slot: number): Shard | undefined
  /** Returns true if there is a server and none is given up. */
  allUp(): boolean
  /** Sends everything that `send` writes in one write per server. */
  together(send: () => void): void
  close(): void
}

/** Interval in ms, with jitter, at which the slots are asked for while a server is away. */
const LOOK_EVERY = 300
const LOOK_JITTER = 400
/** Refreshes in a row without an answer from any node. */
const FRUITLESS_LOOKS = 3

/** Options of every server. */
type ShardsOptions = Omit<ShardOptions, 'node' | 'client'>

/** Creates the servers of a store. */
export function createShards(store: Client, options: ShardsOptions): Shards {
  return store instanceof Cluster ? clusterShards(store, options) : singleShard(store, options)
}

function singleShard(node: Redis, options: ShardsOptions): Shards {
  const shard = createShard({ node, client: node, ...options })
  return {
    clustered: false,
    of: () => shard,
    allUp: shard.isUp,
    together(send) {
      shard.cork()
      try {
        send()
      } finally {
        shard.uncork()
      }
    },
    close: shard.close,
  }
}

function clusterShards(cluster: Cluster, options: ShardsOptions): Shards {
  const shards = new Map<Redis, Shard>()
  const byKey = new Map<string, Shard>()
  let timer: NodeJS.Timeout | undefined
  let fruitless = 0

  function allUp(): boolean {
    for (const shard of shards.values()) if (!shard.isUp()) return false
    return shards.size > 0
  }

  function changed(isUp: boolean, reason?: LossReason): void {
    options.onChange(isUp, reason)
    if (!isUp && timer === undefined) lookAround()
  }

  /** Refreshes the slots while a server is away: its replica may take over any moment. */
  function lookAround(): void {
    timer = setTimeout(
      () => {
        timer = undefined
        if (allUp()) return
        if (cluster.status === 'ready') cluster.refreshSlotsCache(looked)
        lookAround()
      },
      LOOK_EVERY + Math.random() * LOOK_JITTER,
    ).unref()
  }

  /** Handles a refresh. If no known node answers, all may have new addresses: then the configured ones are asked. */
  function looked(error?: Error | null): void {
    fruitless = error == null ? 0 : fruitless + 1
    if (fruitless < FRUITLESS_LOOKS || cluster.status !== 'ready') return
    fruitless = 0
    cluster.disconnect(true)
  }

  /** Keeps one shard per primary. Called whenever the set of nodes may have changed. */
  function refresh(): void {
    // Before that, ioredis knows the nodes of the configuration, but not their slots.
    const primaries = new Set(cluster.status === 'ready' ? cluster.nodes('master') : [])
    for (const [node, shard] of shards) {
      if (primaries.has(node)) continue
      shard.close()
      shards.delete(node)
    }
    byKey.clear()
    for (const node of primaries) {
      const shard = getOrAdd(shards, node, () =>
        createShard({ node, client: cluster, ...options, onChange: changed }),
      )
      byKey.set(`${node.options.host}:${node.options.port}`, shard)
    }
    // A new one may never come up.
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
      const all = [...shards.values()]
      for (const shard of all) shard.cork()
      try {
        send()
      } finally {
        for (const shard of all) shard.uncork()
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
