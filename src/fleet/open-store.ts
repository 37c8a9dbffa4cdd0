import type { Config } from '../config/schema/schema.js'
import type { Limiter } from '../limiter/limiter.js'
import { openCounts } from '../limiter/open-limiter.js'
import type { Heartbeat } from '../limiter/redis/heartbeat.js'
import type { Log } from '../log-throttle.js'
import { API_KEYS } from './api-keys.js'
import { ASSIGNMENTS, createAssignments } from './assignments.js'
import { type AuditStream, createMemoryAuditStream, createRedisAuditStream } from './audit-stream.js'
import { BANS, createBans } from './bans.js'
import { createFleet, type Fleet, LONE_FLEET, loneFleet } from './gateway-rpc.js'
import { createKeyStore } from './keyring.js'
import { createMemoryLastUsed, createRedisLastUsed, type LastUsed } from './last-used.js'
import { createLayoutFollower, type Layout } from './layout.js'
import { createLookUpLimits } from './look-ups.js'
import { type Moved, moveShards, storedLayout } from './move-shards.js'
import { AMOUNTS, createAmounts } from './overrides.js'
import { openSubscriber } from './pubsub.js'
import { createMemoryMap, type ForgettableMap, type MapShape, type ReplicatedMap } from './replicated-map.js'
import { createRedisMap } from './replicated-map-redis.js'
import { createShardedMap } from './sharded-map.js'
import type { ShardCount, ShardedShape } from './shards.js'

/** Opens a map of a store. Call it once for each shape. */
type OpenMap = <V>(shape: MapShape<V>) => ReplicatedMap<V>

/** Store of counts, tier assignments and everything else that gateways share. */
export type Store = ReturnType<typeof createStore>

export interface Role {
  /** True (the default) if this process decides on requests, and so has a share of the limits while Redis is away. */
  readonly decides?: boolean
  /** `member`: the process asks other gateways and answers them. `asks`: it only asks. Default: neither. */
  readonly fleet?: 'member' | 'asks' | undefined
  /** Name of this gateway. Default: host and process id. */
  readonly node?: string | undefined
  /** Opens the maps if there is no Redis. Default: in the memory of this process. */
  readonly openMap?: OpenMap | undefined
}

/** Maps that grow with users. */
const SHARDED: readonly ShardedShape[] = [ASSIGNMENTS, AMOUNTS, API_KEYS]

/** Number of shards that the store has, and the way to another one. */
export interface Shards {
  /** Reads the layout. Rejects if the store does not answer. */
  layout(): Promise<Layout>
  move(target: ShardCount): Promise<Moved>
}

/** Opens what `store` in the configuration says, in the background: an unreachable Redis is no reason not to start. */
export function openStore(config: Config['store'], log: Log, role: Role = {}): Store {
  const { decides = true, fleet: part, node = LONE_FLEET.node, openMap = createMemoryMap } = role
  const { limiter, redis, heartbeat, ready, protocolErrors, close } = openCounts(config, log, decides)
  if (redis === undefined || heartbeat === undefined) {
    return createStore({
      limiter,
      openMap,
      lastUsed: createMemoryLastUsed(API_KEYS.most),
      audit: createMemoryAuditStream(),
      fleet: loneFleet(node),
      protocolErrors,
      ready,
      close,
    })
  }
  const subscriber = openSubscriber(redis)
  subscriber.listen(heartbeat.channel, heartbeat.hearTick)
  const fleet =
    part === undefined
      ? LONE_FLEET
      : createFleet({ store: redis, subscriber, member: part === 'member', node, heartbeat })
  const layout = createLayoutFollower({ store: redis, heartbeat })
  const forgettable: ForgettableMap[] = []
  const limits = createLookUpLimits()
  // A consumer's boosts and overrides are several records, which must not take the place of the other look-ups.
  const limitsOfAmounts = createLookUpLimits({ atOnce: 30_000, perSecond: 120_000 })
  return createStore({
    limiter,
    openMap(shape) {
      const recent = {
        limits: shape.name === AMOUNTS.name ? limitsOfAmounts : limits,
        timeoutMs: config.timeout,
      }
      const options = { store: redis, subscriber, fleet, heartbeat, log, layout }
      const map =
        shape.mostSplit === undefined
          ? createRedisMap(shape, options)
          : createShardedMap(shape, { ...options, recent })
      forgettable.push(map)
      return map
    },
    lastUsed: createRedisLastUsed(redis, API_KEYS, layout),
    maps: () => forgettable,
    audit: createRedisAuditStream(redis),
    fleet,
    heartbeat,
    shards: {
      layout: () => storedLayout(redis),
      move: (target) => moveShards(target, { store: redis, heartbeat, shapes: SHARDED }),
    },
    protocolErrors,
    ready,
    async close() {
      subscriber.close()
      layout.close()
      await close()
    },
  })
}

