import { readFileSync } from 'node:fs'
import type { ConnectionOptions } from 'node:tls'
import { omitUndefined } from '../../common/maps.js'
import type { Config } from '../../config/schema/schema.js'
import { type RedisAddress, readRedisAddress, redisHosts } from '../../config/values/redis-address.js'
import { type Log, throttledWarning } from '../../log-throttle.js'
import { StoreCluster } from './cluster.js'
import { directConnector, type OnBroken, sentinelConnector } from './connectors.js'
import { Cluster, Redis, type RedisOptions } from './ioredis.js'
import type { Client } from './run-script.js'

/** Address of the store, or of a Cluster's nodes, with the credentials. */
export interface StoreAddress {
  readonly redis: string | readonly string[]
  readonly tls?: Config['store']['tls'] | undefined
  readonly sentinel?: Config['store']['sentinel'] | undefined
  /** True (the default) if each node of a Cluster has one connection, which ioredis does not read. */
  readonly ownConnection?: boolean | undefined
}

/**
 * Reconnect delay in ms, evenly spread: gateways that lost one server do not return in one wave, and each is back well
 * within a second.
 */
const RECONNECT_MIN = 100
const RECONNECT_SPREAD = 400
/** Delay after a refused password, in ms: it will not be right a moment later. */
const RECONNECT_UNAUTHORISED = 5000
/** Time from the refusal until ioredis asks for the delay, at most, in ms. */
const JUST_NOW = 1000
/**
 * Interval in ms at which the slots of a Cluster are asked for, evenly spread over gateways. MOVED, a lost node and a new
 * one lead to the same question at once.
 */
const SLOTS_REFRESH_MIN = 45_000
const SLOTS_REFRESH_SPREAD = 30_000
const SENTINEL_TIMEOUT = 1000

/**
 * Opens the connection to the store in the background. Returns at once, and keeps trying until it is disconnected.
 * Failures are logged at most once a second, and never with a password.
 *
 * @param onBroken called for each connection that was ended because its server broke the protocol
 * @throws Error on an address or a file that can't be read
 */
export function connectStore(store: StoreAddress, log: Log, onBroken: () => void = () => {}): Client {
  const warn = throttledWarning(log)
  const addresses = typeof store.redis === 'string' ? [store.redis] : store.redis
  const parsed = addresses.map(parse)
  const first = parsed[0]
  if (first === undefined) throw new Error('store.redis is an empty list; name at least one node')
  const cluster = typeof store.redis !== 'string'
  let refusedAt = Number.NEGATIVE_INFINITY
  const retryStrategy = () =>
    performance.now() - refusedAt < JUST_NOW ? RECONNECT_UNAUTHORISED : reconnectDelay()
  const warnOfProtocol = throttledWarning(log)
  const broken: OnBroken = (server, error) => {
    onBroken()
    warnOfProtocol(
      { store: server, error },
      'the store broke the protocol; the gateway closed the connection',
    )
  }
  const options = {
    ...connectionOptions(first, first.tls ? tlsOptions(store.tls ?? {}) : undefined),
    Connector: directConnector(broken),
  }
  const where = parsed.flatMap(redisHosts).join(',')
  const report = (error: Error, node?: string) => {
    if (/^(WRONGPASS|NOAUTH|NOPERM)/.test(error.message)) refusedAt = performance.now()
    warn({ store: node ?? where, user: first.username, error: error.message }, 'no connection to the store')
  }

  if (cluster) {
    const client = new StoreCluster(
      parsed.flatMap((address) => address.hosts),
      broken,
      store.ownConnection ?? true,
      {
        redisOptions: options,
        // For the reason given at StoreCluster.
        enableOfflineQueue: true,
        // It would ask one server for CLUSTER INFO. The breaker of each asks its own.
        enableReadyCheck: false,
        // A lost node is retried and stays in place, so that its own breaker notices when it is back.
        clusterNodeRetryStrategy: retryStrategy,
        clusterRetryStrategy: reconnectDelay,
        slotsRefreshInterval: SLOTS_REFRESH_MIN + Math.random() * SLOTS_REFRESH_SPREAD,
        // One redirection (nothing ran on the server that answers MOVED or ASK), and no other resending.
        maxRedirections: 1,
        retryDelayOnFailover: 0,
        retryDelayOnClusterDown: 0,
      },
    )
    client.on('error', report)
    client.on('node error', report)
    client.on('ready', () => checkVersion(client.nodes('master')[0], warn))
    return client
  }

  const single = { ...options, db: first.db, retryStrategy, enableOfflineQueue: false }
  const client =
    first.sentinelPrimary === undefined
      ? new Redis({ ...single, ...first.hosts[0] })
      : new Redis({
          ...single,
          Connector: sentinelConnector(
            {
              hosts: first.hosts,
              primary: first.sentinelPrimary,
              options: {
                ...omitUndefined({ username: store.sentinel?.username, password: store.sentinel?.password }),
                ...omitUndefined({ tls: options.tls }),
                // With RESP3, its lists would be maps.
                protocol: 2,
                retryStrategy: () => null,
                enableReadyCheck: false,
                connectTimeout: options.connectTimeout,
                disconnectTimeout: options.disconnectTimeout,
                // A Sentinel that accepts and stays silent must not keep the others from being asked.
                commandTimeout: SENTINEL_TIMEOUT,
              },
            },
            broken,
          ),
        })
  client.on('error', (error: Error) => report(error))
  client.on('ready', () => checkVersion(client, warn))
  return client
}

