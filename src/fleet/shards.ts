import { groupBy } from '../common/maps.js'
import type { MapShape } from './replicated-map.js'

/**
 * Addresses the shards of a map. A map that grows with users is one shard, or 64 once an operator has split the store.
 * Each shard is a stored map of its own in a slot of its own: values, change number, log, ends and mark.
 */

/** Number of shards of each map that grows with users. */
export type ShardCount = 1 | 64

export const SPLIT: ShardCount = 64

/** Part of a shape that tells its shards apart. */
export type ShardedShape = Pick<MapShape<unknown>, 'name' | 'what' | 'most' | 'mostSplit'>

/** Returns the shard that holds a key: 0 to `count` - 1. It is FNV-1a over the UTF-16 code units of the key. */
export function shardOf(key: string, count: ShardCount): number {
  if (count === 1) return 0
  let hash = 0x811c9dc5
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193)
  // The upper bits take part, too: keys that end alike would otherwise gather in few shards.
  return (hash ^ (hash >>> 16)) & (count - 1)
}

/** Groups what has keys by the shards that hold them, in order. */
export function byShard<T>(
  all: Iterable<T>,
  keyOf: (one: T) => string,
  count: ShardCount,
): ReadonlyMap<number, T[]> {
  return groupBy(all, (one) => shardOf(keyOf(one), count))
}

/**
 * Returns the shape of each shard, in the order of `shardOf`. One shard is the map itself. Shard 5 of
 * `tier:{assignments}` is `tier:{assignments:5}`, so that its keys share a slot. All shards publish on one channel:
 * readers find the shard by the key of the change.
 */
export function shardsOf<S extends ShardedShape>(shape: S, count: ShardCount): readonly S[] {
  if (count === 1) return [shape]
  const { name, mostSplit = shape.most } = shape
  const share = mostSplit / count
  // Keys are spread by chance. Five standard deviations above the mean, no shard is full before the map is.
  const most = Math.ceil(share + 5 * Math.sqrt(share))
  return Array.from({ length: count }, (_, k) => ({
    ...shape,
    name: `${name.slice(0, -1)}:${k}}`,
    channel: `${name}:shards:changed`,
    most,
    mapMost: mostSplit,
  }))
}
