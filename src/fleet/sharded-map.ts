import { deferred, limitConcurrency } from '../common/wait.js'
import { askStore } from '../limiter/redis/store-timeout.js'
import { type CopyBounds, createCopySize } from './copy-size.js'
import type { LayoutFollower } from './layout.js'
import { addLookUps } from './look-ups.js'
import { openSubscriber } from './pubsub.js'
import type { RecentOptions } from './recent-copy.js'
import type { Entries, MapHistory, MapShape } from './replicated-map.js'
import { createRedisMap, type RedisMap, type RedisMapOptions } from './replicated-map-redis.js'
import { byShard, type ShardCount, shardOf, shardsOf } from './shards.js'
import { readChanges } from './stored-map.js'

export interface ShardedMapOptions extends Omit<RedisMapOptions, 'turn' | 'shards' | 'recent'> {
  /** Says how many shards the store has. */
  readonly layout: Pick<LayoutFollower, 'follow' | 'shards'>
  /** Lets the map hold only recent values once it is large. Default: all values are held. */
  readonly recent?:
    | (Omit<RecentOptions, 'size' | 'room'> & CopyBounds & { readonly room?: number })
    | undefined
}

/** Shards of one map that read the store at the same time. Each may be reading all of its values. */
const AT_ONCE = 4
const COUNT_TIMEOUT = 1000
/** Maximum number of keys that a recent copy of the map holds. */
const ROOM = 250_000
/** How long full loads of shards are gathered before listeners hear of them, in ms: a listener may read all values. */
const GATHER_MS = 50

/** Cursor of a page: number of shards, the first of those that are read at the same time, and their cursors of HSCAN. */
export const PAGE_CURSOR = /^(\d{1,2})\.(\d{1,2})\.([\dx-]{1,200})$/
/** Cursor of a shard that is read. */
const DONE = 'x'

/** Shards of a map under one layout. */
interface Opened<V> {
  readonly count: ShardCount
  readonly shards: readonly RedisMap<V>[]
  readonly ready: Promise<unknown>
}

/**
 * Keeps a map in as many shards as the layout of the store says, and holds all of it in memory. Each shard is a map of
 * its own, with its own numbers, log and mark. When the layout changes, the shards of the new one are loaded while
 * those of the old one stay in force.
 */