/** Warns about an old server: PEXPIRETIME, which the scripts use, needs Redis 7. */
function checkVersion(node: Redis | undefined, warn: (fields: object, message: string) => void): void {
  node?.info('server').then(
    (info) => {
      const version = /redis_version:(\S+)/.exec(info)?.[1] ?? 'unknown'
      if (Number.parseInt(version, 10) < 7)
        warn({ version }, 'the store is too old; Tidegate needs Redis 7 or newer')
    },
    () => {
      // A user without the right to ask only loses this hint.
    },
  )
}

function reconnectDelay(): number {
  return RECONNECT_MIN + Math.random() * RECONNECT_SPREAD
}

function parse(text: string): RedisAddress {
  return readRedisAddress(text, (wrong, fix) => {
    throw new Error(`an address in store.redis ${wrong}; ${fix}`)
  })!
}

function tlsOptions(tls: NonNullable<StoreAddress['tls']>): ConnectionOptions {
  const [ca, cert, key] = (['ca', 'cert', 'key'] as const).map((name) => readPem(name, tls[name]))
  return omitUndefined({ ca, cert, key, servername: tls.server_name })
}

function readPem(name: string, file: string | undefined): Buffer | undefined {
  if (file === undefined) return undefined
  try {
    return readFileSync(file)
  } catch (error) {
    throw new Error(
      `store.tls.${name} names ${file}, which the gateway cannot read (${(error as NodeJS.ErrnoException).code}); ` +
        'name a PEM file that it may read; a relative path is from where the gateway was started',
    )
  }
}

function connectionOptions(address: RedisAddress, tls: ConnectionOptions | undefined) {
  return {
    ...omitUndefined({ username: address.username, password: address.password, tls }),
    connectionName: 'tidegate',
    connectTimeout: 1000,
    disconnectTimeout: 100,
    keepAlive: 5000,
    maxLoadingRetryTime: 500,
    // A decision is sent once or not at all: a command sent again may be charged twice.
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    // If a primary has become a replica, reconnect to find the new primary by name. 1: without resending.
    reconnectOnError: (error) => (error.message.startsWith('READONLY') ? 1 : false),
  } satisfies RedisOptions
}

/**
 * Returns the name of a channel for this database. Messages are not separated by database, and two deployments on one
 * server must not hear each other.
 */
export function channelOf(store: Client, name: string): string {
  return `${name}:${store instanceof Cluster ? 0 : (store.options.db ?? 0)}`
}
