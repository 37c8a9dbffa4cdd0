import { Cluster, Redis, type RedisOptions } from 'ioredis'
import { type Address, parseAddress } from './address.js'
import { type Log, onceASecond } from './degraded.js'
import type { Client } from './scripts.js'

export interface StoreAddress {
  /**
   * `redis[s]://[user:password@]host[:port][/db]` for one server, a list of these for a Redis Cluster, or
   * `redis+sentinel://[user:password@]host[:port][,host[:port]…]/primary[/db]` for a primary that Sentinel names.
   */
  readonly redis: string | readonly string[]
}

/** Ms, evenly spread: gateways that lost one server don't come back in one wave, and each is back well within a second. */
const RECONNECT_MIN = 100
const RECONNECT_SPREAD = 400
/** Ms: a refused password is not going to be right a moment later. */
const RECONNECT_UNAUTHORISED = 5000
const SLOTS_REFRESH_MS = 2000

/**
 * Opens the connection to the store, in the background: it is returned at once and goes on trying until it is
 * disconnected. What fails is logged, at most once a second; no address is logged with its password.
 *
 * @throws Error on an address that can't be read
 */
export function connectStore(store: StoreAddress, log: Log): Client {
  const warn = onceASecond((fields, message) => log.warn(fields, message))
  const addresses = typeof store.redis === 'string' ? [store.redis] : store.redis
  const parsed = addresses.map(parseAddress)
  const first = parsed[0]
  if (first === undefined) throw new Error('store.redis is an empty list; name at least one node')
  const cluster = typeof store.redis !== 'string'
  let unauthorised = false
  const retryStrategy = () => (unauthorised ? RECONNECT_UNAUTHORISED : reconnectDelay())
  const options = connectionOptions(first)
  const where = parsed
    .flatMap((address) => address.hosts.map(({ host, port }) => `${host}:${port}`))
    .join(',')
  const report = (error: Error, node?: string) => {
    unauthorised = /^(WRONGPASS|NOAUTH|NOPERM)/.test(error.message)
    warn({ store: node ?? where, user: first.username, error: error.message }, 'no connection to the store')
  }

  if (cluster) {
    const client = new Cluster(
      parsed.flatMap((address) => address.hosts),
      {
        redisOptions: options,
        enableOfflineQueue: false,
        // A node that is lost is tried again and stays in place, so that its own breaker can see it come back.
        clusterNodeRetryStrategy: retryStrategy,
        clusterRetryStrategy: reconnectDelay,
        slotsRefreshInterval: SLOTS_REFRESH_MS,
        // One redirection (nothing has run where MOVED and ASK come from), and no other second sending.
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

  const single = { db: first.db, retryStrategy, enableOfflineQueue: false }
  const client =
    first.sentinelPrimary === undefined
      ? new Redis({ ...options, ...single, ...first.hosts[0] })
      : new Redis({
          ...options,
          ...single,
          sentinels: [...first.hosts],
          name: first.sentinelPrimary,
          sentinelRetryStrategy: reconnectDelay,
        })
  client.on('error', (error: Error) => report(error))
  client.on('ready', () => checkVersion(client, warn))
  return client
}

/** PEXPIRETIME, which the scripts use, came with Redis 7. */
function checkVersion(node: Redis | undefined, warn: (fields: object, message: string) => void): void {
  node?.info('server').then(
    (info) => {
      const version = /redis_version:(\S+)/.exec(info)?.[1] ?? 'unknown'
      if (Number.parseInt(version, 10) < 7)
        warn({ version }, 'the store is too old; Tidegate needs Redis 7 or newer')
    },
    () => {
      // A user who may not ask loses this hint, nothing else.
    },
  )
}

function reconnectDelay(): number {
  return RECONNECT_MIN + Math.random() * RECONNECT_SPREAD
}

function connectionOptions(address: Address) {
  return {
    ...(address.username === undefined ? {} : { username: address.username }),
    ...(address.password === undefined ? {} : { password: address.password }),
    ...(address.tls ? { tls: {} } : {}),
    connectionName: 'tidegate',
    connectTimeout: 1000,
    disconnectTimeout: 100,
    keepAlive: 5000,
    maxLoadingRetryTime: 500,
    // A decision is sent once or not at all: what is sent again may be charged twice.
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    // A primary that has become a replica: connect anew, to find the primary by name. 1: without sending again.
    reconnectOnError: (error) => (error.message.startsWith('READONLY') ? 1 : false),
  } satisfies RedisOptions
}
