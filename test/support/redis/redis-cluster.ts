import { setTimeout as delay } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import { BUS, freePort } from '../free-port.js'
import { startProxy, type TcpProxy } from '../http/proxy.js'
import { type OwnRedis, ownRedis } from './redis.js'

interface Cleanup {
  teardown(fn: () => unknown): unknown
}

export interface ClusterNode {
  readonly redis: OwnRedis
  /** Proxy of a node: the node announces its port, so clients use it. */
  readonly proxy: TcpProxy
}

export interface ClusterOptions {
  /** One replica of each primary: nodes `size` to `2 * size - 1`, in the primaries' order. */
  readonly replicas?: boolean
  /** Number of primaries that hold no slot yet; they are the last nodes. */
  readonly spare?: number
}

/**
 * Starts a Redis Cluster whose primaries share the slots evenly. Each node keeps serving its slots while another is away, and the Cluster
 * declares a node failed after a second.
 */
export async function startRedisCluster(
  t: Cleanup,
  size: number,
  { replicas = false, spare = 0 }: ClusterOptions = {},
): Promise<readonly ClusterNode[]> {
  const primaries = size
  const count = (replicas ? 2 * size : size) + spare
  const nodes = await Promise.all(Array.from({ length: count }, () => startNode(t)))
  const share = 16384 / primaries
  const [first] = nodes
  for (const [i, { redis }] of nodes.entries()) {
    if (i < primaries) {
      const [from, to] = [Math.round(i * share), Math.round((i + 1) * share) - 1]
      await redis.client.call('CLUSTER', 'ADDSLOTSRANGE', from, to)
    }
    // Distinct configuration epochs, or two nodes would claim the same one, and one of them would have to notice.
    await redis.client.call('CLUSTER', 'SET-CONFIG-EPOCH', i + 1)
    if (i > 0) await first!.redis.client.call('CLUSTER', 'MEET', '127.0.0.1', redis.port, redis.port + BUS)
  }
  const info = async (client: Redis) => String(await client.call('CLUSTER', 'INFO'))
  await everyNode(nodes, async (client) => (await info(client)).includes(`cluster_known_nodes:${count}`))
  if (replicas) {
    // Meanwhile the primaries pass the 2 s after their start in which they refuse commands.
    for (let i = 0; i < primaries; i++) {
      const id = await nodes[i]!.redis.client.call('CLUSTER', 'MYID')
      await nodes[primaries + i]!.redis.client.call('CLUSTER', 'REPLICATE', String(id))
    }
    await everyNode(nodes.slice(primaries, 2 * primaries), async (client) =>
      /master_link_status:up/.test(await client.info('replication')),
    )
    await everyNode(nodes, async (client) => {
      const slots = (await client.call('CLUSTER', 'SLOTS')) as unknown[][]
      return slots.length === primaries && slots.every((range) => range.length === 4)
    })
  }
  await everyNode(nodes, async (client) =>
    /cluster_state:ok.*cluster_slots_ok:16384/s.test(await info(client)),
  )
  return nodes
}

async function startNode(t: Cleanup): Promise<ClusterNode> {
  const port = await freePort()
  const proxy = await startProxy(t, port)
  const settings = {
    'cluster-enabled': 'yes',
    'cluster-node-timeout': 1000,
    'cluster-require-full-coverage': 'no',
    'cluster-announce-ip': '127.0.0.1',
    'cluster-announce-port': proxy.port,
    'cluster-announce-bus-port': port + BUS,
    // A replica connects to its primary's announced port for replication; the data is small and comes at once.
    'repl-diskless-sync-delay': 0,
    // A replica that has heard nothing yet is not listed.
    'repl-ping-replica-period': 1,
  }
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)])
  return { redis: await ownRedis(t, args, port), proxy }
}

async function everyNode(nodes: readonly ClusterNode[], holds: (client: Redis) => Promise<boolean>) {
  for (const { redis } of nodes) while (!(await holds(redis.client))) await delay(20)
}

/**
 * Moves one slot, with its keys one by one, as redis-cli does.
 *
 * @param pauseMs pause between two keys
 */
export async function moveSlot(
  slot: number,
  from: ClusterNode,
  to: ClusterNode,
  all: readonly ClusterNode[],
  pauseMs: number,
): Promise<number> {
  const [source, target] = [from.redis.client, to.redis.client]
  const [sourceId, targetId] = [await source.call('CLUSTER', 'MYID'), await target.call('CLUSTER', 'MYID')]
  await target.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', String(sourceId))
  await source.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', String(targetId))
  let moved = 0
  for (;;) {
    const keys = (await source.call('CLUSTER', 'GETKEYSINSLOT', slot, 1)) as string[]
    if (keys[0] === undefined) break
    await delay(pauseMs)
    await source.migrate('127.0.0.1', to.redis.port, keys[0], 0, 10_000)
    moved++
  }
  await target.call('CLUSTER', 'SETSLOT', slot, 'NODE', String(targetId))
  await source.call('CLUSTER', 'SETSLOT', slot, 'NODE', String(targetId))
  for (const { redis } of all) {
    const role = String(await redis.client.call('ROLE'))
    if (!role.startsWith('slave'))
      await redis.client.call('CLUSTER', 'SETSLOT', slot, 'NODE', String(targetId))
  }
  return moved
}