/** Parts that differ between stores. */
interface StoreParts {
  readonly limiter: Limiter
  readonly audit: AuditStream
  readonly openMap: OpenMap
  readonly lastUsed: LastUsed
  readonly maps?: () => readonly ForgettableMap[]
  readonly fleet?: Fleet
  readonly heartbeat?: Heartbeat | undefined
  readonly shards?: Shards | undefined
  readonly protocolErrors?: () => number
  readonly ready?: Promise<void>
  readonly close?: () => Promise<void>
}

/** Creates a store from its parts, and opens its maps. A store without a fleet has no other gateways. */
export function createStore(parts: StoreParts) {
  const { limiter, audit, openMap, lastUsed, fleet = LONE_FLEET, ready = Promise.resolve() } = parts
  const { maps = () => [], protocolErrors = () => 0 } = parts
  const opened: { close(): Promise<void> }[] = []
  const map: OpenMap = (shape) => {
    const one = openMap(shape)
    opened.push(one)
    return one
  }
  const assignments = createAssignments(map(ASSIGNMENTS))
  const amounts = createAmounts(map(AMOUNTS))
  const bans = createBans({ map: map(BANS) })
  let isLoaded = false
  assignments.ready.then(() => {
    isLoaded = true
  })
  return {
    limiter,
    assignments,
    /** Boosts and overrides. */
    amounts,
    bans,
    keys: createKeyStore(map, lastUsed),
    /** Changes that operators made. */
    audit,
    /** Opens another map that all gateways share. The store closes the map. */
    map,
    /** Returns the open maps whose store may forget what it had. */
    maps,
    /** Describes, for operators, what is wrong with the store. */
    faults: (): readonly string[] => [
      ...(limiter.state() === 'degraded'
        ? ['the store is out of reach: the gateway decides without it']
        : []),
      ...(isLoaded ? [] : ['tier assignments are not loaded yet']),
      ...forgottenReasons(maps()),
    ],
    /** Returns the number of connections that were closed because the store broke the protocol. */
    protocolErrors,
    /** Communication with the other gateways on the store. */
    fleet,
    /** Undefined if the store is the memory of this process. */
    heartbeat: parts.heartbeat,
    /** Undefined if the store is the memory of this process. */
    shards: parts.shards,
    /** Resolves when the store has answered for the first time. Until then decisions are made without it. */
    ready,
    async close(): Promise<void> {
      bans.close()
      await Promise.all([fleet.close(), ...opened.map((one) => one.close())])
      await parts.close?.()
    },
  }
}

/** Describes, for operators, the maps whose store has forgotten what it had. */
function forgottenReasons(maps: readonly ForgettableMap[]): string[] {
  return maps.flatMap((map) => {
    const { what, forgottenAt, known, isWhole } = map.history()
    if (forgottenAt === undefined) return []
    const keeps = isWhole ? 'the last known ones stay in force' : 'those that the gateways hold stay in force'
    const holds = known ? keeps : 'no gateway knows them any more'
    return `the store has forgotten ${what}: ${holds}; decide with tidegate store`
  })
}
