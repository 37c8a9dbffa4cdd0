import type { Config } from '../config/schema/schema.js'
import type { Limiter, TierAssignments } from '../limiter/limiter.js'
import { openCounts } from '../limiter/open-limiter.js'
import type { Log } from '../log-throttle.js'
import { API_KEYS } from './api-keys.js'
import { ASSIGNMENTS, createAssignments } from './assignments.js'
import { type AuditStream, createMemoryAuditStream, createRedisAuditStream } from './audit-stream.js'
import { BANS, type Ban } from './bans.js'
import { createFleet, type Fleet, LONE_FLEET } from './gateway-rpc.js'
import { createKeyStore, type KeyStore } from './keyring.js'
import { createMemoryLastUsed, createRedisLastUsed } from './last-used.js'
import { AMOUNTS, type Amounts, createAmounts } from './overrides.js'
import { openSubscriber } from './pubsub.js'
import { createMemoryMap, type ForgettableMap, type MapShape, type ReplicatedMap } from './replicated-map.js'
import { createRedisMap, type RedisMap } from './replicated-map-redis.js'

/** Store of counts, tier assignments and everything else that gateways share. */
export interface Store {
  readonly limiter: Limiter
  readonly assignments: TierAssignments
  /** Boosts and overrides. */
  readonly amounts: Amounts
  readonly bans: ReplicatedMap<Ban>
  /** Changes that operators made. */
  readonly audit: AuditStream
  readonly keys: KeyStore
  /** Opens another map that all gateways share. Call it once for each shape. The store closes the map. */
  map<V>(shape: MapShape<V>): ReplicatedMap<V>
  /** Returns the open maps whose store may forget what it had. */
  maps(): readonly ForgettableMap[]
  /** Returns the number of connections that were closed because the store broke the protocol. */
  protocolErrors(): number
  /** Communication with the other gateways on the store. */
  readonly fleet: Fleet
  /** Resolves when the store has answered for the first time. Until then decisions are made without it. */
  readonly ready: Promise<void>
  close(): Promise<void>
}

export interface Role {
  /** True (the default) if this process decides on requests, and so has a share of the limits while Redis is away. */
  readonly decides?: boolean
  /** `member`: the process asks other gateways and answers them. `asks`: it only asks. Default: neither. */
  readonly fleet?: 'member' | 'asks' | undefined
}

/** Opens what `store` in the configuration says, in the background: an unreachable Redis is no reason not to start. */
export function openStore(
  config: Config['store'],
  log: Log,
  { decides = true, fleet: part }: Role = {},
): Store {
  const { limiter, redis, ready, protocolErrors, close } = openCounts(config, log, decides)
  if (redis === undefined) {
    const maps: { close(): Promise<void> }[] = []
    const map = <V>(shape: MapShape<V>) => {
      const opened = createMemoryMap(shape)
      maps.push(opened)
      return opened
    }
    return {
      limiter,
      assignments: createAssignments(map(ASSIGNMENTS)),
      amounts: createAmounts(map(AMOUNTS)),
      keys: createKeyStore(map, createMemoryLastUsed(API_KEYS.most)),
      bans: map(BANS),
      map,
      maps: () => [],
      protocolErrors,
      audit: createMemoryAuditStream(),
      fleet: LONE_FLEET,
      ready,
      async close() {
        await Promise.all([close(), ...maps.map((one) => one.close())])
      },
    }
  }
  const subscriber = openSubscriber(redis)
  const fleet =
    part === undefined ? LONE_FLEET : createFleet({ store: redis, subscriber, member: part === 'member' })
  const maps: Pick<RedisMap<never>, 'close' | keyof ForgettableMap>[] = []
  const map = <V>(shape: MapShape<V>): ReplicatedMap<V> => {
    const opened = createRedisMap(shape, { store: redis, subscriber, fleet, log })
    maps.push(opened)
    return opened
  }
  return {
    limiter,
    assignments: createAssignments(map(ASSIGNMENTS)),
    amounts: createAmounts(map(AMOUNTS)),
    keys: createKeyStore(map, createRedisLastUsed(redis, API_KEYS.name)),
    bans: map(BANS),
    map,
    maps: () => maps,
    protocolErrors,
    audit: createRedisAuditStream(redis),
    fleet,
    ready,
    async close() {
      await Promise.all([fleet.close(), ...maps.map((one) => one.close())])
      subscriber.close()
      await close()
    },
  }
}

/** Describes, for operators, the maps whose store has forgotten what it had. */
export function forgottenReasons(maps: readonly ForgettableMap[]): string[] {
  return maps.flatMap((map) => {
    const { what, forgottenAt, known } = map.history()
    if (forgottenAt === undefined) return []
    const holds = known ? 'the last known hold' : 'no gateway knows them any more'
    return `the store has forgotten ${what}: ${holds}; decide by tidegate store`
  })
}