export function createShardedMap<V>(shape: MapShape<V>, options: ShardedMapOptions): RedisMap<V> {
  const { store, subscribe = true, layout } = options
  const own = subscribe && options.subscriber === undefined ? openSubscriber(store) : undefined
  const subscriber = options.subscriber ?? own
  const listeners: ((key: string | undefined) => void)[] = []
  let current: Opened<V> | undefined
  /** Shards that are being loaded. */
  let coming: Opened<V> | undefined
  /** False if a shard holds only recent values. */
  let isWhole = true
  let telling: NodeJS.Timeout | undefined
  let closed = false
  const { promise: ready, resolve: markReady } = deferred()

  function open(count: ShardCount): Opened<V> {
    const turn = limitConcurrency(AT_ONCE)
    const hear: ((message: string) => void)[] = []
    const shapes = shardsOf(shape, count)
    const recent = recentOf(shapes, options)
    const shards = shapes.map((shard, k) =>
      createRedisMap(shard, {
        ...options,
        recent,
        turn,
        shards: count,
        subscriber: {
          listen(channel, onMessage) {
            hear[k] = onMessage
            // They have a channel in common.
            return (k === 0 && subscriber?.listen(channel, deliver)) || (() => {})
          },
        },
      }),
    )
    function deliver(message: string): void {
      const key = readChanges(message)?.[0]?.[1]
      if (key !== undefined) hear[shardOf(key, count)]!(message)
    }
    const opened = { count, shards, ready: Promise.all(shards.map((shard) => shard.ready)) }
    for (const shard of shards) {
      shard.onChange((key) => {
        if (opened !== current) return
        if (key === undefined) {
          isWhole = areWhole()
          tellAll()
        } else for (const listener of listeners) listener(key)
      })
    }
    return opened
  }

  /** Tells listeners that any value may be different. */
  function tellAll(): void {
    telling ??= setTimeout(() => {
      telling = undefined
      for (const listener of listeners) listener(undefined)
    }, GATHER_MS).unref()
  }

  async function follow(count: ShardCount): Promise<void> {
    if (closed || coming?.count === count) return void (await coming?.ready)
    close(coming)
    coming = undefined
    if (current?.count === count) return
    const opened = open(count)
    coming = opened
    await opened.ready
    if (coming !== opened) return
    const before = current
    current = opened
    coming = undefined
    isWhole = areWhole()
    close(before)
    for (const listener of listeners) listener(undefined)
    markReady()
  }

  function close(opened: Opened<V> | undefined): void {
    for (const shard of opened?.shards ?? []) void shard.close()
  }

  const now = () => current?.shards ?? []
  const areWhole = () => now().every((shard) => shard.isWhole())
  const loadedShard = (key: string) =>
    current === undefined ? undefined : current.shards[shardOf(key, current.count)]!
  /** Returns the shards, of which some may not be loaded yet. Rejects if the store has not said how many there are. */
  async function opened(): Promise<Opened<V>> {
    if (current === undefined && coming === undefined) await layout.shards()
    return (current ?? coming)!
  }
  async function shardFor(key: string): Promise<RedisMap<V>> {
    const { shards, count } = await opened()
    return shards[shardOf(key, count)]!
  }
  function history(): MapHistory {
    const all = now().map((shard) => shard.history())
    const since = all.flatMap(({ forgottenAt }) => forgottenAt ?? [])
    return {
      what: shape.what,
      held: all.reduce((sum, { held }) => sum + held, 0),
      forgottenAt: since.length === 0 ? undefined : Math.min(...since),
      known: all.every(({ known }) => known),
      rollbacks: all.reduce((most, { rollbacks }) => Math.max(most, rollbacks), 0),
      isWhole,
      lookUps: addLookUps(all.map(({ lookUps }) => lookUps)),
    }
  }
  const forgotten = () => now().filter((shard) => shard.history().forgottenAt !== undefined)

  // Each shard listens to the connection.
  store.setMaxListeners(0)
  layout.follow(follow)

  return {
    get: (key) => loadedShard(key)?.get(key),
    find: (key) => loadedShard(key)?.find(key),
    isWhole: () => isWhole,
    entries: () => joined(now().map((shard) => shard.entries())),
    onChange: (listener) => void listeners.push(listener),
    set: async (key, value) => (await shardFor(key)).set(key, value),
    async setAll(values) {
      const { shards, count } = await opened()
      const parts = [...byShard(values, ([key]) => key, count)]
      await Promise.all(parts.map(([k, some]) => shards[k]!.setAll(some)))
    },
    setIf: async (only, key, value) => (await shardFor(key)).setIf(only, key, value),
    read: async (key) => (await shardFor(key)).read(key),
    async page(cursor, mayFit) {
      const { shards, count } = await opened()
      const [, of, first, at = ''] = PAGE_CURSOR.exec(cursor ?? '') ?? []
      const goesOn = Number(of) === count && Number(first) < count
      const from = goesOn ? Number(first) : 0
      const cursors = goesOn ? at.split('-') : []
      // Without a filter, a page is as large as it should be.
      const some = shards.slice(from, from + Math.max(cursors.length, mayFit === undefined ? 1 : AT_ONCE))
      const pages = await Promise.all(
        some.map((shard, i) => (cursors[i] === DONE ? undefined : shard.page(cursors[i] || '0', mayFit))),
      )
      const next = pages.map((page) => page?.next ?? DONE)
      const after = from + some.length
      const goOn = after < count ? `${count}.${after}.0` : undefined
      return {
        values: pages.flatMap((page) => page?.values ?? []),
        next: next.every((one) => one === DONE) ? goOn : `${count}.${from}.${next.join('-')}`,
      }
    },
    ready,
    confirmedAt(key) {
      if (key !== undefined) return loadedShard(key)?.confirmedAt() ?? 0
      let first = Number.POSITIVE_INFINITY
      for (const shard of now()) first = Math.min(first, shard.confirmedAt())
      return first === Number.POSITIVE_INFINITY ? 0 : first
    },
    history,
    async look() {
      await Promise.all((await opened()).shards.map((shard) => shard.look()))
      return history()
    },
    async accept() {
      for (const shard of forgotten()) await shard.accept()
    },
    async restore() {
      let written: number | undefined
      for (const shard of forgotten()) {
        const some = await shard.restore()
        if (some !== undefined) written = (written ?? 0) + some
      }
      return written
    },
    async close() {
      closed = true
      clearTimeout(telling)
      close(current)
      close(coming)
      own?.close()
    },
  }
}

/** Returns what it takes to hold only recent values of each shard, by the number of values in all of them. */
function recentOf(
  shapes: readonly { readonly name: string }[],
  { store, recent }: Pick<ShardedMapOptions, 'store' | 'recent'>,
): RecentOptions | undefined {
  if (recent === undefined) return undefined
  const { limits, timeoutMs, room = ROOM, ...bounds } = recent
  async function count(): Promise<number> {
    const counts = await Promise.all(shapes.map(({ name }) => askStore(COUNT_TIMEOUT, store.hlen(name))))
    return counts.reduce((sum, one) => sum + one, 0)
  }
  const size = createCopySize({ ...bounds, count, shards: shapes.length })
  return { size, room: Math.ceil(room / shapes.length), limits, timeoutMs }
}

/** Joins entries that have no key in common. */
function joined<V>(parts: readonly Entries<V>[]): Entries<V> {
  if (parts.length === 1) return parts[0]!
  function* each<T>(of: (part: Entries<V>) => Iterable<T>): Generator<T> {
    for (const part of parts) yield* of(part)
  }
  return {
    size: parts.reduce((sum, { size }) => sum + size, 0),
    keys: () => each((part) => part.keys()),
    values: () => each((part) => part.values()),
    [Symbol.iterator]: () => each((part) => part),
  }
}
