import type { Fail } from './parse-url.js'

export interface RedisServer {
  readonly host: string
  readonly port: number
}

/** Address of a store and its credentials. The password is used for connections only. */
export interface RedisAddress {
  /** One server, or the Sentinels. */
  readonly hosts: readonly RedisServer[]
  /** Name of the primary in Sentinel. */
  readonly sentinelPrimary: string | undefined
  readonly db: number
  readonly username: string | undefined
  readonly password: string | undefined
  readonly tls: boolean
}

const FORM =
  /^(?<scheme>rediss?(?:\+sentinel)?):\/\/(?:(?<user>[^:@/?#]*)(?::(?<password>[^@/?#]*))?@)?(?<hosts>[^/?#@]+)(?<path>\/[^?#]*)?$/

/**
 * Reads `redis[s]://[user:password@]host[:port][/db]`, or
 *
 * `redis[s]+sentinel://[user:password@]host[:port][,host[:port]…]/primary[/db]` for a primary that Sentinel names. User
 * and password may be percent-encoded. They are those of the Redis servers, not of the Sentinels.
 *
 * @param fail called with what is wrong, without the address, since it may contain a password
 */
export function readRedisAddress(text: string, fail: Fail): RedisAddress | undefined {
  const groups = FORM.exec(text)?.groups
  if (groups === undefined) {
    const fix = 'write redis://host:6379, or rediss:// for TLS; escape special characters as %40 and so on'
    return fail('is not the address of a Redis server', fix)
  }
  const sentinel = groups.scheme!.endsWith('+sentinel')
  const path = (groups.path ?? '').split('/').filter((part) => part !== '')
  const sentinelPrimary = sentinel ? path.shift() : undefined
  if (sentinel && sentinelPrimary === undefined) {
    const fix = 'write redis+sentinel://host:26379,other:26379/primary with its name in Sentinel'
    return fail('names Sentinels but no primary', fix)
  }
  const db = path.shift() ?? '0'
  if (!/^\d{1,4}$/.test(db) || path.length > 0) {
    const form = sentinel ? 'redis+sentinel://host:26379/primary/0' : 'redis://host:6379/0'
    return fail('ends in something that is not a database number', `write ${form}, or leave the number out`)
  }
  const names = groups.hosts!.split(',')
  if (!sentinel && names.length > 1) {
    const fix = 'write a list for a Redis Cluster, or redis+sentinel:// with the name of the primary'
    return fail('has several hosts', fix)
  }
  const hosts = names.map((host) => readServer(host, sentinel ? 26379 : 6379))
  if (hosts.includes(undefined)) {
    return fail('has a host or port that is not valid', 'write host:6379, an IPv6 address in brackets')
  }
  const [username, password] = [decode(groups.user), decode(groups.password)]
  if (username === null || password === null) {
    return fail('has a user or password with invalid percent-encoding', 'write % as %25, @ as %40')
  }
  return {
    hosts: hosts as RedisServer[],
    sentinelPrimary,
    db: Number(db),
    username,
    password,
    tls: groups.scheme!.startsWith('rediss'),
  }
}

/** Reads a node of a Cluster: a single server, which has only the first database. */
export function readClusterNode(text: string, fail: Fail): RedisAddress | undefined {
  const address = readRedisAddress(text, fail)
  if (address?.sentinelPrimary !== undefined) {
    const fix = 'write one address for all Sentinels, separated by commas, instead of a list'
    return fail('names Sentinels, in the list of the nodes of a Redis Cluster', fix)
  }
  if (address !== undefined && address.db !== 0) {
    return fail('has a database number, which a Redis Cluster does not know', 'leave the number out')
  }
  return address
}

/** Returns `host:port` of each server of a parsed address, without secrets. */
export function redisHosts(address: RedisAddress): readonly string[] {
  return address.hosts.map(({ host, port }) => `${host.includes(':') ? `[${host}]` : host}:${port}`)
}

function readServer(text: string, defaultPort: number): RedisServer | undefined {
  const parts = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/.exec(text)
  const host = parts?.[1] ?? parts?.[2]
  const port = parts?.[3] === undefined ? defaultPort : Number(parts[3])
  return host === undefined || port < 1 || port > 65535 ? undefined : { host, port }
}

/** Decodes percent-encoding; `null` if it is invalid. */
function decode(text: string | undefined): string | undefined | null {
  if (text === undefined || text === '') return undefined
  try {
    return decodeURIComponent(text)
  } catch {
    return null
  }
}
